/* The routes: lists that change, and the table (table.c) that is published.
 *
 * The writer keeps the routes as sorted lists, builds a new table from them for each
 * change (many routes are one change), and publishes it by one pointer store. The old
 * table is freed when no pump can still look at it: each pump makes its section counter
 * odd while it may, so a table retired when a counter was even, or has moved on since,
 * is out of sight. Pumps wait for nobody; a stuck pump only delays the freeing. */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

struct route_writer {
    struct list lists[FAMILIES];
    struct routes *retired;
};

/* ---- publishing and reclaiming --------------------------------------------------- */

static void reclaim(struct fp *fp)
{
    struct routes **link = &fp->writer->retired;
    while (*link) {
        struct routes *routes = *link;
        if (out_of_sight(fp, &routes->sections)) {
            *link = routes->next;
            routes_free(routes, &fp->peers);
        } else {
            link = &routes->next;
        }
    }
}

static void publish(struct fp *fp, struct routes *routes)
{
    struct routes *old = atomic_exchange(&fp->routes, routes);
    if (old) {
        old->sections = sections_of(fp);
        old->next = fp->writer->retired;
        fp->writer->retired = old;
    }
    reclaim(fp);
}

/* Replace the lists by `fresh` (owned from here on) and publish them. 0 or -ENOMEM. */
static int replace(struct fp *fp, const struct list fresh[FAMILIES])
{
    struct list *lists = fp->writer->lists;
    struct routes *routes = routes_build(fresh, atomic_load(&fp->routes), &fp->peers);
    for (int i = 0; i < FAMILIES; i++) {
        free(routes ? lists[i].routes : fresh[i].routes);
        if (routes) lists[i] = fresh[i];
    }
    if (!routes) return -ENOMEM;
    publish(fp, routes);
    return 0;
}

/* ---- the lists -------------------------------------------------------------------- */

static int order(const struct fp_route *a, const struct fp_route *b)
{
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    if (a->high != b->high) return a->high < b->high ? -1 : 1;
    return (a->low > b->low) - (a->low < b->low);
}

/* Sorts by prefix and, among equals, by position: `mac` of a key is its position. */
static int order_key(const void *a, const void *b)
{
    const struct fp_route *x = a, *y = b;
    int by_prefix = order(x, y);
    return by_prefix ? by_prefix : (x->peer.mac > y->peer.mac) - (x->peer.mac < y->peer.mac);
}

/* A sorted copy of the routes of one version, without duplicates, the last of equals
 * kept; `routes` of the result is NULL if there is no memory. */
static struct list sorted(const struct fp_route *routes, uint32_t count,
                          enum family family)
{
    struct fp_route *keys = malloc(((size_t)count + 1) * sizeof *keys);
    if (!keys) return (struct list){0};
    uint32_t found = 0, kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (family_of(routes[i].version) != family) continue;
        keys[found] = routes[i];
        keys[found++].peer.mac = i;
    }
    qsort(keys, found, sizeof *keys, order_key);
    for (uint32_t i = 0; i < found; i++) {
        if (i + 1 < found && order(&keys[i], &keys[i + 1]) == 0) continue;
        keys[kept++] = routes[keys[i].peer.mac];
    }
    return (struct list){keys, kept};
}

static bool valid_peer(const struct fp_peer *peer)
{
    if (peer->port < 1 || peer->port > 65535 || peer->mac >> 48) return false;
    return peer->version == 6 || (peer->version == 4 && !peer->high && !(peer->low >> 32));
}

static bool valid(const struct fp_route *route)
{
    uint32_t length = route->length, low = length < 64 ? 0 : length - 64;
    if (!valid_peer(&route->peer)) return false;
    if (route->version == 4)
        return route->peer.version == 4 && length <= 32 && !route->high &&
               !(route->low >> 32) && (route->low & ~mask_of(length, 32)) == 0;
    return route->version == 6 && length <= 128 &&
           (route->low & ~mask_of(low, 64)) == 0 &&
           (route->high & ~mask_of(length < 64 ? length : 64, 64)) == 0;
}

