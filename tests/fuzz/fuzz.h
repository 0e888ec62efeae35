/* Packets made from a fuzzer's bytes.
 *
 * Bytes alone hardly ever are a packet, less a run of them. So the bytes are read as a
 * program: each step sends the next packet of one of four flows, and may first change
 * something, of the flow from now on or of this packet alone. */
#ifndef FUZZ_H
#define FUZZ_H

#include "model.h"

struct input {
    const uint8_t *at, *end;
};

static inline bool more(const struct input *input) { return input->at < input->end; }

static inline uint8_t take(struct input *input) { return more(input) ? *input->at++ : 0; }

static inline uint16_t take2(struct input *input)
{
    uint16_t high = take(input);
    return (uint16_t)(high << 8 | take(input));
}

struct flow {
    bool six;
    uint8_t protocol, tos, ttl, options; /* of TCP, in words */
    uint8_t flags, ip_options, padding, reserved, filler; /* filler of options */
    uint8_t extension, label, source, destination, sender; /* the last three: places */
    uint16_t identification, fragment, port, window, size, urgent;
    uint32_t sequence, acknowledged;
    int change;    /* to the packet once made, of enum change */
    uint8_t where; /* an operand of it */
};

/* The bits of `six` say which flows begin with IPv6. */
static inline void start_flows(struct flow flows[4], uint8_t six)
{
    for (uint16_t i = 0; i < 4; i++)
        flows[i] = (struct flow){
            .six = six >> (i / 2) & 1, .protocol = i == 3 ? UDP : TCP, .ttl = 64, .flags = ACK,
            .fragment = i == 1 ? 0 : DONT_FRAGMENT, .port = (uint16_t)(4000 + i / 2),
            .window = 500, .size = 100, .acknowledged = 77, .destination = i == 2 ? 6 : 0,
        };
}

/* A flow's changes come first, then those of one packet; then both again. */
enum change {
    TOS, TTL, ACKNOWLEDGED, WINDOW, OPTIONS, FILLER, IDENTITY, PROTOCOL, LONG, SHORT,
    SEQUENCE, WRAP_SEQUENCE, WRAP_IDENTITY, PORT, DESTINATION, MAY_FRAGMENT, FLAGS, RESERVED,
    ONCE, FLAG = ONCE, FRAGMENTS, FRAGMENT_AT, SIZE, URGENT, IP_OPTIONS, PADDING,
    FLIP, FLIP_AND_FIX, NO_CHECKSUM, ZERO_CHECKSUM, LIE, LIE_OF_UDP, HEADER_SUM, CORRUPT,
    VERSION, LABEL, SOURCE, SENDER, LASTING, /* a flow's */
    JUMBO = LASTING, PARTIAL, FRONT_BIT,
    CHANGES
};

static inline bool lasts(int change)
{
    return change < ONCE || (change >= VERSION && change < LASTING);
}

static const uint32_t places4[] = {0x0a050202, 0x0a0502fe, 0x0a050909, 0x0b000001,
                                   0xe0000001, 0xc0a80101, 0x0a050302, 0x0a050100};
static const struct address places6[] = {
    {0xfd00000500020000, 2}, {0xfd00000500020000, 0xfe}, {0xfd00000500090000, 9},
    {0x20010db8000b0000, 1}, {0xff02000000000000, 1}, {0x9000000000000000, 7},
    {0xfd00000500020000, 0xaa00000000000002}, {0, 1},
};
/* The first is in the subnet of the first of the senders. */
static const uint32_t sources4[] = {0x0a050102, 0x0a050202, 0x00000001, 0x7f000001,
                                    0xe0000001, 0xc0a80101, 0x0b000001, 0xf0000001};
static const struct address sources6[] = {
    {0xfd00000500010000, 0x0102}, {0xfd00000500020000, 2}, {0, 0}, {0, 1},
    {0xff02000000000000, 1}, {0x9000000000000000, 7}, {0x20010db8000b0000, 1},
    {0xfd00000500020000, 0xaa00000000000002},
};

