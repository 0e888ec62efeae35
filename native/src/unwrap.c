/* What happens to a packet on its way in, without system calls. The twin is
 * dataplane/purecore.py.
 *
 * Check the sender, unwrap, check the header, take a hop, join to the packet before if
 * both are of one run. Only what would be dropped is looked at as a probe. The order of
 * the checks decides which drop is counted. */
#include "probe.h"
#include "watch.h"

#include <string.h>

struct unwrapping { /* what the datagrams of a call share */
    struct fp *fp;
    struct pump *pump;
    const struct routes *routes;
    struct watch *watch; /* or NULL */
    uint32_t merges;
    uint64_t now;
    bool known; /* is the sender of this burst a peer? */
    struct run run;
    struct fp_output *out;
};

struct inner { /* what was found in a datagram */
    uint8_t *packet;
    uint32_t length; /* bytes behind the datagram's headers, padding among them */
    struct ip ip;
};

/* Find the packet in a datagram. -1 if what stands before it is sound, else the fp_drop
 * that says why not. */
static int open_datagram(const struct unwrapping *it, uint8_t *datagram, uint32_t length,
                         struct inner *inner)
{
    const struct fp_config *config = &it->fp->config;
    uint32_t room = headroom(it->fp);
    if (room) {
        int reason = vxlan_check(config, datagram, length);
        if (reason >= 0) return reason;
    }
    inner->packet = datagram + room;
    inner->length = length - room;
    return -1;
}

/* The peer that has the packet's source. */
static bool find_source(const struct routes *routes, const uint8_t *packet,
                        const struct ip *ip, struct found *found)
{
    if (ip->version == 4) return routes_find(routes, 4, 0, ip->source, found);
    return routes_find(routes, 6, load64(packet + 8), load64(packet + 16), found);
}

/* Check its header, and whether it may come from that peer. -1, or the fp_drop. */
static int check_packet(const struct unwrapping *it, struct inner *inner,
                        const struct fp_peer *from)
{
    const struct fp_config *config = &it->fp->config;
    const uint8_t *packet = inner->packet;
    struct ip *ip = &inner->ip;
    int reason = ip_parse(packet, inner->length, config->mtu6, ip);
    if (reason >= 0) return reason;
    if (config->vxlan && load16(packet - 2) != (ip->version == 6 ? ETHERTYPE_IPV6
                                                                  : ETHERTYPE_IPV4))
        return FP_BAD_ETHERTYPE;
    if (!config->vxlan && ip->ttl <= 1) return FP_TTL_EXPIRED;
    if (config->peer_check < FP_CHECK_STRICT) return -1;
    struct found owner;
    bool owned = find_source(it->routes, packet, ip, &owner) &&
                 owner.peer.version == from->version && owner.peer.high == from->high &&
                 owner.peer.low == from->low;
    return owned ? -1 : FP_WRONG_SOURCE;
}

/* Begin to tell of a datagram. */
static void open_subject(const struct unwrapping *it, struct subject *subject,
                         const uint8_t *datagram, uint32_t length,
                         const struct fp_peer *from)
{
    subject->watch = NULL;
    if (!it->watch) return;
    subject_open(subject, it->watch, FP_RX, it->pump->number, datagram, length,
                 headroom(it->fp));
    if (subject->watch) subject->event.outer = 1;
    tell_peer(subject, from);
    tell(subject, FP_RECEIVED);
}

static void add_frame(struct unwrapping *it, struct fp_frame frame)
{
    it->out->frames[it->out->frame_count++] = frame;
}

static struct fp_frame *last_frame(struct fp_output *out)
{
    return out->frame_count ? &out->frames[out->frame_count - 1] : NULL;
}

/* A partial checksum: the TUN goes on with it if it has a virtio header to say so. */
static void leave_or_finish(const struct fp *fp, struct fp_frame *frame,
                            const struct ip *ip)
{
    frame->vnet = (struct fp_vnet){
        .flags = FP_VNET_NEEDS_CSUM,
        .checksum_start = (uint16_t)ip->length,
        .checksum_offset = (uint16_t)l4_checksum_offset(ip),
    };
    if (fp->config.offloads & FP_VNET) return;
    finish_checksum(frame, ip);
    frame->vnet = (struct fp_vnet){0};
}

/* Reply to a probe, if the rate allows it: false if it is none, or there is no room. */
static bool answer_probe(struct unwrapping *it, const uint8_t *datagram, uint32_t length,
                         const struct fp_peer *from)
{
    struct fp_output *out = it->out;
    uint8_t *reply = out->arena + out->arena_used;
    if (out->burst_count == out->capacity ||
        out->arena_size - out->arena_used < PROBE_BYTES)
        return false;
    if (!probe_answer(datagram, length, it->known, reply)) return false;
    struct counters *counters = &it->pump->counters;
    if (!icmp_allow(&it->fp->probe_due, it->now)) {
        count(&counters->answers_limited, 1);
        return true;
    }
    count(&counters->answers, 1);
    out->arena_used += PROBE_BYTES;
    out->bursts[out->burst_count++] =
        (struct fp_burst){reply, PROBE_BYTES, PROBE_BYTES, 0, 0, *from};
    return true;
}

