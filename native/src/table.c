/* Longest-prefix match for IPv4 and IPv6: the table.
 *
 * A published table is immutable. It has a level for each prefix length in use: an array
 * where the prefixes lie close together, as the subnets of a large cluster do, else a
 * hash table with open addressing and the peer inside the slot; whichever is smaller.
 * A cluster's subnets share one length, so a lookup is one step, one or two cache lines;
 * the worst case is one step for each length in use. IPv6 has hash tables only, and so
 * have the peers' own addresses, by which their numbers are found (peers.c): for the
 * sender check, and to count. */
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

/* The slot that holds the address's prefix, or the empty one where it would be. */
static struct slot6 *level6_slot(const struct level6 *level, uint64_t high, uint64_t low)
{
    uint64_t h = high & level->mask_high, l = low & level->mask_low;
    uint32_t last = ~0u >> level->shift, at = hash6(h, l, level->shift);
    while (level->slots[at].peer.port &&
           (level->slots[at].high != h || level->slots[at].low != l))
        at = (at + 1) & last;
    return &level->slots[at];
}

static bool find6(const struct routes *routes, uint64_t high, uint64_t low,
                  struct found *found)
{
    for (uint32_t i = 0; i < routes->count6; i++) {
        const struct slot6 *slot = level6_slot(&routes->levels6[i], high, low);
        if (!slot->peer.port) continue;
        *found = (struct found){slot->peer, slot->number};
        return true;
    }
    return false;
}

static bool find4(const struct routes *routes, uint32_t address, struct found *found)
{
    for (uint32_t i = 0; i < routes->count; i++) {
        const struct peer *peer = level_find(&routes->levels[i], address);
        if (!peer) continue;
        found->peer = (struct fp_peer){
            .low = peer->address,
            .mac = (uint64_t)load16(peer->mac) << 32 | load32(peer->mac + 2),
            .version = 4,
            .port = peer->port,
        };
        found->number = peer->number;
        return true;
    }
    return false;
}

bool routes_find(const struct routes *routes, uint8_t version, uint64_t high,
                 uint64_t low, struct found *found)
{
    if (!routes) return false;
    return version == 6 ? find6(routes, high, low, found)
                        : find4(routes, (uint32_t)low, found);
}

/* The slot that holds the peer, or the empty one where it would be. */
static struct known *peer_slot(const struct routes *routes, const struct fp_peer *peer)
{
    uint32_t last = ~0u >> routes->peers_shift;
    uint32_t at = hash6(peer->high, peer->low, routes->peers_shift);
    for (;; at = (at + 1) & last) {
        struct known *slot = &routes->peers[at];
        bool same = slot->low == peer->low && slot->high == peer->high &&
                    slot->version == peer->version;
        if (same || !slot->version) return slot;
    }
}

uint32_t routes_number(const struct routes *routes, const struct fp_peer *peer)
{
    const struct known *slot = routes ? peer_slot(routes, peer) : NULL;
    return slot && slot->version ? slot->number : NO_PEER;
}

/* ---- building -------------------------------------------------------------------- */

static uint32_t shift_for(uint32_t count)
{
    uint32_t bits = 1; /* at most half full, so that probes end */
    while ((1u << bits) < 2 * count) bits++;
    return 32 - bits;
}

static struct peer peer_of(const struct routes *routes, const struct fp_route *route)
{
    struct peer peer = {
        .address = (uint32_t)route->peer.low, .port = (uint16_t)route->peer.port,
        .number = routes_number(routes, &route->peer),
    };
    store16(peer.mac, (uint16_t)(route->peer.mac >> 32));
    store32(peer.mac + 2, (uint32_t)route->peer.mac);
    return peer;
}

static uint32_t key_in(const struct fp_route *route)
{
    return key_of((uint32_t)route->low, route->length);
}

static void fill_array(const struct routes *routes, struct level *level,
                       const struct fp_route *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        level->array[key_in(&list[i]) - level->first] = peer_of(routes, &list[i]);
}

static void fill_slots(const struct routes *routes, struct level *level,
                       const struct fp_route *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = key_in(&list[i]);
        uint32_t at = hash(key, level->shift);
        while (level->slots[at].peer.port) at = (at + 1) & (~0u >> level->shift);
        level->slots[at] = (struct slot){key, peer_of(routes, &list[i])};
    }
}

