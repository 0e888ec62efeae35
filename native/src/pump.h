/* What the files of the pumps share: those that make system calls. */
#ifndef PUMP_H
#define PUMP_H

#include "watch.h"

#include <errno.h>
#include <sys/types.h>

static inline uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static inline uint32_t packets_in(uint32_t length, uint32_t segment)
{
    return segment ? (length + segment - 1) / segment : 1;
}

static inline void forwarded(struct pump *pump, uint32_t packets, uint64_t bytes)
{
    count(&pump->counters.packets, packets);
    count(&pump->counters.bytes, bytes);
    if (pump->timed) count(&pump->counters.timed_packets, packets);
}

/* A call on the TUN has moved so many bytes, or failed. */
static inline void called_tun(struct pump *pump, ssize_t bytes)
{
    count(&pump->counters.tun_calls, 1);
    if (bytes < 0) return;
    count(&pump->counters.frames, 1);
    count(&pump->counters.frame_bytes, (uint64_t)bytes);
}

static inline void moved_message(struct pump *pump, uint64_t bytes)
{
    count(&pump->counters.messages, 1);
    count(&pump->counters.message_bytes, bytes);
}

static inline bool uses(struct fp *fp, uint32_t offload)
{
    return fp_offloads(fp) & offload;
}

static inline void give_up(struct fp *fp, uint32_t offloads)
{
    atomic_fetch_and(&fp->offloads, ~offloads);
}

/* Is somebody watching? Perhaps: ask again in a section. */
static inline bool watched(struct fp *fp)
{
    return atomic_load_explicit(&fp->watch, memory_order_relaxed);
}

/* ---- pump.c ---- */

/* True if it is worth to try again; always false once patience is used up. */
bool wait_writable(struct pump *pump, int fd);

/* ---- pump_tun.c ---- */

/* Read up to `want` frames end to end, room for headers before each. How many, or -errno
 * if not even one came; *empty tells that the TUN has no more. */
int read_frames(struct fp *fp, struct pump *pump, uint32_t want, bool *empty);

/* Write the output's frames to the TUN; 0, or -errno if the device is dead. */
int write_frames(struct fp *fp, struct pump *pump, bool counted);

/* ---- pump_wire.c ---- */

/* Send the output's bursts; each datagram is counted, forwarded or dropped. */
void send_bursts(struct fp *fp, struct pump *pump);

/* Send the output's bursts, which reply to probes, by the socket that received those. */
void send_replies(struct pump *pump, int fd);

/* Receive up to `want` bursts. How many, or -errno. */
int receive_bursts(struct pump *pump, int fd, uint32_t want);

#endif
