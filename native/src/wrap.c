/* What happens to a packet on its way out, without system calls. The twin is
 * dataplane/purecore.py.
 *
 * Check the header, find the peer, take a hop, cut a superpacket, wrap. flannel's udp
 * backend has no header of its own, so a wrapped packet lies where it was read or cut;
 * VXLAN's is put into the room in front of it, and takes no hop. Either way neighbours of
 * one size to one peer are one burst already.
 *
 * The order of the checks decides which drop is counted, and what an ICMP error quotes:
 * routes come before the hop, so the quote carries the TTL as it came (U10). */
#include "watch.h"

#include <string.h>

enum { DONT_FRAGMENT = 0x4000 };

struct wrapping { /* what the frames of a call share */
    struct fp *fp;
    struct pump *pump;
    const struct routes *routes;
    struct watch *watch; /* or NULL */
    uint64_t now;
    struct fp_output *out;
};

static void answer(struct wrapping *it, const uint8_t *packet, const struct ip *ip,
                   enum icmp_error error)
{
    struct counters *counters = &it->pump->counters;
    struct fp_output *out = it->out;
    if (!icmp_answerable(packet, ip, error)) return;
    if (!icmp_allow(&it->fp->icmp_due, it->now)) {
        count(&counters->answers_limited, 1);
        return;
    }
    uint8_t *data = out->arena + out->arena_used;
    uint32_t length = icmp_answer(data, packet, ip, &it->fp->config, error);
    out->arena_used += length;
    out->frames[out->frame_count++] =
        (struct fp_frame){data, length, {0}, it->pump->number};
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
                         last->length % last->segment == 0 && last->flow == burst.flow &&
                         last->number + last->length / last->segment == burst.number &&
                         memcmp(&last->peer, &burst.peer, sizeof burst.peer) == 0;
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

/* The socket that sends a flow's packets is always the same: so they stay in order. */
static uint32_t flow_of(const struct fp *fp, const uint8_t *packet, const struct ip *ip,
                        const struct fp_peer *peer)
{
    uint32_t flows = peer->version == 6 ? fp->config.flows6 : fp->config.flows;
    return flows > 1 ? ip_flow(packet, ip) % flows : 0;
}

static void wrap_packet(struct wrapping *it, const struct fp_frame *frame,
                        const struct ip *ip, const struct fp_peer *peer)
{
    const struct fp *fp = it->fp;
    uint32_t room = headroom(fp), length = room + ip->total;
    uint8_t *data = frame->data - room;
    if (frame->vnet.flags & FP_VNET_NEEDS_CSUM) finish_checksum(frame, ip);
    if (room) vxlan_put(data, &fp->config, peer->mac, ip->version);
    append(it->out, (struct fp_burst){
        data, length, length, flow_of(fp, frame->data, ip, peer), it->pump->number, *peer,
    });
}

static void wrap_superpacket(struct wrapping *it, const struct fp_frame *frame,
                             const struct ip *ip, const struct cut *cut,
                             const struct fp_peer *peer)
{
    const struct fp *fp = it->fp;
    uint8_t *data = it->out->arena + it->out->arena_used;
    uint8_t prefix[FP_HEADROOM];
    uint32_t room = headroom(fp), size = split_size(cut, ip, room);
    if (room) vxlan_put(prefix, &fp->config, peer->mac, ip->version);
    split(data, frame->data, ip, cut, prefix, room);
    it->out->arena_used += size;
    append(it->out, (struct fp_burst){
        data, size, room + cut->headers + cut->segment,
        flow_of(fp, frame->data, ip, peer), it->pump->number, *peer,
    });
}

/* The peer that has the packet's destination. */
static bool find_destination(const struct routes *routes, const uint8_t *packet,
                             const struct ip *ip, struct found *found)
{
    if (ip->version == 4) return routes_find(routes, 4, 0, ip->destination, found);
    return routes_find(routes, 6, load64(packet + 24), load64(packet + 32), found);
}

static void count_sent(const struct fp *fp, uint32_t number, const struct ip *ip,
                       const struct cut *cut)
{
    struct sent *sent = sent_to(&fp->peers, number);
    count(&sent->packets, cut->packets);
    count(&sent->bytes, cut->packets > 1 ? split_size(cut, ip, 0) : ip->total);
}

static void drop_frame(struct wrapping *it, struct subject *subject, enum fp_drop reason,
                       uint32_t packets)
{
    count(&it->pump->counters.drops[reason], packets);
    tell_drop(subject, reason, packets);
}

/* A frame whose header is sound, and that is known to be cut so. */
static void wrap_sound(struct wrapping *it, const struct fp_frame *frame,
                       const struct ip *ip, const struct cut *cut,
                       struct subject *subject)
{
    bool takes_hop = !it->fp->config.vxlan;
    struct found found;
    if (!find_destination(it->routes, frame->data, ip, &found)) {
        drop_frame(it, subject, FP_NO_ROUTE, cut->packets);
        answer(it, frame->data, ip, NO_ROUTE_THERE);
        return;
    }
    tell_peer(subject, &found.peer);
    tell(subject, FP_ROUTED);
    if (takes_hop && ip->ttl <= 1) {
        drop_frame(it, subject, FP_TTL_EXPIRED, cut->packets);
        return;
    }
    uint32_t longest = cut->packets > 1 ? cut->headers + cut->segment : ip->total;
    if (longest > mtu_of(it->fp, ip->version)) {
        drop_frame(it, subject, FP_OVERSIZE, cut->packets);
        if (ip->fragment & DONT_FRAGMENT || ip->version == 6)
            answer(it, frame->data, ip, TOO_BIG);
        return;
    }
    end_stage(it->pump, FP_STAGE_LOOKUP);
    if (takes_hop) ip_take_hop(frame->data, ip);
    if (cut->packets > 1)
        wrap_superpacket(it, frame, ip, cut, &found.peer);
    else
        wrap_packet(it, frame, ip, &found.peer);
    count_sent(it->fp, found.number, ip, cut);
    end_stage(it->pump, FP_STAGE_SPLIT);
    if (subject->watch) subject->event.packets = cut->packets;
    tell(subject, FP_WRAPPED);
}

/* False if there is no room for the results; nothing was done then. */
static bool wrap_one(struct wrapping *it, const struct fp_frame *frame)
{
    struct ip ip;
    struct cut cut = {.packets = 1};
    struct subject subject = {.watch = NULL};
    int reason = ip_parse(frame->data, frame->length, it->fp->config.mtu6, &ip);
    if (reason < 0) reason = split_plan(frame, &ip, &cut);
    if (reason < 0) {
        uint32_t copied = cut.packets > 1 ? split_size(&cut, &ip, headroom(it->fp)) : 0;
        uint32_t answered = ip.version == 6 ? FP_MAX_ANSWER : MAX_ANSWER4;
        if (!has_room(it->out, copied > answered ? copied : answered)) {
            if (it->out->burst_count || it->out->frame_count) return false;
            /* A cut so fine that it would fill the whole arena is no cut we know. */
            reason = FP_BAD_OFFLOAD;
        }
    }
    if (it->watch)
        subject_open(&subject, it->watch, FP_TX, it->pump->number, frame->data,
                     frame->length, 0);
    tell(&subject, FP_READ);
    if (reason < 0)
        wrap_sound(it, frame, &ip, &cut, &subject);
    else
        drop_frame(it, &subject, (enum fp_drop)reason, cut.packets);
    it->pump->number += cut.packets;
    return true;
}

int fp_wrap(struct fp *fp, const struct fp_frame *frames, uint32_t total, uint64_t now,
            struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_TX];
    uint32_t done = 0;
    out->burst_count = out->frame_count = out->arena_used = 0;
    section_enter(pump);
    struct wrapping it = {
        .fp = fp,
        .pump = pump,
        .routes = atomic_load(&fp->routes),
        .watch = atomic_load(&fp->watch),
        .now = now,
        .out = out,
    };
    while (done < total && wrap_one(&it, &frames[done])) done++;
    section_leave(pump);
    end_stage(pump, FP_STAGE_LOOKUP); /* of what was dropped */
    return (int)done;
}
