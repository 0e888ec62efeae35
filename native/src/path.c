/* What happens to a packet, without system calls. The twin is dataplane/purepath.py.
 *
 * tx: check the header, find the peer, take a hop, cut a superpacket, wrap. flannel's udp
 * backend has no header of its own, so a wrapped packet lies where it was read or cut,
 * and neighbours of one size to one peer are one burst already.
 * rx: check the header, take a hop, join to the packet before if both are of one run.
 *
 * The order of the checks decides which drop is counted, and what an ICMP error quotes:
 * routes come before the hop, so the quote carries the TTL as it came (U10). */
#include "fastpath.h"

#include <errno.h>

enum { DONT_FRAGMENT = 0x4000 };

static void answer(struct fp *fp, const uint8_t *packet, const struct ip *ip,
                   uint8_t code, uint64_t now, struct fp_output *out)
{
    struct counters *counters = &fp->pumps[FP_TX].counters;
    if (ip->version == 6) return; /* the drop is counted; nobody is told */
    if (!icmp_answerable(packet, ip, code)) return;
    if (!icmp_allow(&fp->icmp_due, now)) {
        count(&counters->answers_limited, 1);
        return;
    }
    uint8_t *data = out->arena + out->arena_used;
    uint16_t mtu = code == FRAGMENTATION_NEEDED ? (uint16_t)fp->config.mtu : 0;
    uint32_t length = icmp_unreachable(data, packet, ip, fp->config.address, code, mtu);
    out->arena_used += length;
    out->frames[out->frame_count++] = (struct fp_frame){data, length, {0}};
    count(&counters->answers, 1);
}

/* Add bytes cut every `segment`: to the last burst if they continue it, else as a burst
 * of their own. */
static void append(struct fp_output *out, struct fp_burst burst)
{
    if (out->burst_count) {
        struct fp_burst *last = &out->bursts[out->burst_count - 1];
        uint32_t first = burst.length < burst.segment ? burst.length : burst.segment;
        bool continues = last->data + last->length == burst.data &&
                         last->length % last->segment == 0 &&
                         last->address == burst.address && last->port == burst.port;
        /* Of several packets all but the last must have the run's own size. */
        bool alike = burst.segment == last->segment ||
                     (burst.length == first && first < last->segment);
        if (continues && alike) {
            last->length += burst.length;
            return;
        }
    }
    out->bursts[out->burst_count++] = burst;
}

/* Room for one frame's results? Its packets may all have to be copied. */
static bool has_room(const struct fp_output *out, uint32_t bytes)
{
    return out->burst_count < out->capacity && out->frame_count < out->capacity &&
           out->arena_size - out->arena_used >= bytes;
}

static void wrap_packet(struct fp_output *out, const struct fp_frame *frame,
                        const struct ip *ip, const struct peer *peer)
{
    if (frame->vnet.flags & FP_VNET_NEEDS_CSUM) finish_checksum(frame, ip);
    append(out, (struct fp_burst){
        frame->data, ip->total, ip->total, peer->address, peer->port,
    });
}

static void wrap_superpacket(struct fp_output *out, const struct fp_frame *frame,
                             const struct ip *ip, const struct cut *cut,
                             const struct peer *peer)
{
    uint8_t *data = out->arena + out->arena_used;
    uint32_t size = split_size(cut, ip);
    split(data, frame->data, ip, cut);
    out->arena_used += size;
    append(out, (struct fp_burst){
        data, size, cut->headers + cut->segment, peer->address, peer->port,
    });
}

static const struct peer *find_peer(const struct routes *routes, const uint8_t *packet,
                                    const struct ip *ip)
{
    return ip->version == 6 ? routes_find6(routes, load64(packet + 24), load64(packet + 32))
                            : routes_find(routes, ip->destination);
}

