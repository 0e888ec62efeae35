/* How a path must treat what it is given, the slow and obvious way, and two judges that
 * hold fp_wrap and fp_unwrap to it.
 *
 * It shares no code with the path, not even the checksum. Promised are the packets of
 * each flow in their order; between flows, and in how packets lie in bursts and frames,
 * the path is free. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/src/api.h"

enum {
    TCP = 6, UDP = 17, ICMP = 1,
    FIN = 1, PSH = 8, ACK = 16, CWR = 128,
    DONT_FRAGMENT = 0x40, /* of the octet with the flags */
    MOST = 1 << 16,       /* packets, and bytes of them, that one judgement can hold */
    BYTES = 1 << 22,
    ARENA = 1 << 18,
    FRAMES = 1024, /* frames, or bursts, that are judged at once */
};

static inline void check(bool holds)
{
    if (!holds) abort();
}

static inline uint32_t get(const uint8_t *p, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | p[i];
    return value;
}

static inline void put(uint8_t *p, int bytes, uint32_t value)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8) p[i] = (uint8_t)value;
}

/* ---- checksums ---------------------------------------------------------------------- */

/* Most of the time goes here: what it reads was copied, and so checked, before. */
__attribute__((no_sanitize("address", "undefined"))) static inline uint16_t
inverse_sum(const uint8_t *data, uint32_t length, uint32_t sum)
{
    for (uint32_t i = 0; i < length; i++) sum += i % 2 ? data[i] : data[i] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static inline uint32_t header_length(const uint8_t *packet)
{
    return (packet[0] & 0xfu) * 4;
}

static inline void put_header_checksum(uint8_t *packet)
{
    put(packet + 10, 2, 0);
    put(packet + 10, 2, inverse_sum(packet, header_length(packet), 0));
}

static inline uint32_t pseudo_header(const uint8_t *packet, uint32_t l4_length)
{
    uint32_t sum = packet[9] + l4_length;
    for (int i = 12; i < 20; i += 2) sum += get(packet + i, 2);
    return sum;
}

/* Of TCP or UDP; the packet is sound and long enough for one. */
static inline void put_l4_checksum(uint8_t *packet, uint32_t length)
{
    uint32_t header = header_length(packet), l4 = length - header;
    uint8_t *field = packet + header + (packet[9] == TCP ? 16 : 6);
    put(field, 2, 0);
    uint16_t sum = inverse_sum(packet + header, l4, pseudo_header(packet, l4));
    put(field, 2, sum == 0 && packet[9] == UDP ? 0xffff : sum);
}

/* ---- packets, and what came of them --------------------------------------------------- */

struct packets {
    uint32_t count, used, first; /* all before `first` are taken */
    struct one {
        uint8_t *data;
        uint32_t length;
        uint64_t peer;
        bool cut;   /* from a superpacket: DF's identification may differ */
        bool taken; /* found again */
    } list[MOST];
    uint8_t bytes[BYTES];
};

static struct packets wanted, given;

static inline uint8_t *add(struct packets *packets, const uint8_t *data, uint32_t length,
                           uint64_t peer, bool cut)
{
    check(packets->count < MOST && packets->used + length <= BYTES);
    uint8_t *copy = packets->bytes + packets->used;
    memcpy(copy, data, length);
    packets->list[packets->count++] = (struct one){copy, length, peer, cut, false};
    packets->used += length;
    return copy;
}

/* -1, or why not. */
static inline int unsound(const uint8_t *packet, uint32_t length)
{
    if (length < 20) return FP_SHORT;
    if (packet[0] >> 4 != 4) return FP_BAD_VERSION;
    uint32_t header = header_length(packet), total = get(packet + 2, 2);
    if (header < 20 || header > length) return FP_BAD_HEADER;
    if (total < header || total > length) return FP_BAD_LENGTH;
    return inverse_sum(packet, header, 0) == 0 ? -1 : FP_BAD_CHECKSUM;
}

static inline void take_hop(uint8_t *packet)
{
    packet[8]--;
    put_header_checksum(packet);
}

/* ---- how the kernel cuts a frame ------------------------------------------------------ */

struct plan {
    uint32_t headers, segment, packets;
};

/* -1, or why it cannot be; the packet in the frame is sound. */
static inline int plan_cut(const struct fp_frame *frame, struct plan *plan)
{
    const struct fp_vnet *vnet = &frame->vnet;
    const uint8_t *packet = frame->data;
    uint32_t header = header_length(packet), total = get(packet + 2, 2);
    *plan = (struct plan){.packets = 1};
    if (vnet->flags & FP_VNET_NEEDS_CSUM &&
        (vnet->checksum_start < header ||
         (uint32_t)vnet->checksum_start + vnet->checksum_offset + 2 > total))
        return FP_BAD_OFFLOAD;
    if (!vnet->gso_type) return -1;
    bool tcp = (vnet->gso_type & 0x7f) == FP_VNET_TCPV4;
    bool udp = (vnet->gso_type & 0x7f) == FP_VNET_UDP;
    if (!(tcp && packet[9] == TCP) && !(udp && packet[9] == UDP)) return FP_BAD_OFFLOAD;
    if (!vnet->segment || get(packet + 6, 2) & 0x3fff) return FP_BAD_OFFLOAD;
    if (total < header + (tcp ? 20 : 8)) return FP_BAD_OFFLOAD;
    uint32_t l4 = tcp ? (packet[header + 12] >> 4) * 4u : 8;
    if (total < header + l4 || (tcp && l4 < 20)) return FP_BAD_OFFLOAD;
    plan->headers = header + l4;
    plan->segment = vnet->segment;
    while (plan->packets * plan->segment < total - plan->headers) plan->packets++;
    return -1;
}

static inline void cut_one(uint8_t *packet, uint32_t length, uint32_t index,
                           uint32_t segment, bool last)
{
    uint8_t *l4 = packet + header_length(packet);
    put(packet + 2, 2, length);
    put(packet + 4, 2, get(packet + 4, 2) + index);
    put_header_checksum(packet);
    if (packet[9] == TCP) {
        put(l4 + 4, 4, get(l4 + 4, 4) + index * segment);
        if (index) l4[13] &= (uint8_t)~CWR;
        if (!last) l4[13] &= (uint8_t)~(FIN | PSH);
    } else {
        put(l4 + 4, 2, length - header_length(packet));
    }
    put_l4_checksum(packet, length);
}

/* Add what the frame stands for; it and its plan are sound. */
static inline void cut_frame(struct packets *packets, const struct fp_frame *frame,
                             const struct plan *plan, uint64_t peer)
{
    const struct fp_vnet *vnet = &frame->vnet;
    uint32_t total = get(frame->data + 2, 2);
    if (plan->packets == 1) {
        uint8_t *packet = add(packets, frame->data, total, peer, false);
        if (!(vnet->flags & FP_VNET_NEEDS_CSUM)) return;
        uint32_t start = vnet->checksum_start;
        uint16_t sum = inverse_sum(packet + start, total - start, 0);
        if (sum == 0 && packet[9] == UDP) sum = 0xffff;
        put(packet + start + vnet->checksum_offset, 2, sum);
        return;
    }
    static uint8_t packet[FP_MAX_PACKET];
    for (uint32_t i = 0; i < plan->packets; i++) {
        uint32_t at = plan->headers + i * plan->segment;
        bool last = i + 1 == plan->packets;
        uint32_t length = last ? total - at : plan->segment;
        memcpy(packet, frame->data, plan->headers);
        memcpy(packet + plan->headers, frame->data + at, length);
        cut_one(packet, plan->headers + length, i, plan->segment, last);
        add(packets, packet, plan->headers + length, peer, true);
    }
}

/* ---- were the packets given those that were wanted? ------------------------------------ */

/* Ports tell flows apart, where a packet has them; of fragments the first has. */
static inline bool same_flow(const struct one *a, const struct one *b)
{
    if (a->peer != b->peer || a->data[9] != b->data[9] ||
        memcmp(a->data + 12, b->data + 12, 8) != 0)
        return false;
    uint32_t ports[2] = {0};
    const struct one *both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        uint32_t header = header_length(both[i]->data);
        bool first = !(get(both[i]->data + 6, 2) & 0x1fff);
        if (first && both[i]->length >= header + 4)
            ports[i] = get(both[i]->data + header, 4);
    }
    return ports[0] == ports[1];
}

