/* What the files of the fast path share. */
#ifndef FASTPATH_H
#define FASTPATH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* ---- packet.c: the IPv4 header ------------------------------------------------- */

struct ipv4 { /* a checked header, in host order */
    uint32_t length, total; /* bytes: of the header, of the packet without padding */
    uint32_t source, destination;
    uint16_t fragment; /* flags and offset */
    uint8_t ttl, protocol;
};

static inline uint16_t load16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void store32(uint8_t *p, uint32_t value)
{
    store16(p, (uint16_t)(value >> 16));
    store16(p + 2, (uint16_t)value);
}

/* The Internet checksum (RFC 1071), to be stored with store16. */
uint16_t checksum(const uint8_t *data, size_t length);

/* Check a header. -1 if it is sound, else the fp_drop that says why not. */
int ipv4_parse(const uint8_t *packet, uint32_t length, struct ipv4 *ip);

/* One hop less, the checksum adjusted. The TTL must be above 0. */
void ipv4_take_hop(uint8_t *packet);

/* ---- icmp.c: destination unreachable ------------------------------------------- */

enum { NET_UNREACHABLE = 0, FRAGMENTATION_NEEDED = 4 };

/* May this packet be answered with an ICMP error at all? (RFC 1812 section 4.3.2.7) */
bool icmp_answerable(const struct ipv4 *ip);

/* Write the answer to `offender`; `out` has room for FP_MAX_ANSWER. Its length. */
uint32_t icmp_unreachable(uint8_t *out, const uint8_t *offender, const struct ipv4 *ip,
                          uint32_t source, uint8_t code, uint16_t mtu);

/* Take one from the budget of errors; `due` is the limiter's whole state. */
bool icmp_allow(uint64_t *due, uint64_t now);

/* ---- routes.c: longest-prefix match -------------------------------------------- */

struct peer {
    uint32_t address;
    uint16_t port;
};

struct routes;       /* the published, immutable table */
struct route_writer; /* the list it is built from, and the tables not yet freed */

struct route_writer *route_writer_new(void);
void route_writer_free(struct route_writer *writer);

/* ---- fastpath.c: one handle ----------------------------------------------------- */

struct counters { /* one writer each; readers elsewhere */
    _Atomic uint64_t packets, bytes, answers, answers_limited, drops[FP_DROPS];
};

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

struct pump { /* one direction's own memory */
    struct counters counters;
    /* Odd while the direction may hold a pointer to the routes. */
    _Atomic uint64_t section;
    uint8_t *buffer; /* tx: frames end to end; rx: slots of slot_size */
    size_t buffer_size, slot_size;
    struct mmsghdr *messages;
    struct iovec *iovecs;
    struct sockaddr_in *addresses;
    struct fp_frame *frames;
    struct fp_burst *bursts;
    struct fp_output out;
};

struct fp {
    struct fp_config config;
    _Atomic(struct routes *) routes;
    struct route_writer *writer;
    uint64_t icmp_due; /* tx only */
    struct pump pumps[FP_DIRECTIONS];
};

/* Enter before reading fp->routes, leave when done with what was found. */
static inline const struct routes *routes_enter(struct fp *fp, struct pump *pump)
{
    atomic_fetch_add(&pump->section, 1);
    return atomic_load(&fp->routes);
}

static inline void routes_leave(struct pump *pump)
{
    atomic_fetch_add_explicit(&pump->section, 1, memory_order_release);
}

/* The peer for an address, or NULL. Borrowed until routes_leave. */
const struct peer *routes_find(const struct routes *routes, uint32_t address);

#endif
