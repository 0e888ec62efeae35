/* What is counted of each peer, by a number that it has while a table knows it.
 *
 * A number is held by every table that knows the peer (table.c), those among them that
 * are retired, for a pump may still count by what it found there; it is free when the last
 * of them is. The counters of a number given again begin at 0. Only the routes' thread
 * gives and takes numbers.
 *
 * The chunks double in size, and none is moved or freed before the handle is: a pump finds
 * the counters by two loads, whatever the routes' thread is doing. */
#include "fastpath.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t *hold_of(const struct peers *peers, uint32_t number)
{
    struct place place = place_of(number);
    return &peers->chunks[place.chunk].holds[place.at];
}

/* 0 or -ENOMEM. */
static int add_chunk(struct chunk *chunk, uint32_t size)
{
    /* Both pumps count: no cache line is of both. */
    chunk->sent = aligned_alloc(CACHE_LINE, size * sizeof *chunk->sent);
    chunk->received = aligned_alloc(CACHE_LINE, size * sizeof *chunk->received);
    chunk->holds = malloc(size * sizeof *chunk->holds);
    return chunk->sent && chunk->received && chunk->holds ? 0 : -ENOMEM;
}

static void free_chunk(struct chunk *chunk)
{
    free(chunk->sent);
    free(chunk->received);
    free(chunk->holds);
    *chunk = (struct chunk){0};
}

/* One that nobody has had. 0 or -ENOMEM. */
static int new_number(struct peers *peers, uint32_t *number)
{
    struct place place = place_of(peers->count);
    if (place.chunk == CHUNKS) return -ENOMEM;
    struct chunk *chunk = &peers->chunks[place.chunk];
    if (place.at == 0 && add_chunk(chunk, FIRST_CHUNK << place.chunk)) {
        free_chunk(chunk);
        return -ENOMEM;
    }
    *number = peers->count++;
    return 0;
}

int peers_take(struct peers *peers, uint32_t *number)
{
    if (peers->free) {
        *number = peers->free - 1;
        peers->free = *hold_of(peers, *number);
    } else if (new_number(peers, number)) {
        return -ENOMEM;
    }
    *hold_of(peers, *number) = 1;
    struct sent *sent = sent_to(peers, *number);
    struct received *received = received_from(peers, *number);
    atomic_init(&sent->packets, 0);
    atomic_init(&sent->bytes, 0);
    atomic_init(&received->packets, 0);
    atomic_init(&received->bytes, 0);
    atomic_init(&received->last_seen, 0);
    return 0;
}

void peers_hold(struct peers *peers, uint32_t number) { ++*hold_of(peers, number); }

void peers_drop(struct peers *peers, uint32_t number)
{
    uint32_t *hold = hold_of(peers, number);
    if (--*hold) return;
    *hold = peers->free;
    peers->free = number + 1;
}

void peers_free(struct peers *peers)
{
    for (int i = 0; i < CHUNKS; i++) free_chunk(&peers->chunks[i]);
}
