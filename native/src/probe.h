/* Probes. Their form, with the reasons, is in encap/probe.py. */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stdint.h>

enum { PROBE_BYTES = 28 }; /* of a reply, and the least of a request */

/* Is this datagram, of at most 65535 bytes, a request? Then write the reply. `known`: it
 * came from the address of a known peer. */
bool probe_answer(const uint8_t *datagram, uint32_t length, bool known,
                  uint8_t out[PROBE_BYTES]);

#endif