/* False if there is no room for the results; nothing was done then. */
static bool wrap_one(struct fp *fp, const struct routes *routes,
                     const struct fp_frame *frame, uint64_t now, struct fp_output *out)
{
    _Atomic uint64_t *drops = fp->pumps[FP_TX].counters.drops;
    struct ip ip;
    struct cut cut;
    int reason = ip_parse(frame->data, frame->length, fp->config.ipv6, &ip);
    if (reason < 0) reason = split_plan(frame, &ip, &cut);
    if (reason >= 0) {
        count(&drops[reason], 1);
        return true;
    }
    uint32_t copied = cut.packets > 1 ? split_size(&cut, &ip) : 0;
    if (!has_room(out, copied > FP_MAX_ANSWER ? copied : FP_MAX_ANSWER)) {
        /* A cut so fine that it would fill the whole arena is no cut we know. */
        if (out->burst_count || out->frame_count) return false;
        count(&drops[FP_BAD_OFFLOAD], cut.packets);
        return true;
    }
    const struct peer *peer = find_peer(routes, frame->data, &ip);
    if (!peer) {
        count(&drops[FP_NO_ROUTE], cut.packets);
        answer(fp, frame->data, &ip, NET_UNREACHABLE, now, out);
        return true;
    }
    if (ip.ttl <= 1) {
        count(&drops[FP_TTL_EXPIRED], cut.packets);
        return true;
    }
    uint32_t longest = cut.packets > 1 ? cut.headers + cut.segment : ip.total;
    if (longest > fp->config.mtu) {
        count(&drops[FP_OVERSIZE], cut.packets);
        if (ip.fragment & DONT_FRAGMENT)
            answer(fp, frame->data, &ip, FRAGMENTATION_NEEDED, now, out);
        return true;
    }
    ip_take_hop(frame->data, &ip);
    if (cut.packets > 1)
        wrap_superpacket(out, frame, &ip, &cut, peer);
    else
        wrap_packet(out, frame, &ip, peer);
    return true;
}

static void reset(struct fp_output *out)
{
    out->burst_count = out->frame_count = out->arena_used = 0;
}

int fp_wrap(struct fp *fp, const struct fp_frame *frames, uint32_t total, uint64_t now,
            struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_TX];
    uint32_t done = 0;
    reset(out);
    const struct routes *routes = routes_enter(fp, pump);
    while (done < total && wrap_one(fp, routes, &frames[done], now, out)) done++;
    routes_leave(pump);
    return (int)done;
}

static void unwrap_one(struct fp *fp, uint8_t *datagram, uint32_t length,
                       struct run *run, struct fp_output *out)
{
    _Atomic uint64_t *drops = fp->pumps[FP_RX].counters.drops;
    uint32_t merges = fp_offloads(fp) & (FP_MERGE_TCP | FP_MERGE_UDP);
    struct ip ip;
    if (length > fp->config.mtu) { /* the pump may not have received the rest */
        count(&drops[FP_OVERSIZE], 1);
        return;
    }
    int reason = ip_parse(datagram, length, fp->config.ipv6, &ip);
    if (reason < 0 && ip.ttl <= 1) reason = FP_TTL_EXPIRED;
    if (reason >= 0) {
        count(&drops[reason], 1);
        return;
    }
    ip_take_hop(datagram, &ip);
    struct fp_frame *last = out->frame_count ? &out->frames[out->frame_count - 1] : NULL;
    if (merges && merge_append(run, last, datagram, &ip, merges)) return;
    out->frames[out->frame_count++] = (struct fp_frame){datagram, ip.total, {0}};
}

static uint32_t datagrams_in(const struct fp_burst *burst)
{
    if (burst->length == 0) return 1; /* a datagram may be empty */
    return burst->length / burst->segment + (burst->length % burst->segment != 0);
}

int fp_unwrap(struct fp *fp, const struct fp_burst *bursts, uint32_t total,
              struct fp_output *out)
{
    struct run run = {0};
    uint32_t done = 0;
    reset(out);
    for (; done < total; done++) {
        const struct fp_burst *burst = &bursts[done];
        uint32_t offset = 0;
        uint32_t datagrams = datagrams_in(burst);
        if (out->capacity - out->frame_count < datagrams) {
            if (out->frame_count) break;
            /* More than the kernel ever joins: its segment size is not to be trusted. */
            count(&fp->pumps[FP_RX].counters.drops[FP_BAD_OFFLOAD], datagrams);
            continue;
        }
        do {
            uint32_t rest = burst->length - offset;
            uint32_t length = rest < burst->segment ? rest : burst->segment;
            unwrap_one(fp, burst->data + offset, length, &run, out);
            offset += length;
        } while (offset < burst->length);
    }
    if (out->frame_count) merge_finish(&run, &out->frames[out->frame_count - 1]);
    return (int)done;
}
