/* Longest-prefix match for IPv4.
 *
 * A published table is immutable. It has a level for each prefix length in use: an array
 * where the prefixes lie close together, as the subnets of a large cluster do, else a
 * hash table with open addressing and the peer inside the slot; whichever is smaller.
 * A cluster's subnets share one length, so a lookup is one step, one or two cache lines;
 * the worst case is one step for each length in use.
 *
 * The writer keeps the routes as a sorted list, builds a new table from it for each
 * change (many routes are one change), and publishes it by one pointer store. The old
 * table is freed when no pump can still look at it: each pump makes its section counter
 * odd while it may, so a table retired when a counter was even, or has moved on since,
 * is out of sight. Pumps wait for nobody; a stuck pump only delays the freeing.
 *
 * Sequential consistency is what makes this sound: a pump enters its section and then
 * loads the pointer; the writer stores the pointer and then loads the section. If the
 * pump got the old table, the writer sees it inside. */
#include "fastpath.h"

#include <errno.h>
#include <stdlib.h>

struct slot {
    uint32_t key;
    struct peer peer; /* port 0: the slot is empty */
};

struct level {
    uint32_t length;
    struct peer *array; /* by key; port 0: none; or NULL */
    struct slot *slots;
    uint32_t first, size; /* the array's first key, and how many it is for */
    uint32_t shift;       /* 32 less the binary logarithm of the number of slots */
};

struct routes {
    struct routes *next; /* among the retired */
    uint64_t seen[FP_DIRECTIONS];
    uint32_t count;
    /* The first `count`, of the longest prefixes first. An array, for a bitmap's highest
     * bit is found by an instruction (bsr) that waits for what was in its target: it made
     * each lookup wait for the one before. */
    struct level levels[33];
};

struct route_writer {
    struct fp_route *list; /* sorted by length, then prefix */
    uint32_t count;
    struct routes *retired;
};

static uint32_t mask_of(uint32_t length) { return length ? ~0u << (32 - length) : 0; }

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

static void fill_array(struct level *level, const struct fp_route *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        level->array[key_of(list[i].prefix, list[i].length) - level->first] =
            (struct peer){list[i].address, (uint16_t)list[i].port};
}

static void fill_slots(struct level *level, const struct fp_route *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = key_of(list[i].prefix, list[i].length);
        uint32_t at = hash(key, level->shift);
        while (level->slots[at].peer.port) at = (at + 1) & (~0u >> level->shift);
        level->slots[at] =
            (struct slot){key, {list[i].address, (uint16_t)list[i].port}};
    }
}