/* Both lists with the new routes among the old ones. */
static struct list merged(const struct list *old, const struct list *fresh)
{
    struct list all = {malloc(((size_t)old->count + fresh->count + 1) *
                              sizeof *all.routes), 0};
    if (!all.routes || !fresh->routes) {
        free(all.routes);
        return (struct list){0};
    }
    for (uint32_t i = 0, j = 0; i < old->count || j < fresh->count;) {
        int which = i == old->count     ? 1
                    : j == fresh->count ? -1
                                        : order(&old->routes[i], &fresh->routes[j]);
        if (which == 0) i++;
        all.routes[all.count++] = which < 0 ? old->routes[i++] : fresh->routes[j++];
    }
    return all;
}

/* The old list without those that are gone. */
static struct list without(const struct list *old, const struct list *gone)
{
    struct list rest = {malloc(((size_t)old->count + 1) * sizeof *rest.routes), 0};
    if (!rest.routes || !gone->routes) {
        free(rest.routes);
        return (struct list){0};
    }
    for (uint32_t i = 0, next = 0; i < old->count; i++) {
        const struct fp_route *route = &old->routes[i];
        while (next < gone->count && order(&gone->routes[next], route) < 0) next++;
        if (next < gone->count && order(&gone->routes[next], route) == 0) continue;
        rest.routes[rest.count++] = *route;
    }
    return rest;
}

/* Both versions become visible together. 0 or -ENOMEM. */
static int change(struct fp *fp, const struct fp_route *routes, uint32_t count,
                  struct list (*combined)(const struct list *, const struct list *))
{
    struct list fresh[FAMILIES];
    bool complete = true;
    for (int i = 0; i < FAMILIES; i++) {
        struct list these = sorted(routes, count, (enum family)i);
        fresh[i] = combined(&fp->writer->lists[i], &these);
        complete &= fresh[i].routes != NULL;
        free(these.routes);
    }
    if (complete) return replace(fp, fresh);
    for (int i = 0; i < FAMILIES; i++) free(fresh[i].routes);
    return -ENOMEM;
}

int fp_set_routes(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!valid(&routes[i])) return -EINVAL;
    return change(fp, routes, count, merged);
}

int fp_del_routes(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    return change(fp, routes, count, without);
}

int fp_find(struct fp *fp, const uint32_t *addresses, uint32_t count,
            struct fp_found *found)
{
    /* No section: only the caller's own thread retires tables. */
    const struct routes *routes = atomic_load(&fp->routes);
    int peers = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct found one;
        bool there = routes_find(routes, 4, 0, addresses[i], &one);
        found[i] = there ? (struct fp_found){(uint32_t)one.peer.low, one.peer.port}
                         : (struct fp_found){0};
        peers += there;
    }
    return peers;
}

static void read_peer(const struct peers *peers, const struct known *slot,
                      struct fp_peer_counters *counters)
{
    struct sent *sent = sent_to(peers, slot->number);
    struct received *received = received_from(peers, slot->number);
    *counters = (struct fp_peer_counters){
        .high = slot->high, .low = slot->low, .version = slot->version,
        .tx_packets = value_of(&sent->packets), .tx_bytes = value_of(&sent->bytes),
        .rx_packets = value_of(&received->packets), .rx_bytes = value_of(&received->bytes),
        .last_seen = value_of(&received->last_seen),
    };
}

int fp_read_peers(struct fp *fp, struct fp_peer_counters *counters, uint32_t room)
{
    const struct routes *routes = atomic_load(&fp->routes);
    uint32_t found = 0;
    for (uint32_t i = 0; routes && i < peer_slots(routes); i++) {
        if (!routes->peers[i].version) continue;
        if (found < room) read_peer(&fp->peers, &routes->peers[i], &counters[found]);
        found++;
    }
    return (int)found;
}

struct route_writer *route_writer_new(void)
{
    return calloc(1, sizeof(struct route_writer));
}

void route_writer_free(struct route_writer *writer, struct peers *peers)
{
    if (!writer) return;
    while (writer->retired) {
        struct routes *next = writer->retired->next;
        routes_free(writer->retired, peers);
        writer->retired = next;
    }
    for (int i = 0; i < FAMILIES; i++) free(writer->lists[i].routes);
    free(writer);
}
