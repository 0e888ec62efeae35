/* Packets, the slow and obvious way: which are sound, what a superpacket stands for, and
 * whether what was given is what was wanted.
 *
 * It shares no code with the path, not even the checksum. Promised are the packets of
 * each flow in their order; between flows, and in how packets lie in bursts and frames,
 * the path is free. */
#ifndef PACKETS_H
#define PACKETS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/src/api.h"

enum {
    TCP = 6, UDP = 17, ICMP = 1, ICMPV6 = 58,
    FIN = 1, PSH = 8, ACK = 16, CWR = 128,
    DONT_FRAGMENT = 0x4000, FRAGMENT = 0x3fff, FRAGMENT_OFFSET = 0x1fff,
    HEADER6 = 40,
    MOST = 1 << 16,       /* packets, and bytes of them, that one judgement can hold */
    BYTES = 1 << 23,
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

static inline uint64_t get8(const uint8_t *p)
{
    return (uint64_t)get(p, 4) << 32 | get(p + 4, 4);
}

static inline void put(uint8_t *p, int bytes, uint64_t value)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8) p[i] = (uint8_t)value;
}

/* ---- headers ------------------------------------------------------------------------ */

struct head {
    uint32_t version, length, total, protocol, hops, fragment;
};

static inline bool is_6(const uint8_t *packet) { return packet[0] >> 4 == 6; }

/* What its bytes say, sound or not. */
static inline struct head read_head(const uint8_t *packet)
{
    if (is_6(packet))
        return (struct head){6, HEADER6, HEADER6 + get(packet + 4, 2), packet[6], packet[7], 0};
    return (struct head){
        4, (packet[0] & 0xfu) * 4, get(packet + 2, 2), packet[9], packet[8], get(packet + 6, 2),
    };
}

/* An address: IPv4's in the low half. */
struct address {
    uint64_t high, low;
};