static inline bool equal(const struct one *want, const struct one *got)
{
    if (want->length != got->length) return false;
    bool free_identification = got->cut && want->data[6] & DONT_FRAGMENT;
    for (uint32_t i = 0; i < want->length; i++) {
        bool skipped = free_identification && (i / 2 == 2 || i / 2 == 5);
        if (want->data[i] != got->data[i] && !skipped) return false;
    }
    return true;
}

static inline void judge_packets(void)
{
    check(wanted.count == given.count);
    for (uint32_t i = 0; i < given.count; i++) {
        uint32_t at = wanted.first;
        while (at < wanted.count &&
               (wanted.list[at].taken || !same_flow(&wanted.list[at], &given.list[i])))
            at++;
        check(at < wanted.count && equal(&wanted.list[at], &given.list[i]));
        wanted.list[at].taken = true;
        while (wanted.first < wanted.count && wanted.list[wanted.first].taken)
            wanted.first++;
    }
}

static inline void reset_packets(void)
{
    wanted.count = wanted.used = wanted.first = 0;
    given.count = given.used = given.first = 0;
}

/* Room for results, small enough to be found too small. */
static inline struct fp_output results(uint32_t capacity, uint32_t arena_size)
{
    static struct fp_burst bursts[FRAMES];
    static struct fp_frame frames[FRAMES];
    static uint8_t arena[ARENA];
    check(capacity <= FRAMES && arena_size <= ARENA);
    return (struct fp_output){
        .bursts = bursts, .frames = frames, .capacity = capacity,
        .arena = arena, .arena_size = arena_size,
    };
}

