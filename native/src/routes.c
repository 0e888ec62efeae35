/* The routes: a list that changes, and the table (table.c) that is published.
 *
 * The writer keeps the routes as sorted lists, builds a new table from it for each
 * change (many routes are one change), and publishes it by one pointer store. The old
 * table is freed when no pump can still look at it: each pump makes its section counter
 * odd while it may, so a table retired when a counter was even, or has moved on since,
 * is out of sight. Pumps wait for nobody; a stuck pump only delays the freeing.
 *
 * Sequential consistency is what makes this sound: a pump enters its section and then
 * loads the pointer; the writer stores the pointer and then loads the section. If the
 * pump got the old table, the writer sees it inside. */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

struct route_writer {
    struct list lists[FAMILIES];
    struct routes *retired;
};

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

/* Replace a list by `fresh` (owned from here on) and publish it. 0 or -ENOMEM. */
static int replace(struct fp *fp, enum family family, struct list fresh)
{
    struct route_writer *writer = fp->writer;
    struct list old = writer->lists[family];
    writer->lists[family] = fresh;
    struct routes *routes = routes_build(writer->lists);
    if (!routes) writer->lists[family] = old;
    free(routes ? old.routes : fresh.routes);
    if (!routes) return -ENOMEM;
    publish(fp, routes);
    return 0;
}

/* ---- the lists -------------------------------------------------------------------- */

static int order(const struct fp_route6 *a, const struct fp_route6 *b)
{
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    if (a->high != b->high) return a->high < b->high ? -1 : 1;
    return (a->low > b->low) - (a->low < b->low);
}

/* Sorts by prefix and, among equals, by position: `address` of a key is its position. */
static int order_key(const void *a, const void *b)
{
    const struct fp_route6 *x = a, *y = b;
    int by_prefix = order(x, y);
    return by_prefix ? by_prefix : (x->address > y->address) - (x->address < y->address);
}

/* A sorted copy of `routes` without duplicates, the last of equals kept; `routes` of the
 * result is NULL if there is no memory. */
static struct list sorted(const struct fp_route6 *routes, uint32_t count)
{
    struct fp_route6 *keys = malloc(((size_t)count + 1) * sizeof *keys);
    if (!keys) return (struct list){0};
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = routes[i];
        keys[i].address = i;
    }
    qsort(keys, count, sizeof *keys, order_key);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count && order(&keys[i], &keys[i + 1]) == 0) continue;
        keys[kept++] = routes[keys[i].address];
    }
    return (struct list){keys, kept};
}

static bool valid(const struct fp_route6 *route, enum family family)
{
    uint32_t length = route->length, low = length < 64 ? 0 : length - 64;
    if (route->port < 1 || route->port > 65535) return false;
    if (family == V4) return length <= 32 && (route->low & ~mask_of(length, 32)) == 0;
    return length <= 128 && (route->low & ~mask_of(low, 64)) == 0 &&
           (route->high & ~mask_of(length < 64 ? length : 64, 64)) == 0;
}

static int set_routes(struct fp *fp, enum family family, const struct fp_route6 *routes,
                      uint32_t count)
{
    const struct list *old = &fp->writer->lists[family];
    for (uint32_t i = 0; i < count; i++)
        if (!valid(&routes[i], family)) return -EINVAL;
    struct list fresh = sorted(routes, count), merged = {0};
    merged.routes =
        malloc(((size_t)old->count + fresh.count + 1) * sizeof *merged.routes);
    if (!fresh.routes || !merged.routes) {
        free(fresh.routes);
        free(merged.routes);
        return -ENOMEM;
    }
    for (uint32_t i = 0, j = 0; i < old->count || j < fresh.count;) {
        int which = i == old->count    ? 1
                    : j == fresh.count ? -1
                                       : order(&old->routes[i], &fresh.routes[j]);
        if (which == 0) i++;
        merged.routes[merged.count++] = which < 0 ? old->routes[i++] : fresh.routes[j++];
    }
    free(fresh.routes);
    return replace(fp, family, merged);
}

static int del_routes(struct fp *fp, enum family family, const struct fp_route6 *routes,
                      uint32_t count)
{
    const struct list *old = &fp->writer->lists[family];
    struct list gone = sorted(routes, count), rest = {0};
    rest.routes = malloc(((size_t)old->count + 1) * sizeof *rest.routes);
    if (!gone.routes || !rest.routes) {
        free(gone.routes);
        free(rest.routes);
        return -ENOMEM;
    }
    for (uint32_t i = 0, next = 0; i < old->count; i++) {
        const struct fp_route6 *route = &old->routes[i];
        while (next < gone.count && order(&gone.routes[next], route) < 0) next++;
        if (next < gone.count && order(&gone.routes[next], route) == 0) continue;
        rest.routes[rest.count++] = *route;
    }
    free(gone.routes);
    return replace(fp, family, rest);
}

/* IPv4 routes in the lists' shape, through which both families take one way. */
static int change4(struct fp *fp, const struct fp_route *routes, uint32_t count,
                   int (*change)(struct fp *, enum family, const struct fp_route6 *,
                                 uint32_t))
{
    struct fp_route6 *wide = malloc(((size_t)count + 1) * sizeof *wide);
    if (!wide) return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        wide[i] = (struct fp_route6){
            0, routes[i].prefix, routes[i].length, routes[i].address, routes[i].port,
        };
    int error = change(fp, V4, wide, count);
    free(wide);
    return error;
}

int fp_set_route(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    return change4(fp, routes, count, set_routes);
}

int fp_del_route(struct fp *fp, const struct fp_route *routes, uint32_t count)
{
    return change4(fp, routes, count, del_routes);
}

int fp_set_route6(struct fp *fp, const struct fp_route6 *routes, uint32_t count)
{
    return set_routes(fp, V6, routes, count);
}

int fp_del_route6(struct fp *fp, const struct fp_route6 *routes, uint32_t count)
{
    return del_routes(fp, V6, routes, count);
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
    for (int i = 0; i < FAMILIES; i++) free(writer->lists[i].routes);
    free(writer);
}