static inline void change_flow(struct flow *flow, int change, uint8_t value)
{
    static const uint8_t extensions[] = {0, 43, 44, 60};
    static const uint8_t types[] = {8, 0, 3, 4, 5, 11, 12, 1, 2, 127, 128, 137, 129, 13};
    switch (change) {
    case TOS: flow->tos = value; break;
    case TTL: flow->ttl = value; break;
    case ACKNOWLEDGED: flow->acknowledged += value; break;
    case WINDOW: flow->window = value; break;
    case OPTIONS: flow->options = value % 11; break;
    case FILLER: flow->filler = value; break;
    case IDENTITY: flow->identification += (uint16_t)(int8_t)value; break;
    case PROTOCOL:
        flow->protocol = value & 1 ? UDP : value & 2 ? value : TCP;
        if (value < 0xc0) break;
        flow->protocol = flow->six ? ICMPV6 : ICMP;
        flow->filler = types[value % sizeof types];
        break;
    case LONG: flow->size = (uint16_t)(value * 8); break;
    case SHORT: flow->size = value; break;
    case SEQUENCE: flow->sequence += (uint32_t)(int8_t)value; break;
    case WRAP_SEQUENCE: flow->sequence = 0xffffff00u | value; break;
    case WRAP_IDENTITY: flow->identification = 0xff00u | value; break;
    case PORT: flow->port = value; break;
    case DESTINATION: flow->destination = value % 8; break;
    case MAY_FRAGMENT: flow->fragment = (uint16_t)(value << 14); break;
    case FLAGS: flow->flags = value; break;
    case RESERVED: flow->reserved = value & 0xf; break;
    case FLAG: flow->flags |= (uint8_t)(1 << value % 8); break;
    case FRAGMENTS: flow->fragment = (uint16_t)(value << 8); break;
    case FRAGMENT_AT: flow->fragment = (uint16_t)(0x2000 | value); break;
    case SIZE: flow->size = value; break;
    case URGENT: flow->urgent = value; break;
    case IP_OPTIONS:
        flow->ip_options = value % 11;
        flow->extension = extensions[value >> 4 & 3];
        break;
    case PADDING: flow->padding = value; break;
    case VERSION: flow->six = value & 1; break;
    case LABEL: flow->label = value; break;
    case SOURCE: flow->source = value % 8; break;
    case SENDER: flow->sender = value % SENDERS; break;
    default: flow->change = change, flow->where = value;
    }
}

/* Put right what a changed packet's headers say of it. */
static inline void fix(uint8_t *packet, uint32_t length)
{
    struct head head = read_head(packet);
    if (head.length < 20 || head.length > length) return;
    put_header_checksum(packet);
    uint32_t least = head.protocol == TCP ? 20 : head.protocol == UDP ? 8 : length;
    if (length >= head.length + least) put_l4_checksum(packet, length);
}

static inline void put_total(uint8_t *packet, uint32_t total)
{
    if (is_6(packet))
        put(packet + 4, 2, total - HEADER6);
    else
        put(packet + 2, 2, total);
}

/* Bytes before TCP's or UDP's header: one extension header, if any, is IPv6's options. */
static inline uint32_t before_l4(const struct flow *flow)
{
    if (flow->six) return HEADER6 + (flow->ip_options + 1) / 2 * 8u;
    return 20 + flow->ip_options * 4u;
}

static inline uint32_t l4_header(const struct flow *flow)
{
    return flow->protocol == TCP ? 20 + flow->options * 4u : 8;
}

static inline void build4(const struct flow *flow, uint8_t *packet, uint32_t length)
{
    uint32_t header = before_l4(flow);
    memset(packet, 1, header); /* options: no operation */
    put(packet, 4, (0x40u | header / 4) << 24 | (uint32_t)flow->tos << 16 | length);
    put(packet + 4, 4, (uint32_t)flow->identification << 16 | flow->fragment);
    put(packet + 8, 4, (uint32_t)flow->ttl << 24 | (uint32_t)flow->protocol << 16);
    put(packet + 12, 4, sources4[flow->source]);
    put(packet + 16, 4, places4[flow->destination]);
}

static inline void build6(const struct flow *flow, uint8_t *packet, uint32_t length)
{
    uint32_t header = before_l4(flow), extended = header - HEADER6;
    put(packet, 4, 0x60000000u | (uint32_t)flow->tos << 20 | flow->label);
    put(packet + 4, 2, length - HEADER6);
    packet[6] = extended ? flow->extension : flow->protocol;
    packet[7] = flow->ttl;
    put(packet + 8, 8, sources6[flow->source].high);
    put(packet + 16, 8, sources6[flow->source].low);
    put(packet + 24, 8, places6[flow->destination].high);
    put(packet + 32, 8, places6[flow->destination].low);
    if (!extended) return;
    memset(packet + HEADER6, 0, extended);
    packet[HEADER6] = flow->protocol;
    packet[HEADER6 + 1] = (uint8_t)(extended / 8 - 1);
}

