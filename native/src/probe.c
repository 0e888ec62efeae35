/* The answer to a probe. The twin, with the reasons, is encap/probe.py.
 *
 *  0           8            16     17      18       20      28
 * +-----------+------------+------+-------+--------+-------+- - -
 * | 0         | "flprobe1" | kind | flags | length | nonce | zeros
 * +-----------+------------+------+-------+--------+-------+- - -
 */
#include "probe.h"

#include <string.h>

#include "fastpath.h"

enum { REQUEST = 1, REPLY = 2, KIND = 16, LENGTH = 18, NONCE = 20 };

static const uint8_t HEAD[KIND] = "\0\0\0\0\0\0\0\0flprobe1";

bool probe_answer(const uint8_t *datagram, uint32_t length, bool known,
                  uint8_t out[PROBE_BYTES])
{
    if (length < PROBE_BYTES || memcmp(datagram, HEAD, sizeof HEAD) != 0 ||
        datagram[KIND] != REQUEST)
        return false;
    memcpy(out, HEAD, sizeof HEAD);
    out[KIND] = REPLY;
    out[KIND + 1] = known;
    store16(out + LENGTH, (uint16_t)length);
    memcpy(out + NONCE, datagram + NONCE, PROBE_BYTES - NONCE);
    return true;
}