/* What was merged so far is a frame: no more packets join it. */
static void end_run(struct unwrapping *it)
{
    struct fp_frame *last = last_frame(it->out);
    if (last) merge_finish(&it->run, last);
}

/* A datagram that holds no packet for us. No packet is mistaken for a probe. It has a
 * number, and those of a frame's packets follow one another: so the run ends. */
static void drop_datagram(struct unwrapping *it, struct subject *subject,
                          const uint8_t *datagram, uint32_t length,
                          const struct fp_peer *from, enum fp_drop reason)
{
    end_run(it);
    if (answer_probe(it, datagram, length, from)) return;
    count(&it->pump->counters.drops[reason], 1);
    tell_drop(subject, reason, 1);
}

/* A packet that is sound: to the run if it may be one of it, else a frame of its own. */
static void add_packet(struct unwrapping *it, const struct inner *inner,
                       struct subject *subject)
{
    const struct ip *ip = &inner->ip;
    struct pump *pump = it->pump;
    bool vxlan = it->fp->config.vxlan, partial = vxlan && is_partial(inner->packet, ip);
    if (!vxlan) ip_take_hop(inner->packet, ip);
    end_stage(pump, FP_STAGE_CHECK);
    uint32_t headers = mergeable(inner->packet, ip, it->merges);
    if (headers && !partial && !l4_sound(inner->packet, ip)) headers = 0;
    end_stage(pump, FP_STAGE_CHECKSUM);
    struct fp_frame *last = last_frame(it->out);
    if (it->merges && merge_append(&it->run, last, inner->packet, ip, headers)) {
        if (subject->watch) subject->event.into = last->number;
        tell(subject, FP_MERGED);
    } else {
        struct fp_frame frame = {inner->packet, ip->total, {0}, pump->number};
        if (partial) leave_or_finish(it->fp, &frame, ip);
        add_frame(it, frame);
    }
    end_stage(pump, FP_STAGE_MERGE);
}

static void unwrap_one(struct unwrapping *it, uint8_t *datagram, uint32_t length,
                       const struct fp_peer *from)
{
    struct inner inner;
    struct subject subject;
    open_subject(it, &subject, datagram, length, from);
    if (it->fp->config.peer_check) tell(&subject, FP_CHECKED);
    int reason = open_datagram(it, datagram, length, &inner);
    /* The pump may not have received the rest of what is too long. */
    if (reason < 0 && inner.length > largest_mtu(it->fp)) reason = FP_OVERSIZE;
    if (reason < 0) reason = check_packet(it, &inner, from);
    if (reason < 0 && inner.length > mtu_of(it->fp, inner.ip.version))
        reason = FP_OVERSIZE;
    if (reason < 0) {
        tell(&subject, FP_UNWRAPPED);
        add_packet(it, &inner, &subject);
    } else {
        drop_datagram(it, &subject, datagram, length, from, (enum fp_drop)reason);
    }
    it->pump->number++;
}

static uint32_t datagrams_in(const struct fp_burst *burst)
{
    if (burst->length == 0) return 1; /* a datagram may be empty */
    return burst->length / burst->segment + (burst->length % burst->segment != 0);
}

/* ---- superpackets of kernel peers ------------------------------------------------------
 *
 * Between containers of one machine nothing is cut and no checksum is made for the wire:
 * a kernel's VXLAN device hands over a whole superpacket as one datagram, its inner
 * checksum partial. What tells it from a burst of datagrams is that its packet's own
 * length accounts for all of it. UDP_GRO tells the inner segment size if that is UDP;
 * of TCP the kernel does not say it (net: udp_cmsg_recv), so it is cut to packets that
 * every pod takes, whatever its MTU: to those that IPv6 demands (RFC 8200 section 5). */

enum { TAKEN_BY_ALL = 1280, MAX_UDP_SEGMENTS = 128 };

static bool is_superpacket(const struct fp *fp, const struct fp_burst *burst)
{
    if (!fp->config.vxlan || burst->length < FP_HEADROOM + 20) return false;
    const uint8_t *packet = burst->data + FP_HEADROOM;
    bool v6 = packet[0] >> 4 == 6;
    uint32_t total = v6 ? IPV6_HEADER + load16(packet + 4) : load16(packet + 2);
    if (total + FP_HEADROOM != burst->length) return false;
    return burst->segment < burst->length || total > mtu_of(fp, v6 ? 6 : 4);
}

