/* Watching: pumps tell events (api.h), one observer reads them, and neither waits.
 *
 * Each direction has a ring of bytes of its own, with one writer, the pump, and one
 * reader. `written` and `read` only grow; where they point in the ring is their rest by
 * its size. The writer stores a record's bytes before the new `written`, and the reader
 * loads that before the bytes; so it sees whole records only. What finds no room is lost
 * and counted.
 *
 * An observer that ends is taken out of sight of the pumps as an old table of routes is
 * (routes.c): its memory is freed when both pumps have left the section in which they
 * may have seen it. */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 4 << 20 }; /* bytes, a power of two */

struct ring {
    uint8_t *bytes;
    _Atomic uint64_t written, read, lost;
};

struct watch {
    struct watch *next; /* among the retired */
    struct sections sections;
    uint32_t kinds, snap, count;
    uint64_t epoch;
    struct ring rings[FP_DIRECTIONS];
    struct fp_instruction filter[];
};

/* ---- the pumps' side ------------------------------------------------------------------ */

/* The kinds that come with the packet's bytes. */
enum {
    WITH_BYTES = 1 << FP_READ | 1 << FP_SENT | 1 << FP_RECEIVED | 1 << FP_WRITTEN |
                 1 << FP_DROPPED,
};

void subject_open(struct subject *subject, struct watch *watch,
                  enum fp_direction direction, uint32_t number, const uint8_t *data,
                  uint32_t length, uint32_t room)
{
    const uint8_t *packet = length > room ? data + room : data;
    uint32_t left = length > room ? length - room : 0;
    subject->watch = NULL;
    if (watch->count && !filter_run(watch->filter, packet, left)) return;
    *subject = (struct subject){watch, {
        .number = number,
        .packets = 1,
        .length = length,
        .direction = (uint8_t)direction,
    }, data};
}

static void put(uint8_t *ring, uint64_t at, const void *data, size_t length)
{
    size_t from = at % RING, first = RING - from;
    if (first > length) first = length;
    memcpy(ring + from, data, first);
    memcpy(ring, (const uint8_t *)data + first, length - first);
}

void subject_tell(struct subject *subject, enum fp_kind kind)
{
    struct watch *watch = subject->watch;
    struct fp_event *event = &subject->event;
    struct ring *ring = &watch->rings[event->direction];
    if (!(watch->kinds >> kind & 1)) return;
    event->kind = (uint8_t)kind;
    event->time = watch->epoch + now_ns();
    event->captured = WITH_BYTES >> kind & 1 ? event->length : 0;
    if (event->captured > watch->snap) event->captured = watch->snap;
    event->size = (uint32_t)sizeof *event + (event->captured + 7) / 8 * 8;
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    uint64_t used = written - atomic_load_explicit(&ring->read, memory_order_acquire);
    if (event->size > RING - used) {
        count(&ring->lost, 1);
        return;
    }
    put(ring->bytes, written, event, sizeof *event);
    put(ring->bytes, written + sizeof *event, subject->data, event->captured);
    atomic_store_explicit(&ring->written, written + event->size, memory_order_release);
}

/* ---- the observer's side --------------------------------------------------------------- */

static void get(const uint8_t *ring, uint64_t at, void *data, size_t length)
{
    size_t from = at % RING, first = RING - from;
    if (first > length) first = length;
    memcpy(data, ring + from, first);
    memcpy((uint8_t *)data + first, ring, length - first);
}

/* Bytes of the whole records from `at` on that fit into the room. */
static uint64_t whole_records(const struct ring *ring, uint64_t at, uint64_t end,
                              uint32_t room)
{
    uint64_t next = at;
    while (next < end) {
        struct fp_event event;
        get(ring->bytes, next, &event, sizeof event);
        if (next + event.size - at > room) break;
        next += event.size;
    }
    return next - at;
}

int fp_watched(struct fp *fp, enum fp_direction direction, uint8_t *out, uint32_t room,
               uint64_t *lost)
{
    struct watch *watch = atomic_load(&fp->watch);
    if (!watch) return -EINVAL;
    struct ring *ring = &watch->rings[direction];
    uint64_t end = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t at = atomic_load_explicit(&ring->read, memory_order_relaxed);
    if (room > RING) room = RING;
    uint64_t length = whole_records(ring, at, end, room);
    get(ring->bytes, at, out, length);
    atomic_store_explicit(&ring->read, at + length, memory_order_release);
    *lost = atomic_load_explicit(&ring->lost, memory_order_relaxed);
    return (int)length;
}

static void watch_free(struct watch *watch)
{
    for (int i = 0; i < FP_DIRECTIONS; i++) free(watch->rings[i].bytes);
    free(watch);
}

static struct watch *watch_new(const struct fp_watch *wish)
{
    size_t filter = wish->count * sizeof *wish->filter;
    struct watch *watch = calloc(1, sizeof *watch + filter);
    if (!watch) return NULL;
    watch->kinds = wish->kinds;
    watch->snap = wish->snap;
    watch->epoch = wish->epoch;
    watch->count = wish->count;
    if (filter) memcpy(watch->filter, wish->filter, filter);
    for (int i = 0; i < FP_DIRECTIONS; i++) {
        watch->rings[i].bytes = malloc(RING);
        if (watch->rings[i].bytes) continue;
        watch_free(watch);
        return NULL;
    }
    return watch;
}

static void reclaim(struct fp *fp)
{
    for (struct watch **link = &fp->watches; *link;) {
        struct watch *watch = *link;
        if (out_of_sight(fp, &watch->sections)) {
            *link = watch->next;
            watch_free(watch);
        } else {
            link = &watch->next;
        }
    }
}

int fp_watch(struct fp *fp, const struct fp_watch *wish)
{
    if (!filter_valid(wish->filter, wish->count)) return -EINVAL;
    if (atomic_load(&fp->watch)) return -EBUSY;
    reclaim(fp);
    struct watch *watch = watch_new(wish);
    if (!watch) return -ENOMEM;
    atomic_store(&fp->watch, watch);
    return 0;
}

void fp_unwatch(struct fp *fp)
{
    struct watch *watch = atomic_exchange(&fp->watch, NULL);
    if (watch) {
        watch->sections = sections_of(fp);
        watch->next = fp->watches;
        fp->watches = watch;
    }
    reclaim(fp);
}
