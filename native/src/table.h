/* The published table: built and searched by table.c, published by routes.c. */
#ifndef TABLE_H
#define TABLE_H

#include "fastpath.h"

struct list { /* of one IP version; sorted by length, then prefix */
    struct fp_route *routes;
    uint32_t count;
};

enum family { V4, V6, FAMILIES };

struct peer { /* of an IPv4 prefix: small, so that many stay in the cache */
    uint32_t address;
    uint16_t port;
    uint8_t mac[6];
    uint32_t number;
};

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

struct slot6 {
    uint64_t high, low;
    struct fp_peer peer; /* port 0: the slot is empty */
    uint32_t number;     /* the peer's */
};

struct level6 {
    uint32_t shift; /* as in struct level */
    uint64_t mask_high, mask_low;
    struct slot6 *slots;
};

struct known { /* a peer's address; small, for each burst that comes is looked up */
    uint64_t high, low;
    uint32_t version; /* 0: the slot is empty */
    uint32_t number;
};

struct routes {
    struct routes *next; /* among the retired */
    struct sections sections;
    uint32_t count;
    /* The first `count`, of the longest prefixes first. An array, for a bitmap's highest
     * bit is found by an instruction (bsr) that waits for what was in its target: it made
     * each lookup wait for the one before. */
    struct level levels[33];
    uint32_t count6;
    struct level6 levels6[129];
    struct known *peers; /* NULL: there are none */
    uint32_t peers_shift; /* as in struct level */
};

/* The first `length` of `width` bits, at most 64. */
static inline uint64_t mask_of(uint32_t length, uint32_t width)
{
    return length ? ~0ull >> (64 - width) << (width - length) : 0;
}

static inline enum family family_of(uint32_t version) { return version == 6 ? V6 : V4; }

/* The slots for peers, empty ones among them. */
static inline uint32_t peer_slots(const struct routes *routes)
{
    return routes->peers ? 1u << (32 - routes->peers_shift) : 0;
}

/* Peers that the table in sight (or NULL) knows keep their numbers. NULL if there is no
 * memory. Freed by routes_free. */
struct routes *routes_build(const struct list lists[FAMILIES], const struct routes *old,
                            struct peers *peers);

#endif