static inline void judge_drops(struct fp *fp, enum fp_direction direction,
                               const struct fp_counters *before, const uint64_t *drops)
{
    struct fp_counters now;
    fp_read_counters(fp, direction, &now);
    for (int i = 0; i < FP_DROPS; i++) check(now.drops[i] - before->drops[i] == drops[i]);
}

/* ---- tx ---------------------------------------------------------------------------------- */

static const struct fp_route routes[] = {
    {0x0a050200, 24, 0xc0000202, 8285}, {0x0a050000, 16, 0xc0000203, 8286},
    {0x0a0502fe, 32, 0xc0000204, 8285}, {0x80000000, 1, 0xc0000205, 8285},
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* 0 if there is none. */
static inline uint64_t peer_of(uint32_t address)
{
    const struct fp_route *best = NULL;
    for (int i = 0; i < ROUTES; i++) {
        uint32_t shift = 32 - routes[i].length;
        bool matches = (uint64_t)address >> shift == (uint64_t)routes[i].prefix >> shift;
        if (matches && (!best || routes[i].length > best->length)) best = &routes[i];
    }
    return best ? (uint64_t)best->address << 16 | best->port : 0;
}

static inline void model_wrap(const struct fp_frame *frame, uint32_t mtu,
                              uint32_t arena_size, uint64_t *drops)
{
    struct plan plan = {.packets = 1};
    int reason = unsound(frame->data, frame->length);
    if (reason < 0) reason = plan_cut(frame, &plan);
    if (reason >= 0) {
        drops[reason]++;
        return;
    }
    uint32_t total = get(frame->data + 2, 2);
    uint64_t peer = peer_of(get(frame->data + 16, 4));
    bool cuts = plan.packets > 1;
    if (cuts && total + (plan.packets - 1) * plan.headers > arena_size)
        drops[FP_BAD_OFFLOAD] += plan.packets;
    else if (!peer)
        drops[FP_NO_ROUTE] += plan.packets;
    else if (frame->data[8] <= 1)
        drops[FP_TTL_EXPIRED] += plan.packets;
    else if ((cuts ? plan.headers + plan.segment : total) > mtu)
        drops[FP_OVERSIZE] += plan.packets;
    else {
        uint32_t next = wanted.count;
        cut_frame(&wanted, frame, &plan, peer);
        for (; next < wanted.count; next++) take_hop(wanted.list[next].data);
    }
}

static inline void judge_answer(const struct fp_frame *answer)
{
    const uint8_t *packet = answer->data;
    check(unsound(packet, answer->length) < 0 && answer->length <= FP_MAX_ANSWER);
    check(packet[9] == ICMP && packet[20] == 3 && (packet[21] == 0 || packet[21] == 4));
    check(inverse_sum(packet + 20, answer->length - 20, 0) == 0);
    check(get(packet + 16, 4) == get(packet + 28 + 12, 4)); /* to whom it quotes */
    struct fp_vnet none = {0};
    check(memcmp(&answer->vnet, &none, sizeof none) == 0);
}

/* A datagram or a drop for each packet that the frames stand for. */
static inline void judge_wrap(struct fp *fp, uint32_t mtu, struct fp_frame *frames,
                              uint32_t count, uint32_t capacity, uint32_t arena_size)
{
    static uint64_t now;
    uint64_t drops[FP_DROPS] = {0};
    struct fp_counters before, after;
    uint32_t answers = 0;
    reset_packets();
    for (uint32_t i = 0; i < count; i++)
        model_wrap(&frames[i], mtu, arena_size, drops);
    fp_read_counters(fp, FP_TX, &before);
    now += 1000000000; /* long enough for answers to be owed again */
    for (uint32_t done = 0; done < count;) {
        struct fp_output out = results(capacity, arena_size);
        int consumed = fp_wrap(fp, frames + done, count - done, now, &out);
        check(consumed > 0 && out.burst_count <= capacity && out.frame_count <= capacity);
        check(out.arena_used <= arena_size);
        done += (uint32_t)consumed;
        answers += out.frame_count;
        for (uint32_t i = 0; i < out.frame_count; i++) judge_answer(&out.frames[i]);
        for (uint32_t i = 0; i < out.burst_count; i++) {
            const struct fp_burst *burst = &out.bursts[i];
            uint64_t peer = (uint64_t)burst->address << 16 | burst->port;
            for (uint32_t at = 0; at < burst->length; at += burst->segment) {
                uint32_t left = burst->length - at;
                add(&given, burst->data + at,
                    left < burst->segment ? left : burst->segment, peer, false);
            }
        }
    }
    judge_drops(fp, FP_TX, &before, drops);
    fp_read_counters(fp, FP_TX, &after);
    check(after.answers - before.answers == answers);
    judge_packets();
}

/* ---- rx ---------------------------------------------------------------------------------- */

static inline void model_unwrap(const uint8_t *datagram, uint32_t length, uint32_t mtu,
                                uint64_t *drops)
{
    int reason = length > mtu ? FP_OVERSIZE : unsound(datagram, length);
    if (reason < 0 && datagram[8] <= 1) reason = FP_TTL_EXPIRED;
    if (reason >= 0) {
        drops[reason]++;
        return;
    }
    take_hop(add(&wanted, datagram, get(datagram + 2, 2), 0, false));
}

/* What Linux demands of a superpacket that is written to a TUN, and what we do: its
 * checksum field holds the pseudo-header's sum. */
static inline void judge_superpacket(const struct fp_frame *frame, struct plan *plan)
{
    const struct fp_vnet *vnet = &frame->vnet;
    bool tcp = vnet->gso_type == FP_VNET_TCPV4;
    check(unsound(frame->data, frame->length) < 0);
    check(get(frame->data + 2, 2) == frame->length);
    check(plan_cut(frame, plan) < 0 && plan->packets > 1);
    check(vnet->flags == FP_VNET_NEEDS_CSUM && (tcp || plan->packets <= 64));
    check(vnet->header_length == plan->headers && vnet->checksum_start == 20);
    check(vnet->checksum_offset == (tcp ? 16 : 6));
    uint32_t l4 = frame->length - 20;
    uint16_t sum = (uint16_t)~inverse_sum(NULL, 0, pseudo_header(frame->data, l4));
    check(get(frame->data + 20 + vnet->checksum_offset, 2) == sum);
    check(tcp || get(frame->data + 24, 2) == l4);
}

static inline void take_frame(const struct fp_frame *frame)
{
    struct fp_vnet none = {0};
    struct plan plan;
    if (memcmp(&frame->vnet, &none, sizeof none) == 0) {
        add(&given, frame->data, frame->length, 0, false);
    } else {
        judge_superpacket(frame, &plan);
        cut_frame(&given, frame, &plan, 0);
    }
}

/* A packet in a frame, or a drop, for each datagram. */
static inline void judge_unwrap(struct fp *fp, uint32_t mtu, const struct fp_burst *bursts,
                                uint32_t count, uint32_t capacity)
{
    uint64_t drops[FP_DROPS] = {0};
    struct fp_counters before;
    reset_packets();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = bursts[i].length, segment = bursts[i].segment, at = 0;
        uint32_t datagrams = length ? (length + segment - 1) / segment : 1;
        if (datagrams > capacity) {
            drops[FP_BAD_OFFLOAD] += datagrams;
            continue;
        }
        for (; datagrams > 1; datagrams--, at += segment)
            model_unwrap(bursts[i].data + at, segment, mtu, drops);
        model_unwrap(bursts[i].data + at, length - at, mtu, drops);
    }
    fp_read_counters(fp, FP_RX, &before);
    for (uint32_t done = 0; done < count;) {
        struct fp_output out = results(capacity, ARENA);
        int consumed = fp_unwrap(fp, bursts + done, count - done, &out);
        check(consumed > 0 && out.frame_count <= capacity && !out.burst_count);
        done += (uint32_t)consumed;
        for (uint32_t i = 0; i < out.frame_count; i++) take_frame(&out.frames[i]);
    }
    judge_drops(fp, FP_RX, &before, drops);
    judge_packets();
}

/* ---- paths --------------------------------------------------------------------------- */

static inline struct fp *new_path(uint32_t mtu, uint32_t offloads)
{
    struct fp_config config = {
        .tun_fd = -1, .udp_fd = -1, .stop_fd = -1, .mtu = mtu, .address = 0x0a050100,
        .batch = 1, .offloads = offloads,
    };
    struct fp *fp;
    check(fp_new(&config, &fp) == 0 && fp_set_route(fp, routes, ROUTES) == 0);
    return fp;
}

#endif