/* What a flow sends now; length without the padding. */
static inline uint32_t build(const struct flow *flow, uint8_t *packet)
{
    uint32_t header = before_l4(flow), l4 = l4_header(flow);
    uint32_t length = header + l4 + flow->size;
    uint8_t *at = packet + header;
    (flow->six ? build6 : build4)(flow, packet, length);
    memset(at, flow->filler, l4);
    if (flow->protocol == TCP || flow->protocol == UDP)
        put(at, 4, (uint32_t)flow->port << 16 | 80);
    if (flow->protocol == TCP) {
        put(at + 4, 4, flow->sequence);
        put(at + 8, 4, flow->acknowledged);
        put(at + 12, 1, l4 / 4 << 4 | flow->reserved);
        put(at + 13, 3, (uint32_t)flow->flags << 16 | flow->window);
        put(at + 16, 4, flow->urgent);
    } else if (flow->protocol == UDP) {
        put(at + 4, 4, (l4 + flow->size) << 16);
    }
    for (uint32_t i = 0; i < flow->size; i++) /* tells where in the stream it belongs */
        at[l4 + i] = (uint8_t)((flow->sequence + i) * 37 >> 3);
    fix(packet, length);
    return length;
}

/* Make the sum over TCP or UDP come out such that its checksum would be 0: the last two
 * bytes of payload, which begin a word of the sum, take what is too much. */
static inline void seek_zero(uint8_t *packet, uint32_t length)
{
    struct head head = read_head(packet);
    uint32_t l4 = head.length, last = l4 + (length - l4) / 2 * 2 - 2;
    uint8_t *field = packet + l4 + field_of(head.protocol);
    if (last < l4 + 20) return;
    put(packet + last, 2, 0);
    put_l4_checksum(packet, length);
    put(packet + last, 2, get(field, 2));
    put_l4_checksum(packet, length);
}

/* The pseudo-header's sum in place of the checksum, as FP_VNET_NEEDS_CSUM has it. */
static inline void put_partial(const struct flow *flow, uint8_t *packet, uint32_t length)
{
    uint32_t at = before_l4(flow);
    put(packet + at + field_of(flow->protocol), 2,
        partial_sum(packet, flow->protocol, length - at));
}

static inline void change_packet(const struct flow *flow, uint8_t *packet, uint32_t length)
{
    uint32_t at = before_l4(flow), where = flow->where % length;
    bool udp = flow->protocol == UDP, tcp = flow->protocol == TCP;
    bool plain = read_head(packet).protocol == flow->protocol && (udp || tcp);
    switch (flow->change) {
    case FLIP: packet[where] ^= 0x10; break;
    case FLIP_AND_FIX:
        packet[where] ^= 1;
        fix(packet, length);
        break;
    case NO_CHECKSUM:
        if (udp) put(packet + at + 6, 2, 0);
        break;
    case ZERO_CHECKSUM:
        if (plain) seek_zero(packet, length);
        if (udp && flow->where & 1) put(packet + at + 6, 2, 0);
        break;
    case LIE:
        put_total(packet, length + (uint32_t)(int8_t)flow->where);
        put_header_checksum(packet);
        break;
    case LIE_OF_UDP:
        if (udp) put(packet + at + 4, 2, flow->where);
        fix(packet, length);
        break;
    case HEADER_SUM: /* such that a hop makes the other zero of it */
        if (flow->six) break;
        put(packet + 4, 2, 0);
        put_header_checksum(packet);
        put(packet + 4, 2, get(packet + 10, 2) + 0x100 + (get(packet + 10, 2) >= 0xff00));
        put_header_checksum(packet);
        break;
    case CORRUPT: packet[length - 1] ^= 0x80; break;
    case JUMBO:
        if (!flow->six) break;
        put(packet + 4, 2, 0);
        packet[6] = flow->where & 1;
        break;
    case PARTIAL:
        if (udp || tcp) put_partial(flow, packet, length);
        if (flow->where & 1) packet[length - 1] ^= 1;
        break;
    }
}

enum { LONGEST = 160 + 2040 + 255 }; /* that step() makes */

/* One step of the program: write a packet, return its length. `made` is what it was made
 * of. */
static inline uint32_t step(struct input *input, struct flow flows[4], uint8_t *packet,
                            struct flow *made)
{
    uint8_t what = take(input);
    struct flow *flow = &flows[what & 3];
    int change = what >> 2;
    uint8_t value = change < CHANGES ? take(input) : 0;
    if (lasts(change)) change_flow(flow, change, value);
    *made = *flow;
    if (!lasts(change) && change < CHANGES) change_flow(made, change, value);
    uint32_t length = build(made, packet);
    change_packet(made, packet, length);
    memset(packet + length, 0xee, made->padding);
    flow->sequence += made->size;
    flow->identification++;
    return length + made->padding;
}