/* Of routes of one length, sorted. 0 or -ENOMEM. */
static int build_level(struct routes *routes, const struct fp_route *list, uint32_t count)
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
        if (level->array) fill_array(routes, level, list, count);
        return level->array ? 0 : -ENOMEM;
    }
    level->slots = calloc(slots, sizeof(struct slot));
    if (level->slots) fill_slots(routes, level, list, count);
    return level->slots ? 0 : -ENOMEM;
}

/* An empty level for so many prefixes of that length. 0 or -ENOMEM. */
static int new_level6(struct level6 *level, uint32_t length, uint32_t count)
{
    uint32_t shift = shift_for(count);
    *level = (struct level6){
        .shift = shift,
        .mask_high = mask_of(length < 64 ? length : 64, 64),
        .mask_low = mask_of(length < 64 ? 0 : length - 64, 64),
        .slots = calloc((size_t)1 << (32 - shift), sizeof(struct slot6)),
    };
    return level->slots ? 0 : -ENOMEM;
}

static int build_level6(struct routes *routes, const struct fp_route *list, uint32_t count)
{
    struct level6 *level = &routes->levels6[routes->count6++];
    int error = new_level6(level, list[0].length, count);
    for (uint32_t i = 0; i < count && !error; i++)
        *level6_slot(level, list[i].high, list[i].low) =
            (struct slot6){list[i].high, list[i].low, list[i].peer,
                           routes_number(routes, &list[i].peer)};
    return error;
}

/* Give the peer a number, if it has none: the one it had, or a new one. 0 or -ENOMEM. */
static int add_peer(struct routes *routes, const struct fp_peer *peer,
                    const struct routes *old, struct peers *peers)
{
    struct known *slot = peer_slot(routes, peer);
    if (slot->version) return 0;
    uint32_t number = routes_number(old, peer);
    if (number != NO_PEER)
        peers_hold(peers, number);
    else if (peers_take(peers, &number))
        return -ENOMEM;
    *slot = (struct known){peer->high, peer->low, peer->version, number};
    return 0;
}

/* The peers of all routes, whichever version their prefixes are of. 0 or -ENOMEM. */
static int build_peers(struct routes *routes, const struct list lists[FAMILIES],
                       const struct routes *old, struct peers *peers)
{
    routes->peers_shift = shift_for(lists[V4].count + lists[V6].count);
    routes->peers = calloc((size_t)1 << (32 - routes->peers_shift), sizeof *routes->peers);
    int error = routes->peers ? 0 : -ENOMEM;
    for (int family = 0; family < FAMILIES; family++)
        for (uint32_t i = 0; i < lists[family].count && !error; i++)
            error = add_peer(routes, &lists[family].routes[i].peer, old, peers);
    return error;
}

void routes_free(struct routes *routes, struct peers *peers)
{
    if (!routes) return;
    for (uint32_t i = 0; i < routes->count; i++) {
        free(routes->levels[i].array);
        free(routes->levels[i].slots);
    }
    for (uint32_t i = 0; i < routes->count6; i++) free(routes->levels6[i].slots);
    for (uint32_t i = 0; i < peer_slots(routes); i++)
        if (routes->peers[i].version) peers_drop(peers, routes->peers[i].number);
    free(routes->peers);
    free(routes);
}

/* The levels of one list. 0 or -ENOMEM. */
static int build_levels(struct routes *routes, const struct list *list,
                        int (*build)(struct routes *, const struct fp_route *, uint32_t))
{
    int error = 0;
    for (uint32_t end = list->count, start = end; end > 0 && !error; end = start) {
        uint32_t length = list->routes[end - 1].length;
        while (start > 0 && list->routes[start - 1].length == length) start--;
        error = build(routes, list->routes + start, end - start);
    }
    return error;
}

struct routes *routes_build(const struct list lists[FAMILIES], const struct routes *old,
                            struct peers *peers)
{
    struct routes *routes = calloc(1, sizeof *routes);
    if (!routes) return NULL;
    if (build_peers(routes, lists, old, peers) == 0 &&
        build_levels(routes, &lists[V4], build_level) == 0 &&
        build_levels(routes, &lists[V6], build_level6) == 0)
        return routes;
    routes_free(routes, peers);
    return NULL;
}