/* Of routes of one length, sorted. 0 or -ENOMEM. */
static int level_build(struct level *level, const struct fp_route *list, uint32_t count)
{
    uint32_t length = list[0].length, first = key_of(list[0].prefix, length);
    uint64_t range = (uint64_t)key_of(list[count - 1].prefix, length) - first + 1;
    uint32_t shift = shift_for(count);
    size_t slots = (size_t)1 << (32 - shift);
    *level = (struct level){
        .length = length, .first = first, .size = (uint32_t)range, .shift = shift,
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

void routes_free(struct routes *routes)
{
    if (!routes) return;
    for (uint32_t i = 0; i < routes->count; i++) {
        free(routes->levels[i].array);
        free(routes->levels[i].slots);
    }
    free(routes);
}

static struct routes *build(const struct fp_route *list, uint32_t count)
{
    struct routes *routes = calloc(1, sizeof *routes);
    if (!routes) return NULL;
    for (uint32_t end = count, start = end; end > 0; end = start) {
        while (start > 0 && list[start - 1].length == list[end - 1].length) start--;
        struct level *level = &routes->levels[routes->count++];
        if (level_build(level, list + start, end - start) < 0) {
            routes_free(routes);
            return NULL;
        }
    }
    return routes;
}

/* ---- publishing and reclaiming --------------------------------------------------- */

static bool out_of_sight(struct fp *fp, const struct routes *routes)
{
    for (int i = 0; i < FP_DIRECTIONS; i++)
        if (routes->seen[i] % 2 && atomic_load(&fp->pumps[i].section) == routes->seen[i])
            return false;
    return true;
}

static void reclaim(struct fp *fp)
{
    struct routes **link = &fp->writer->retired;
    while (*link) {
        struct routes *routes = *link;
        if (out_of_sight(fp, routes)) {
            *link = routes->next;
            routes_free(routes);
        } else {
            link = &routes->next;
        }
    }
}

static void publish(struct fp *fp, struct routes *routes)
{
    struct routes *old = atomic_exchange(&fp->routes, routes);
    if (old) {
        for (int i = 0; i < FP_DIRECTIONS; i++)
            old->seen[i] = atomic_load(&fp->pumps[i].section);
        old->next = fp->writer->retired;
        fp->writer->retired = old;
    }
    reclaim(fp);
}

/* Replace the list by `list` (owned from here on) and publish it. 0 or -ENOMEM. */
static int replace(struct fp *fp, struct fp_route *list, uint32_t count)
{
    struct routes *routes = build(list, count);
    if (!routes) {
        free(list);
        return -ENOMEM;
    }
    free(fp->writer->list);
    fp->writer->list = list;
    fp->writer->count = count;
    publish(fp, routes);
    return 0;
}

/* ---- the list --------------------------------------------------------------------- */

static int order(const struct fp_route *a, const struct fp_route *b)
{
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return (a->prefix > b->prefix) - (a->prefix < b->prefix);
}

/* Sorts by prefix and, among equals, by position: `address` of a key is its position. */
static int order_key(const void *a, const void *b)
{
    const struct fp_route *x = a, *y = b;
    int by_prefix = order(x, y);
    return by_prefix ? by_prefix : (x->address > y->address) - (x->address < y->address);
}

/* A sorted copy of `routes` without duplicates, the last of equals kept; NULL if there
 * is no memory. *count becomes the number left. */
static struct fp_route *sorted(const struct fp_route *routes, uint32_t *count)
{
    struct fp_route *keys = malloc((size_t)(*count + 1) * sizeof *keys);
    if (!keys) return NULL;
    for (uint32_t i = 0; i < *count; i++) {
        keys[i] = routes[i];
        keys[i].address = i;
    }
    qsort(keys, *count, sizeof *keys, order_key);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        if (i + 1 < *count && order(&keys[i], &keys[i + 1]) == 0) continue;
        keys[kept++] = routes[keys[i].address];
    }
    *count = kept;
    return keys;
}

static bool valid(const struct fp_route *route)
{
    return route->length <= 32 && (route->prefix & ~mask_of(route->length)) == 0 &&
           route->port >= 1 && route->port <= 65535;
}

int fp_set_route(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    const struct route_writer *writer = fp->writer;
    for (uint32_t i = 0; i < count; i++)
        if (!valid(&routes[i])) return -EINVAL;
    struct fp_route *fresh = sorted(routes, &count);
    struct fp_route *merged =
        malloc(((size_t)writer->count + count + 1) * sizeof *merged);
    if (!fresh || !merged) {
        free(fresh);
        free(merged);
        return -ENOMEM;
    }
    uint32_t old = 0, new = 0, total = 0;
    while (old < writer->count || new < count) {
        int which = old == writer->count ? 1
                    : new == count       ? -1
                                         : order(&writer->list[old], &fresh[new]);
        if (which == 0) old++;
        merged[total++] = which < 0 ? writer->list[old++] : fresh[new++];
    }
    free(fresh);
    return replace(fp, merged, total);
}

int fp_del_route(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    const struct route_writer *writer = fp->writer;
    struct fp_route *gone = sorted(routes, &count);
    struct fp_route *rest = malloc(((size_t)writer->count + 1) * sizeof *rest);
    if (!gone || !rest) {
        free(gone);
        free(rest);
        return -ENOMEM;
    }
    uint32_t total = 0, next = 0;
    for (uint32_t i = 0; i < writer->count; i++) {
        while (next < count && order(&gone[next], &writer->list[i]) < 0) next++;
        if (next < count && order(&gone[next], &writer->list[i]) == 0) continue;
        rest[total++] = writer->list[i];
    }
    free(gone);
    return replace(fp, rest, total);
}

int fp_find(struct fp *fp, const uint32_t *addresses, uint32_t count,
            struct fp_peer *peers)
{
    /* No section: only the caller's own thread retires tables. */
    const struct routes *routes = atomic_load(&fp->routes);
    int found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *peer = routes_find(routes, addresses[i]);
        peers[i] = peer ? (struct fp_peer){peer->address, peer->port}
                        : (struct fp_peer){0};
        found += peer != NULL;
    }
    return found;
}

struct route_writer *route_writer_new(void)
{
    return calloc(1, sizeof(struct route_writer));
}

void route_writer_free(struct route_writer *writer)
{
    if (!writer) return;
    while (writer->retired) {
        struct routes *next = writer->retired->next;
        routes_free(writer->retired);
        writer->retired = next;
    }
    free(writer->list);
    free(writer);
}
