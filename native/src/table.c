/* Longest-prefix match for IPv4 and IPv6: the table.
 *
 * A published table is immutable. It has a level for each prefix length in use: an array
 * where the prefixes lie close together, as the subnets of a large cluster do, else a
 * hash table with open addressing and the peer inside the slot; whichever is smaller.
 * A cluster's subnets share one length, so a lookup is one step, one or two cache lines;
 * the worst case is one step for each length in use. IPv6 has hash tables only. */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

/* The bits of an address that a prefix of this length is about, as a number. */
static uint32_t key_of(uint32_t address, uint32_t length)
{
    return (uint32_t)((uint64_t)address >> (32 - length));
}

/* Fibonacci hashing: keys that follow each other, as the subnets of a network do, come
 * to lie far apart (Knuth, The Art of Computer Programming 3, section 6.4). */
static uint32_t hash(uint32_t key, uint32_t shift) { return (key * 0x9e3779b1u) >> shift; }

static const struct peer *level_find(const struct level *level, uint32_t address)
{
    uint32_t key = key_of(address, level->length);
    if (level->array) {
        uint32_t at = key - level->first;
        return at < level->size && level->array[at].port ? &level->array[at] : NULL;
    }
    const struct slot *slots = level->slots;
    uint32_t last = ~0u >> level->shift;
    uint32_t i = hash(key, level->shift);
    /* No branch for the second place: it would be a guess, and often a wrong one. */
    i = (i + (slots[i].key != key)) & last;
    for (; slots[i].peer.port; i = (i + 1) & last)
        if (slots[i].key == key) return &slots[i].peer;
    return NULL;
}

/* All of both halves tells: of networks' prefixes, only few bits differ. */
static uint32_t hash6(uint64_t high, uint64_t low, uint32_t shift)
{
    uint64_t mixed = high * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 32 ^ low) * 0xd6e8feb86659fd93u;
    return (uint32_t)((mixed ^ mixed >> 32) * 0x9e3779b1u) >> shift;
}

const struct peer *routes_find6(const struct routes *routes, uint64_t high, uint64_t low)
{
    if (!routes) return NULL;
    for (uint32_t i = 0; i < routes->count6; i++) {
        const struct level6 *level = &routes->levels6[i];
        uint64_t h = high & level->mask_high, l = low & level->mask_low;
        uint32_t last = ~0u >> level->shift;
        for (uint32_t at = hash6(h, l, level->shift); level->slots[at].peer.port;
             at = (at + 1) & last)
            if (level->slots[at].high == h && level->slots[at].low == l)
                return &level->slots[at].peer;
    }
    return NULL;
}

const struct peer *routes_find(const struct routes *routes, uint32_t address)
{
    if (!routes) return NULL;
    for (uint32_t i = 0; i < routes->count; i++) {
        const struct peer *peer = level_find(&routes->levels[i], address);
        if (peer) return peer;
    }
    return NULL;
}

/* ---- building -------------------------------------------------------------------- */

static uint32_t shift_for(uint32_t count)
{
    uint32_t bits = 1; /* at most half full, so that probes end */
    while ((1u << bits) < 2 * count) bits++;
    return 32 - bits;
}

static struct peer peer_of(const struct fp_route6 *route)
{
    return (struct peer){route->address, (uint16_t)route->port};
}

static uint32_t key_in(const struct fp_route6 *route)
{
    return key_of((uint32_t)route->low, route->length);
}

static void fill_array(struct level *level, const struct fp_route6 *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        level->array[key_in(&list[i]) - level->first] = peer_of(&list[i]);
}

static void fill_slots(struct level *level, const struct fp_route6 *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = key_in(&list[i]);
        uint32_t at = hash(key, level->shift);
        while (level->slots[at].peer.port) at = (at + 1) & (~0u >> level->shift);
        level->slots[at] = (struct slot){key, peer_of(&list[i])};
    }
}

/* Of routes of one length, sorted. 0 or -ENOMEM. */
static int build_level(struct routes *routes, const struct fp_route6 *list, uint32_t count)
{
    struct level *level = &routes->levels[routes->count++];
    uint32_t first = key_in(&list[0]), shift = shift_for(count);
    uint64_t range = (uint64_t)key_in(&list[count - 1]) - first + 1;
    size_t slots = (size_t)1 << (32 - shift);
    *level = (struct level){
        .length = list[0].length, .first = first, .size = (uint32_t)range, .shift = shift,
    };
    if (range * sizeof(struct peer) <= slots * sizeof(struct slot)) {
        level->array = calloc(range, sizeof(struct peer));
        if (level->array) fill_array(level, list, count);
        return level->array ? 0 : -ENOMEM;
    }
    level->slots = calloc(slots, sizeof(struct slot));
    if (level->slots) fill_slots(level, list, count);
    return level->slots ? 0 : -ENOMEM;
}

static int build_level6(struct routes *routes, const struct fp_route6 *list, uint32_t count)
{
    struct level6 *level = &routes->levels6[routes->count6++];
    uint32_t length = list[0].length, shift = shift_for(count);
    *level = (struct level6){
        .shift = shift,
        .mask_high = mask_of(length < 64 ? length : 64, 64),
        .mask_low = mask_of(length < 64 ? 0 : length - 64, 64),
        .slots = calloc((size_t)1 << (32 - shift), sizeof(struct slot6)),
    };
    if (!level->slots) return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = hash6(list[i].high, list[i].low, shift);
        while (level->slots[at].peer.port) at = (at + 1) & (~0u >> shift);
        level->slots[at] = (struct slot6){list[i].high, list[i].low, peer_of(&list[i])};
    }
    return 0;
}

void routes_free(struct routes *routes)
{
    if (!routes) return;
    for (uint32_t i = 0; i < routes->count; i++) {
        free(routes->levels[i].array);
        free(routes->levels[i].slots);
    }
    for (uint32_t i = 0; i < routes->count6; i++) free(routes->levels6[i].slots);
    free(routes);
}

/* The levels of one list. 0 or -ENOMEM. */
static int build_levels(struct routes *routes, const struct list *list,
                        int (*build)(struct routes *, const struct fp_route6 *, uint32_t))
{
    int error = 0;
    for (uint32_t end = list->count, start = end; end > 0 && !error; end = start) {
        uint32_t length = list->routes[end - 1].length;
        while (start > 0 && list->routes[start - 1].length == length) start--;
        error = build(routes, list->routes + start, end - start);
    }
    return error;
}

struct routes *routes_build(const struct list lists[FAMILIES])
{
    struct routes *routes = calloc(1, sizeof *routes);
    if (!routes) return NULL;
    if (build_levels(routes, &lists[V4], build_level) == 0 &&
        build_levels(routes, &lists[V6], build_level6) == 0)
        return routes;
    routes_free(routes);
    return NULL;
}
