/* Watching: what happens to packets, told to one observer. */
#ifndef WATCH_H
#define WATCH_H

#include "fastpath.h"

/* ---- filter.c: which packets ---- */

/* May it be run? */
bool filter_valid(const struct fp_instruction *program, uint32_t count);

/* Does a valid program of at least one instruction take this packet? */
bool filter_run(const struct fp_instruction *program, const uint8_t *packet,
                uint32_t length);

/* ---- watch.c ---- */

struct watch; /* an observer's wishes, and the rings that it reads */

struct subject { /* what an observer is told of: a frame, or a datagram */
    struct watch *watch; /* NULL: nobody wants to hear of it */
    struct fp_event event;
    const uint8_t *data; /* event.length bytes */
};

/* Begin to tell of something of that direction, in which the packet begins after `room`
 * bytes, unless the observer does not want to hear of it. */
void subject_open(struct subject *subject, struct watch *watch,
                  enum fp_direction direction, uint32_t number, const uint8_t *data,
                  uint32_t length, uint32_t room);

void subject_tell(struct subject *subject, enum fp_kind kind);

static inline void tell(struct subject *subject, enum fp_kind kind)
{
    if (subject->watch) subject_tell(subject, kind);
}

static inline void tell_drop(struct subject *subject, enum fp_drop drop, uint32_t packets)
{
    if (!subject->watch) return;
    subject->event.drop = (uint8_t)drop;
    subject->event.packets = packets;
    subject_tell(subject, FP_DROPPED);
}

/* Say which peer the rest is about. */
static inline void tell_peer(struct subject *subject, const struct fp_peer *peer)
{
    if (!subject->watch) return;
    subject->event.high = peer->high;
    subject->event.low = peer->low;
    subject->event.version = (uint8_t)peer->version;
    subject->event.port = (uint16_t)peer->port;
}

#endif