/* How it is to be cut, its headers checked before. -1, or the fp_drop that says why it
 * cannot be. */
static int plan_superpacket(const struct unwrapping *it, const struct fp_burst *burst,
                            const struct inner *inner, struct fp_frame *frame,
                            struct cut *cut)
{
    const struct ip *ip = &inner->ip;
    bool tcp = ip->protocol == TCP, told = burst->segment < burst->length;
    uint32_t offset = l4_checksum_offset(ip), mtu = mtu_of(it->fp, ip->version);
    uint32_t full = mtu < TAKEN_BY_ALL ? mtu : TAKEN_BY_ALL;
    /* TCP may be cut anywhere, UDP not. */
    if (!offset || (!told && !tcp)) return FP_OVERSIZE;
    uint32_t headers = ip->length + (tcp ? (inner->packet[ip->length + 12] >> 4) * 4u : 8);
    bool lies = !tcp && load16(inner->packet + ip->length + 4) != ip->total - ip->length;
    if (headers >= full || headers >= ip->total || lies) return FP_BAD_OFFLOAD;
    *frame = (struct fp_frame){.data = inner->packet, .length = ip->total, .vnet = {
        .flags = FP_VNET_NEEDS_CSUM,
        .gso_type = !tcp ? FP_VNET_UDP : ip->version == 6 ? FP_VNET_TCPV6 : FP_VNET_TCPV4,
        .header_length = (uint16_t)headers,
        .segment = (uint16_t)(told ? burst->segment : full - headers),
        .checksum_start = (uint16_t)ip->length,
        .checksum_offset = (uint16_t)offset,
    }, .number = it->pump->number};
    int reason = split_plan(frame, ip, cut);
    if (reason >= 0) return reason;
    if (!tcp && cut->packets > MAX_UDP_SEGMENTS) return FP_BAD_OFFLOAD;
    if (cut->headers + cut->segment > mtu && ip->total > mtu) return FP_OVERSIZE;
    return is_partial(inner->packet, ip) || l4_sound(inner->packet, ip) ? -1
                                                                         : FP_BAD_CHECKSUM;
}

/* To the TUN as packets: it takes no superpackets. False if there is no room. */
static bool add_apart(struct unwrapping *it, const struct fp_frame *frame,
                      const struct ip *ip, const struct cut *cut)
{
    struct fp_output *out = it->out;
    uint32_t size = split_size(cut, ip, 0), full = cut->headers + cut->segment;
    if (out->arena_size - out->arena_used < size ||
        out->capacity - out->frame_count < cut->packets)
        return false;
    uint8_t *data = out->arena + out->arena_used;
    split(data, frame->data, ip, cut, NULL, 0);
    out->arena_used += size;
    uint32_t number = frame->number;
    for (uint32_t at = 0; at < size; at += full, number++) {
        uint32_t left = size - at, length = left < full ? left : full;
        add_frame(it, (struct fp_frame){data + at, length, {0}, number});
    }
    return true;
}

static bool taken_whole(const struct unwrapping *it, const struct ip *ip)
{
    return it->merges & (ip->protocol == TCP ? FP_MERGE_TCP : FP_MERGE_UDP);
}

static void add_whole(struct unwrapping *it, const struct fp_frame *frame,
                      const struct ip *ip)
{
    store16(frame->data + ip->length + frame->vnet.checksum_offset,
            (uint16_t)pseudo_sum(frame->data, ip->protocol, ip->total - ip->length));
    add_frame(it, *frame);
}

/* False if there is no room for the results; nothing was done then. */
static bool unwrap_superpacket(struct unwrapping *it, const struct fp_burst *burst)
{
    struct inner inner;
    struct fp_frame frame;
    struct cut cut = {.packets = 1};
    struct subject subject;
    int reason = open_datagram(it, burst->data, burst->length, &inner);
    if (reason < 0) reason = check_packet(it, &inner, &burst->peer);
    end_stage(it->pump, FP_STAGE_CHECK);
    if (reason < 0) reason = plan_superpacket(it, burst, &inner, &frame, &cut);
    end_stage(it->pump, FP_STAGE_CHECKSUM);
    if (reason < 0 && cut.packets == 1) {
        unwrap_one(it, burst->data, burst->length, &burst->peer);
        return true;
    }
    end_run(it);
    bool whole = reason < 0 && taken_whole(it, &inner.ip);
    if (reason < 0 && !whole && !add_apart(it, &frame, &inner.ip, &cut)) {
        if (it->out->frame_count || it->out->burst_count) return false;
        reason = FP_BAD_OFFLOAD; /* so fine a cut is none we know */
    }
    open_subject(it, &subject, burst->data, burst->length, &burst->peer);
    if (it->fp->config.peer_check) tell(&subject, FP_CHECKED);
    if (subject.watch) subject.event.packets = cut.packets;
    if (whole) add_whole(it, &frame, &inner.ip); /* changed only once it was told */
    if (reason < 0) {
        tell(&subject, FP_UNWRAPPED);
    } else if (!answer_probe(it, burst->data, burst->length, &burst->peer)) {
        count(&it->pump->counters.drops[reason], cut.packets);
        tell_drop(&subject, (enum fp_drop)reason, cut.packets);
    }
    it->pump->number += cut.packets;
    return true;
}