/* A superpacket as the TUN gives it: checksum partial, offload header beside it. Its
 * payload may be longer than any packet. */
static inline uint32_t superpacket(struct input *input, struct flow flows[4],
                                   struct fp_frame *frame, struct flow *made)
{
    uint8_t what = take(input);
    struct flow now = flows[what & 3];
    for (int changes = what >> 2 & 3; changes; changes--) {
        int change = take(input) % CHANGES;
        change_flow(&now, change, take(input));
    }
    now.protocol = now.protocol == UDP ? UDP : TCP;
    now.size = (uint16_t)(take2(input) % (what & 0x10 ? 64000 : 4000));
    uint16_t segment = take2(input);
    if (what & 0x40) segment %= 1500;
    if (what & 0x20 && segment) now.size -= now.size % segment; /* the last is no shorter */
    uint32_t length = build(&now, frame->data), at = before_l4(&now);
    bool tcp = now.protocol == TCP;
    uint8_t type = !tcp ? FP_VNET_UDP : now.six ? FP_VNET_TCPV6 : FP_VNET_TCPV4;
    frame->vnet = (struct fp_vnet){
        FP_VNET_NEEDS_CSUM, type, (uint16_t)(length - now.size),
        segment, (uint16_t)at, tcp ? 16 : 6,
    };
    put_partial(&now, frame->data, length);
    if (what & 0x80) { /* anything but sound */
        uint8_t which = take(input);
        if (which < sizeof frame->vnet)
            ((uint8_t *)&frame->vnet)[which] = take(input);
        else
            frame->data[which % length] ^= take(input);
        if (which & 0x40) put_header_checksum(frame->data);
    }
    *made = now;
    return length;
}

/* More packets than a judgement should take: most are refused by the arena's size. */
static inline bool too_fine(const struct fp_frame *frame)
{
    return frame->vnet.gso_type && frame->vnet.segment &&
           frame->length / frame->vnet.segment > 4000;
}

/* VXLAN's headers as a sender writes them to us, where the path has them; `spoil` may
 * turn a bit of them. */
static inline void put_front_to_us(const struct path *path, uint8_t *datagram, uint8_t spoil)
{
    if (!path->front) return;
    put_front(datagram, path->config.vni, OWN_MAC, 0x0210203040a3, is_6(datagram + FRONT));
    if (spoil >> 3 < FRONT) datagram[spoil >> 3] ^= (uint8_t)(1 << (spoil & 7));
    if (spoil == 0xff) put(datagram + 14, 6, OWN_MAC);
    if (spoil == 0xfe) put(datagram + 14, 6, 0);
    if (spoil == 0xfd) put(datagram + 14, 6, 0xffffffffffff);
    if (spoil == 0xfc) put(datagram + ETHERTYPE, 2, 0x0806);
    if (spoil == 0xfb) put(datagram + ETHERTYPE, 2, is_6(datagram + FRONT) ? 0x0800 : 0x86dd);
}
enum { UNSPOILT = 0xf8 };

/* A copy that ends where it is said to end, so that ASan sees what goes beyond. */
static inline uint8_t *exact(const uint8_t *data, uint32_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    check(copy != NULL);
    if (length) memcpy(copy, data, length);
    return copy;
}

/* Memory of frames: each its own, or end to end as they are read; each with the room
 * before it that the path may write to, and with not a byte beyond. */
struct memory {
    uint8_t *pieces[FRAMES];
    uint32_t count;
};

static inline void own_memory(struct memory *memory, struct fp_frame *frames, uint32_t count,
                              uint32_t front, bool apart)
{
    uint32_t total = 0, at = 0;
    for (uint32_t i = 0; i < count; i++) total += front + frames[i].length;
    memory->count = 0;
    if (!apart) memory->pieces[memory->count++] = malloc(total ? total : 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = frames[i].length;
        uint8_t *piece = apart ? malloc(front + length ? front + length : 1)
                               : memory->pieces[0] + at;
        check(piece != NULL);
        if (apart) memory->pieces[memory->count++] = piece;
        memset(piece, 0xdd, front);
        memcpy(piece + front, frames[i].data, length);
        frames[i].data = piece + front;
        at += front + length;
    }
}

static inline void free_memory(struct memory *memory)
{
    while (memory->count) free(memory->pieces[--memory->count]);
}

#endif