static inline struct address read_address(const uint8_t *packet, bool source)
{
    const uint8_t *at = packet + (is_6(packet) ? (source ? 8 : 24) : (source ? 12 : 16));
    if (is_6(packet)) return (struct address){get8(at), get8(at + 8)};
    return (struct address){0, get(at, 4)};
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

static inline void put_header_checksum(uint8_t *packet)
{
    if (is_6(packet)) return;
    put(packet + 10, 2, 0);
    put(packet + 10, 2, inverse_sum(packet, read_head(packet).length, 0));
}

/* Not folded. */
static inline uint32_t pseudo_header(const uint8_t *packet, uint32_t protocol, uint32_t l4)
{
    uint32_t sum = protocol + l4;
    int from = is_6(packet) ? 8 : 12, to = is_6(packet) ? 40 : 20;
    for (int i = from; i < to; i += 2) sum += get(packet + i, 2);
    return sum;
}

/* What stands in the field where the rest is left to hardware. */
static inline uint32_t partial_sum(const uint8_t *packet, uint32_t protocol, uint32_t l4)
{
    return (uint16_t)~inverse_sum(NULL, 0, pseudo_header(packet, protocol, l4));
}

static inline uint32_t field_of(uint32_t protocol) { return protocol == TCP ? 16 : 6; }

/* Of TCP or UDP; the packet is sound and long enough for one. */
static inline void put_l4_checksum(uint8_t *packet, uint32_t length)
{
    struct head head = read_head(packet);
    uint32_t l4 = length - head.length;
    uint8_t *field = packet + head.length + field_of(head.protocol);
    put(field, 2, 0);
    uint32_t pseudo = pseudo_header(packet, head.protocol, l4);
    uint16_t sum = inverse_sum(packet + head.length, l4, pseudo);
    put(field, 2, sum == 0 && head.protocol == UDP ? 0xffff : sum);
}

/* A whole TCP or UDP header, no fragment: so it has a checksum of its own. */
static inline bool has_checksum(const struct head *head)
{
    uint32_t l4 = head->total - head->length;
    if (head->fragment & FRAGMENT) return false;
    return (head->protocol == TCP && l4 >= 20) || (head->protocol == UDP && l4 >= 8);
}

static inline bool checksum_verifies(const uint8_t *packet, const struct head *head)
{
    uint32_t l4 = head->total - head->length;
    uint32_t pseudo = pseudo_header(packet, head->protocol, l4);
    return inverse_sum(packet + head->length, l4, pseudo) == 0;
}

static inline bool is_left_partial(const uint8_t *packet, const struct head *head)
{
    return has_checksum(head) &&
           get(packet + head->length + field_of(head->protocol), 2) ==
               partial_sum(packet, head->protocol, head->total - head->length);
}

/* ---- packets, and what came of them --------------------------------------------------- */

struct packets {
    uint32_t count, used, first; /* all before `first` are taken */
    struct one {
        uint8_t *data;
        uint32_t length, front; /* bytes before the packet itself */
        struct fp_peer peer;    /* tx: to whom, and by which socket */
        uint32_t flow;
        bool cut;   /* from a superpacket: DF's identification may differ */
        bool taken; /* found again */
    } list[MOST];
    uint8_t bytes[BYTES];
};

static struct packets wanted, given;

static inline struct one *add(struct packets *packets, const uint8_t *data, uint32_t length)
{
    check(packets->count < MOST && packets->used + length <= BYTES);
    struct one *one = &packets->list[packets->count++];
    *one = (struct one){.data = packets->bytes + packets->used, .length = length};
    memcpy(one->data, data, length);
    packets->used += length;
    return one;
}

static inline void reset_packets(void)
{
    wanted.count = wanted.used = wanted.first = 0;
    given.count = given.used = given.first = 0;
}

/* -1, or why not; IPv6 only where it is carried. */
static inline int unsound(const uint8_t *packet, uint32_t length, bool six)
{
    if (length < 20) return FP_SHORT;
    if (is_6(packet) ? !six : packet[0] >> 4 != 4) return FP_BAD_VERSION;
    if (is_6(packet) && length < HEADER6) return FP_SHORT;
    struct head head = read_head(packet);
    if (head.length < 20 || head.length > length) return FP_BAD_HEADER;
    if (head.total < head.length || head.total > length) return FP_BAD_LENGTH;
    if (is_6(packet)) /* a jumbogram? */
        return head.total == HEADER6 && head.protocol == 0 ? FP_BAD_LENGTH : -1;
    return inverse_sum(packet, head.length, 0) == 0 ? -1 : FP_BAD_CHECKSUM;
}

static inline void take_hop(uint8_t *packet)
{
    packet[is_6(packet) ? 7 : 8]--;
    put_header_checksum(packet);
}

/* ---- how the kernel cuts a frame ------------------------------------------------------ */

struct plan {
    uint32_t headers, segment, packets;
};

/* Where TCP's or UDP's payload begins; 0 if the header is not whole. */
static inline uint32_t payload_at(const uint8_t *packet, const struct head *head)
{
    if (!has_checksum(head)) return 0;
    uint32_t l4 = head->protocol == TCP ? (packet[head->length + 12] >> 4) * 4u : 8;
    bool whole = l4 >= (head->protocol == TCP ? 20 : 8) && head->length + l4 <= head->total;
    return whole ? head->length + l4 : 0;
}

/* -1, or why it cannot be; the packet in the frame is sound. */
static inline int plan_cut(const struct fp_frame *frame, struct plan *plan)
{
    const struct fp_vnet *vnet = &frame->vnet;
    struct head head = read_head(frame->data);
    *plan = (struct plan){.packets = 1};
    if (vnet->flags & FP_VNET_NEEDS_CSUM &&
        (vnet->checksum_start < head.length ||
         (uint32_t)vnet->checksum_start + vnet->checksum_offset + 2 > head.total))
        return FP_BAD_OFFLOAD;
    if (!vnet->gso_type) return -1;
    uint32_t type = vnet->gso_type & 0x7f, protocol = 0;
    if (type == (head.version == 6 ? FP_VNET_TCPV6 : FP_VNET_TCPV4)) protocol = TCP;
    if (type == FP_VNET_UDP) protocol = UDP;
    if (!protocol || protocol != head.protocol) return FP_BAD_OFFLOAD;
    plan->headers = payload_at(frame->data, &head);
    plan->segment = vnet->segment;
    if (!plan->headers || !plan->segment) return FP_BAD_OFFLOAD;
    while (plan->packets * plan->segment < head.total - plan->headers) plan->packets++;
    return -1;
}

static inline void cut_one(uint8_t *packet, uint32_t length, uint32_t index,
                           uint32_t segment, bool last)
{
    struct head head = read_head(packet);
    uint8_t *l4 = packet + head.length;
    if (head.version == 6) {
        put(packet + 4, 2, length - HEADER6);
    } else {
        put(packet + 2, 2, length);
        put(packet + 4, 2, get(packet + 4, 2) + index);
        put_header_checksum(packet);
    }
    if (head.protocol == TCP) {
        put(l4 + 4, 4, get(l4 + 4, 4) + index * segment);
        if (index) l4[13] &= (uint8_t)~CWR;
        if (!last) l4[13] &= (uint8_t)~(FIN | PSH);
    } else {
        put(l4 + 4, 2, length - head.length);
    }
    put_l4_checksum(packet, length);
}

/* Do what the frame's NEEDS_CSUM asks for; it is sound. */
static inline void finish_partial(uint8_t *packet, const struct fp_vnet *vnet)
{
    struct head head = read_head(packet);
    uint32_t start = vnet->checksum_start;
    uint16_t sum = inverse_sum(packet + start, head.total - start, 0);
    /* Behind an extension header, the place of the field tells UDP from TCP. */
    bool udp = head.protocol == UDP || (head.version == 6 && vnet->checksum_offset == 6);
    put(packet + start + vnet->checksum_offset, 2, sum == 0 && udp ? 0xffff : sum);
}

/* Add what the frame stands for; it and its plan are sound. */
static inline void cut_frame(struct packets *packets, const struct fp_frame *frame,
                             const struct plan *plan)
{
    uint32_t total = read_head(frame->data).total;
    if (plan->packets == 1) {
        struct one *one = add(packets, frame->data, total);
        if (frame->vnet.flags & FP_VNET_NEEDS_CSUM) finish_partial(one->data, &frame->vnet);
        return;
    }
    static uint8_t packet[FP_MAX_PACKET + HEADER6];
    for (uint32_t i = 0; i < plan->packets; i++) {
        uint32_t at = plan->headers + i * plan->segment;
        bool last = i + 1 == plan->packets;
        uint32_t length = last ? total - at : plan->segment;
        memcpy(packet, frame->data, plan->headers);
        memcpy(packet + plan->headers, frame->data + at, length);
        cut_one(packet, plan->headers + length, i, plan->segment, last);
        add(packets, packet, plan->headers + length)->cut = true;
    }
}

/* ---- were the packets given those that were wanted? ------------------------------------ */

/* Ports tell flows apart, where a packet has them; of fragments the first has. */
static inline bool same_flow(const struct one *a, const struct one *b)
{
    const struct one *both[2] = {a, b};
    struct head heads[2];
    uint32_t ports[2] = {0};
    for (int i = 0; i < 2; i++) {
        const uint8_t *packet = both[i]->data + both[i]->front;
        uint32_t length = both[i]->length - both[i]->front;
        struct head *head = &heads[i];
        *head = read_head(packet);
        if (!(head->fragment & FRAGMENT_OFFSET) && length >= head->length + 4)
            ports[i] = get(packet + head->length, 4);
    }
    if (heads[0].version != heads[1].version || heads[0].protocol != heads[1].protocol)
        return false;
    uint32_t at = heads[0].version == 6 ? 8 : 12, bytes = heads[0].version == 6 ? 32 : 8;
    return ports[0] == ports[1] &&
           memcmp(a->data + a->front + at, b->data + b->front + at, bytes) == 0;
}

static inline bool equal(const struct one *want, const struct one *got)
{
    if (want->length != got->length || want->flow != got->flow) return false;
    if (memcmp(&want->peer, &got->peer, sizeof want->peer) != 0) return false;
    const uint8_t *packet = want->data + want->front;
    bool free_identification =
        got->cut && !is_6(packet) && get(packet + 6, 2) & DONT_FRAGMENT;
    for (uint32_t i = 0; i < want->length; i++) {
        uint32_t word = (i - want->front) / 2;
        bool skipped = free_identification && i >= want->front && (word == 2 || word == 5);
        if (want->data[i] != got->data[i] && !skipped) return false;
    }
    return true;
}

static inline void judge_packets(void)
{
    check(wanted.count == given.count);
    for (uint32_t i = 0; i < given.count; i++) {
        check(given.list[i].length >= given.list[i].front + 20);
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

#endif