static void drop_burst(struct unwrapping *it, const struct fp_burst *burst,
                       uint32_t datagrams)
{
    struct subject subject;
    open_subject(it, &subject, burst->data, burst->length, &burst->peer);
    count(&it->pump->counters.drops[FP_BAD_OFFLOAD], datagrams);
    tell_drop(&subject, FP_BAD_OFFLOAD, datagrams);
    it->pump->number += datagrams;
}

/* All of a stranger's are dropped, but for probes. */
static void drop_strangers(struct unwrapping *it, const struct fp_burst *burst,
                           uint32_t datagrams)
{
    for (uint32_t i = 0; i < datagrams; i++) {
        struct subject subject;
        uint32_t offset = i * burst->segment, length = burst->length - offset;
        if (datagrams > 1 && length > burst->segment) length = burst->segment;
        const uint8_t *datagram = burst->data + offset;
        open_subject(it, &subject, datagram, length, &burst->peer);
        drop_datagram(it, &subject, datagram, length, &burst->peer, FP_UNKNOWN_PEER);
        it->pump->number++;
    }
}

static void unwrap_datagrams(struct unwrapping *it, const struct fp_burst *burst)
{
    uint32_t offset = 0;
    do {
        uint32_t rest = burst->length - offset;
        uint32_t length = rest < burst->segment ? rest : burst->segment;
        unwrap_one(it, burst->data + offset, length, &burst->peer);
        offset += length;
    } while (offset < burst->length);
}

static void count_received(const struct unwrapping *it, uint32_t number,
                           const struct fp_burst *burst, uint32_t datagrams)
{
    struct received *received = received_from(&it->fp->peers, number);
    uint32_t headers = datagrams * headroom(it->fp);
    count(&received->packets, datagrams);
    /* A datagram may be too short for its headers: those of the others are there. */
    count(&received->bytes, burst->length > headers ? burst->length - headers : 0);
    set_value(&received->last_seen, it->now);
}

/* False if there is no room for the results; nothing was done then. */
static bool unwrap_burst(struct unwrapping *it, const struct fp_burst *burst)
{
    const struct fp_output *out = it->out;
    bool superpacket = is_superpacket(it->fp, burst);
    uint32_t datagrams = superpacket ? 1 : datagrams_in(burst);
    uint32_t number = routes_number(it->routes, &burst->peer);
    it->known = number != NO_PEER;
    /* Of each datagram comes a frame, or a reply to a probe. */
    if (out->capacity - out->frame_count < datagrams ||
        out->capacity - out->burst_count < datagrams) {
        if (out->frame_count || out->burst_count) return false;
        /* More than the kernel ever joins: its segment size is not to be trusted. */
        drop_burst(it, burst, datagrams);
    } else if (it->fp->config.peer_check && !it->known) {
        drop_strangers(it, burst, datagrams);
    } else if (!superpacket) {
        unwrap_datagrams(it, burst);
    } else if (!unwrap_superpacket(it, burst)) {
        return false;
    }
    if (superpacket) end_stage(it->pump, FP_STAGE_MERGE);
    if (it->known) count_received(it, number, burst, datagrams);
    return true;
}

int fp_unwrap(struct fp *fp, const struct fp_burst *bursts, uint32_t total,
              uint64_t now, struct fp_output *out)
{
    struct pump *pump = &fp->pumps[FP_RX];
    section_enter(pump);
    struct unwrapping it = {
        .fp = fp,
        .pump = pump,
        .routes = atomic_load(&fp->routes),
        .watch = atomic_load(&fp->watch),
        .merges = fp_offloads(fp) & (FP_MERGE_TCP | FP_MERGE_UDP),
        .now = now,
        .out = out,
    };
    uint32_t done = 0;
    out->burst_count = out->frame_count = out->arena_used = 0;
    while (done < total && unwrap_burst(&it, &bursts[done])) done++;
    section_leave(pump);
    end_stage(pump, FP_STAGE_CHECK); /* of what was dropped */
    end_run(&it);
    end_stage(pump, FP_STAGE_MERGE);
    return (int)done;
}
