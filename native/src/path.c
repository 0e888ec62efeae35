/* What happens to a packet, without system calls. The twin is dataplane/purepath.py.
 *
 * tx: check the header, find the peer, take a hop, wrap. flannel's udp backend has no
 * header of its own, so a wrapped packet lies where it was read, and neighbours of one
 * size to one peer are one burst already.
 * rx: check the header, take a hop, unwrap.
 *
 * The order of the checks decides which drop is counted, and what an ICMP error quotes:
 * routes come before the hop, so the quote carries the TTL as it came (U10). */
#include "fastpath.h"

#include <errno.h>

enum { DONT_FRAGMENT = 0x4000 };

static void drop(struct pump *pump, int reason)
{
    count(&pump->counters.drops[reason], 1);
}

static void answer(struct fp *fp, const uint8_t *packet, const struct ipv4 *ip,
                   uint8_t code, uint64_t now, struct fp_output *out)
{
    struct counters *counters = &fp->pumps[FP_TX].counters;
    if (!icmp_answerable(ip)) return;
    if (!icmp_allow(&fp->icmp_due, now)) {
        count(&counters->answers_limited, 1);
        return;
    }
    uint8_t *data = out->arena + out->arena_used;
    uint16_t mtu = code == FRAGMENTATION_NEEDED ? (uint16_t)fp->config.mtu : 0;
    uint32_t length = icmp_unreachable(data, packet, ip, fp->config.address, code, mtu);
    out->arena_used += length;
    out->frames[out->frame_count++] = (struct fp_frame){data, length};
    count(&counters->answers, 1);
}

/* Add a datagram: to the last burst if it continues that, else as a burst of its own. */
static void append(struct fp_output *out, uint8_t *data, uint32_t length,
                   const struct peer *peer)
{
    if (out->burst_count) {
        struct fp_burst *last = &out->bursts[out->burst_count - 1];
        if (last->data + last->length == data && last->length % last->segment == 0 &&
            length <= last->segment && last->address == peer->address &&
            last->port == peer->port) {
            last->length += length;
            return;
        }
    }
    out->bursts[out->burst_count++] = (struct fp_burst){
        data, length, length, peer->address, peer->port,
    };
}

static void wrap_one(struct fp *fp, const struct routes *routes,
                     const struct fp_frame *frame, uint64_t now, struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_TX];
    struct ipv4 ip;
    int reason = ipv4_parse(frame->data, frame->length, &ip);
    if (reason >= 0) {
        drop(pump, reason);
        return;
    }
    const struct peer *peer = routes_find(routes, ip.destination);
    if (!peer) {
        drop(pump, FP_NO_ROUTE);
        answer(fp, frame->data, &ip, NET_UNREACHABLE, now, out);
        return;
    }
    if (ip.ttl <= 1) {
        drop(pump, FP_TTL_EXPIRED);
        return;
    }
    if (ip.total > fp->config.mtu) {
        drop(pump, FP_OVERSIZE);
        if (ip.fragment & DONT_FRAGMENT)
            answer(fp, frame->data, &ip, FRAGMENTATION_NEEDED, now, out);
        return;
    }
    ipv4_take_hop(frame->data);
    append(out, frame->data, ip.total, peer);
}

static void reset(struct fp_output *out)
{
    out->burst_count = out->frame_count = out->arena_used = 0;
}

int fp_wrap(struct fp *fp, const struct fp_frame *frames, uint32_t count, uint64_t now,
            struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_TX];
    if (out->capacity < count || out->arena_size / FP_MAX_ANSWER < count)
        return -ENOBUFS;
    reset(out);
    const struct routes *routes = routes_enter(fp, pump);
    for (uint32_t i = 0; i < count; i++) wrap_one(fp, routes, &frames[i], now, out);
    routes_leave(pump);
    return 0;
}

static void unwrap_one(struct fp *fp, uint8_t *datagram, uint32_t length,
                       struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_RX];
    struct ipv4 ip;
    if (length > fp->config.mtu) { /* the pump may not have received the rest */
        drop(pump, FP_OVERSIZE);
        return;
    }
    int reason = ipv4_parse(datagram, length, &ip);
    if (reason < 0 && ip.ttl <= 1) reason = FP_TTL_EXPIRED;
    if (reason >= 0) {
        drop(pump, reason);
        return;
    }
    ipv4_take_hop(datagram);
    out->frames[out->frame_count++] = (struct fp_frame){datagram, ip.total};
}

static uint32_t datagrams_in(const struct fp_burst *burst)
{
    if (burst->length == 0) return 1; /* a datagram may be empty */
    return burst->length / burst->segment + (burst->length % burst->segment != 0);
}

int fp_unwrap(struct fp *fp, const struct fp_burst *bursts, uint32_t count,
              struct fp_output *out)
{
    uint64_t packets = 0;
    for (uint32_t i = 0; i < count; i++) packets += datagrams_in(&bursts[i]);
    if (out->capacity < packets) return -ENOBUFS;
    reset(out);
    for (uint32_t i = 0; i < count; i++) {
        const struct fp_burst *burst = &bursts[i];
        uint32_t offset = 0;
        do {
            uint32_t rest = burst->length - offset;
            uint32_t length = rest < burst->segment ? rest : burst->segment;
            unwrap_one(fp, burst->data + offset, length, out);
            offset += length;
        } while (offset < burst->length);
    }
    return 0;
}
