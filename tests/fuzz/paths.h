/* Settings of a path, its routes and its peers, and what they mean for a packet. */
#ifndef PATHS_H
#define PATHS_H

#include "packets.h"
#include "../../native/src/probe.h"

/* A request's beginning: its place for VXLAN's header, its name, its kind. */
static const uint8_t probe_head[17] = "\0\0\0\0\0\0\0\0flprobe1\1";

enum { FRONT = 22, ETHERTYPE = 20 };

#define OWN_MAC 0x02aabbccddee
#define OWN_HIGH 0xfd00000500010000
#define PEER4(host, port, mac) {0, 0xc0000200 + host, mac, 4, port}
#define PEER6(high, low, mac) {0x20010db800000000 + high, low, mac, 6, 8472}

static const struct fp_route routes[] = {
    {0, 0x0a050200, 24, 4, PEER4(2, 8285, 0x020000000002)},
    {0, 0x0a050000, 16, 4, PEER4(3, 8286, 0x0210203040a3)},
    {0, 0x0a0502fe, 32, 4, PEER4(4, 8285, 0xfe0000000004)},
    {0, 0x80000000, 1, 4, PEER4(5, 8285, 0x02ffffffffff)},
    {0xfd00000500020000, 0, 64, 6, PEER6(0, 2, 0x020000000002)},
    {0xfd00000500020000, 0xaa00000000000000, 72, 6, PEER6(1, 2, 0x020600000002)},
    {0xfd00000500020000, 0xfe, 128, 6, PEER6(0, 4, 0x020600000004)},
    {0xfd00000500000000, 0, 32, 6, PEER4(3, 8286, 0x0210203040a3)},
    {0x8000000000000000, 0, 1, 6, PEER6(0, 0xc0000202, 0x020600000005)},
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* Who sends to us: the one that has 10.5/16 and fd00:5::/32, others, and no peers at
 * all though they nearly are some. */
static const struct fp_peer senders[] = {
    PEER4(3, 8286, 0), PEER4(3, 40000, 0), PEER4(2, 8285, 0), PEER4(9, 8285, 0),
    PEER6(0, 2, 0), PEER6(1, 2, 0), PEER6(2, 2, 0), {0, 0xc0000203, 0, 6, 8472},
};
enum { SENDERS = sizeof senders / sizeof *senders };

struct path {
    struct fp *fp;
    struct fp_config config;
    uint32_t front; /* bytes before each packet of a datagram */
    bool tight;     /* little room for results */
    bool watched;   /* by an observer of all packets */
};

/* The path that two bytes choose:
 * first: 1, VXLAN; 2, IPv6; 4 and 8, the sender check; 0x10 and 0x20, offloads; the rest,
 * MTUs. Second: 3, sockets by flow over IPv4; 0xc, over IPv6; 0x20, an observer; 0x40, the
 * VNI; 0x80, little room. */
static inline const struct path *choose_path(uint8_t first, uint8_t second)
{
    static struct path paths[256];
    static uint8_t made[256];
    static const uint32_t mtus[4][2] = {{1450, 1430}, {1472, 1280}, {100, 150}, {65485, 9000}};
    static const uint32_t flows[4] = {0, 1, 3, 16}, flows6[4] = {0, 5, 1, 2};
    static const uint32_t offloads[4] = {
        0, FP_VNET, FP_VNET | FP_MERGE_TCP, FP_VNET | FP_MERGE_TCP | FP_MERGE_UDP,
    };
    struct path *path = &paths[first];
    path->tight = second & 0x80;
    second &= 0x6f;
    if (path->fp && made[first] == second) return path;
    fp_free(path->fp);
    made[first] = second;
    path->front = first & 1 ? FRONT : 0;
    path->config = (struct fp_config){
        .tun_fd = -1, .udp_fd = -1, .udp6_fd = -1, .stop_fd = -1,
        .flows = flows[second & 3], .flows6 = flows6[second >> 2 & 3],
        .mtu = mtus[first >> 6][0], .mtu6 = first & 2 ? mtus[first >> 6][1] : 0,
        .address = 0x0a050100, .high6 = OWN_HIGH, .low6 = 1,
        .batch = 1, .offloads = offloads[first >> 4 & 3],
        .peer_check = (first >> 2 & 3) % 3, .vxlan = first & 1,
        .vni = second & 0x40 ? 0xfffefd : 5, .mac = OWN_MAC,
    };
    check(fp_new(&path->config, &path->fp) == 0);
    check(fp_set_routes(path->fp, routes, ROUTES) == 0);
    path->watched = second & 0x20;
    struct fp_watch all = {.snap = 50, .kinds = (1 << FP_KINDS) - 1};
    if (path->watched) check(fp_watch(path->fp, &all) == 0);
    return path;
}

static inline uint32_t mtu_for(const struct path *path, const uint8_t *packet)
{
    return is_6(packet) ? path->config.mtu6 : path->config.mtu;
}

static inline bool has_bit(struct address address, uint32_t version, uint32_t bit)
{
    if (version == 4) bit += 96;
    return (bit < 64 ? address.high >> (63 - bit) : address.low >> (127 - bit)) & 1;
}

static inline bool covers(const struct fp_route *route, struct address address)
{
    struct address prefix = {route->high, route->low};
    for (uint32_t i = 0; i < route->length; i++)
        if (has_bit(address, route->version, i) != has_bit(prefix, route->version, i))
            return false;
    return true;
}

/* NULL if there is none. */
static inline const struct fp_peer *peer_of(const uint8_t *packet, bool source)
{
    const struct fp_route *best = NULL;
    uint32_t version = is_6(packet) ? 6 : 4;
    struct address address = read_address(packet, source);
    for (int i = 0; i < ROUTES; i++)
        if (routes[i].version == version && covers(&routes[i], address) &&
            (!best || routes[i].length > best->length))
            best = &routes[i];
    return best ? &best->peer : NULL;
}

/* On the underlay; ports are not looked at. */
static inline bool same_host(const struct fp_peer *a, const struct fp_peer *b)
{
    return a->version == b->version && a->high == b->high && a->low == b->low;
}

static inline bool is_peer(const struct fp_peer *sender)
{
    for (int i = 0; i < ROUTES; i++)
        if (same_host(&routes[i].peer, sender)) return true;
    return false;
}

/* Which socket sends it: of `flows`. */
static inline uint32_t flow_of(const uint8_t *packet, uint32_t flows)
{
    struct head head = read_head(packet);
    struct address from = read_address(packet, true), to = read_address(packet, false);
    uint64_t words = from.high ^ to.high ^ from.low ^ to.low;
    uint32_t state = (uint32_t)(words >> 32) ^ (uint32_t)words;
    bool ports = (head.protocol == TCP || head.protocol == UDP) &&
                 !(head.fragment & FRAGMENT) && head.total >= head.length + 4;
    if (ports) state ^= get(packet + head.length, 4);
    state ^= head.protocol;
    return flows < 2 ? 0 : ((state * 0x9e3779b1u) >> 16) % flows;
}

/* What stands before a packet on the wire. */
static inline void put_front(uint8_t *front, uint32_t vni, uint64_t to, uint64_t from, bool six)
{
    put(front, 4, 0x08000000);
    put(front + 4, 3, vni);
    put(front + 7, 1, 0);
    put(front + 8, 6, to);
    put(front + 14, 6, from);
    put(front + ETHERTYPE, 2, six ? 0x86dd : 0x0800);
}

/* -1, or why a datagram is not taken. */
static inline int bad_front(const struct path *path, const uint8_t *datagram, uint32_t length)
{
    if (!path->front) return -1;
    if (length < FRONT) return FP_SHORT;
    if (datagram[0] != 8 || get(datagram + 1, 3) || datagram[7]) return FP_BAD_FLAGS;
    if (get(datagram + 4, 3) != path->config.vni) return FP_WRONG_VNI;
    uint8_t own[6];
    put(own, 6, OWN_MAC);
    const uint8_t *to = datagram + 8, *from = datagram + 14, zero[6] = {0};
    if (memcmp(to, own, 6) != 0 || memcmp(from, own, 6) == 0 || memcmp(from, zero, 6) == 0 ||
        from[0] & 1)
        return FP_WRONG_MAC;
    uint32_t type = get(datagram + ETHERTYPE, 2);
    return type == 0x0800 || type == 0x86dd ? -1 : FP_BAD_ETHERTYPE;
}

#endif
