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
    uint8_t protocol, tos, ttl, options; /* of TCP, in words */
    uint8_t flags, ip_options, padding, reserved, filler; /* filler of options */
    uint16_t identification, fragment, port, window, size, urgent;
    uint32_t sequence, acknowledged, destination;
    int change;    /* to the packet once made, of enum once */
    uint8_t where; /* an operand of it */
};

static inline void start_flows(struct flow flows[4])
{
    for (uint16_t i = 0; i < 4; i++)
        flows[i] = (struct flow){
            .protocol = i == 3 ? UDP : TCP, .ttl = 64, .flags = ACK,
            .fragment = i == 1 ? 0 : DONT_FRAGMENT << 8, .port = (uint16_t)(4000 + i / 2),
            .window = 500, .size = 100, .acknowledged = 77,
            .destination = 0x0a050202u + (i == 2 ? 0x100u : 0),
        };
}

/* A flow's changes come first, then those of one packet. */
enum change {
    TOS, TTL, ACKNOWLEDGED, WINDOW, OPTIONS, FILLER, IDENTITY, PROTOCOL, LONG, SHORT,
    SEQUENCE, WRAP_SEQUENCE, WRAP_IDENTITY, PORT, DESTINATION, MAY_FRAGMENT, FLAGS, RESERVED,
    ONCE, FLAG = ONCE, FRAGMENT, FRAGMENT_OFFSET, SIZE, URGENT, IP_OPTIONS, PADDING,
    FLIP, FLIP_AND_FIX, NO_CHECKSUM, ZERO_CHECKSUM, LIE, LIE_OF_UDP, HEADER_SUM, CORRUPT,
    CHANGES
};

static inline void change_flow(struct flow *flow, int change, uint8_t value)
{
    static const uint32_t places[] = {0x0a050202, 0x0a0502fe, 0x0a050909, 0x0b000001,
                                      0xe0000001, 0xc0a80101, 0x0a050302, 0x0a050100};
    switch (change) {
    case TOS: flow->tos = value; break;
    case TTL: flow->ttl = value; break;
    case ACKNOWLEDGED: flow->acknowledged += value; break;
    case WINDOW: flow->window = value; break;
    case OPTIONS: flow->options = value % 11; break;
    case FILLER: flow->filler = value; break;
    case IDENTITY: flow->identification += (uint16_t)(int8_t)value; break;
    case PROTOCOL: flow->protocol = value & 1 ? UDP : value & 2 ? value : TCP; break;
    case LONG: flow->size = (uint16_t)(value * 8); break;
    case SHORT: flow->size = value; break;
    case SEQUENCE: flow->sequence += (uint32_t)(int8_t)value; break;
    case WRAP_SEQUENCE: flow->sequence = 0xffffff00u | value; break;
    case WRAP_IDENTITY: flow->identification = 0xff00u | value; break;
    case PORT: flow->port = value; break;
    case DESTINATION: flow->destination = places[value % 8]; break;
    case MAY_FRAGMENT: flow->fragment = (uint16_t)(value << 14); break;
    case FLAGS: flow->flags = value; break;
    case RESERVED: flow->reserved = value & 0xf; break;
    case FLAG: flow->flags |= (uint8_t)(1 << value % 8); break;
    case FRAGMENT: flow->fragment = (uint16_t)(value << 8); break;
    case FRAGMENT_OFFSET: flow->fragment = (uint16_t)(0x2000 | value); break;
    case SIZE: flow->size = value; break;
    case URGENT: flow->urgent = value; break;
    case IP_OPTIONS: flow->ip_options = value % 11; break;
    case PADDING: flow->padding = value; break;
    default: flow->change = change, flow->where = value;
    }
}

/* Put right what a changed packet's headers say of it. */
static inline void fix(uint8_t *packet, uint32_t length)
{
    uint32_t header = header_length(packet);
    if (header < 20 || header > length) return;
    put_header_checksum(packet);
    uint32_t least = packet[9] == TCP ? 20 : packet[9] == UDP ? 8 : length;
    if (length >= header + least) put_l4_checksum(packet, length);
}

/* What a flow sends now; length without the padding. */
static inline uint32_t build(const struct flow *flow, uint8_t *packet)
{
    uint32_t header = 20 + flow->ip_options * 4u;
    uint32_t l4 = flow->protocol == TCP ? 20 + flow->options * 4u : 8;
    uint32_t length = header + l4 + flow->size;
    uint8_t *at = packet + header;
    memset(packet, 1, header); /* options: no operation */
    memset(at, flow->filler, l4);
    put(packet, 4, (0x40u | header / 4) << 24 | (uint32_t)flow->tos << 16 | length);
    put(packet + 4, 4, (uint32_t)flow->identification << 16 | flow->fragment);
    put(packet + 8, 4, (uint32_t)flow->ttl << 24 | (uint32_t)flow->protocol << 16);
    put(packet + 12, 4, 0x0a050102);
    put(packet + 16, 4, flow->destination);
    put(at, 4, (uint32_t)flow->port << 16 | 80);
    if (flow->protocol == TCP) {
        put(at + 4, 4, flow->sequence);
        put(at + 8, 4, flow->acknowledged);
        put(at + 12, 1, l4 / 4 << 4 | flow->reserved);
        put(at + 13, 3, (uint32_t)flow->flags << 16 | flow->window);
        put(at + 16, 4, flow->urgent);
    } else {
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
    uint32_t l4 = header_length(packet), last = l4 + (length - l4) / 2 * 2 - 2;
    uint8_t *field = packet + l4 + (packet[9] == TCP ? 16 : 6);
    if (last < l4 + 20) return;
    put(packet + last, 2, 0);
    put_l4_checksum(packet, length);
    put(packet + last, 2, get(field, 2));
    put_l4_checksum(packet, length);
}

static inline void change_packet(const struct flow *flow, uint8_t *packet, uint32_t length)
{
    uint32_t header = header_length(packet), where = flow->where % length;
    bool udp = flow->protocol == UDP;
    switch (flow->change) {
    case FLIP: packet[where] ^= 0x10; break;
    case FLIP_AND_FIX:
        packet[where] ^= 1;
        fix(packet, length);
        break;
    case NO_CHECKSUM:
        if (udp) put(packet + header + 6, 2, 0);
        break;
    case ZERO_CHECKSUM:
        if (udp || flow->protocol == TCP) seek_zero(packet, length);
        if (udp && flow->where & 1) put(packet + header + 6, 2, 0);
        break;
    case LIE:
        put(packet + 2, 2, length + (uint32_t)(int8_t)flow->where);
        put_header_checksum(packet);
        break;
    case LIE_OF_UDP:
        if (udp) put(packet + header + 4, 2, flow->where);
        fix(packet, length);
        break;
    case HEADER_SUM: /* such that a hop makes the other zero of it */
        put(packet + 4, 2, 0);
        put_header_checksum(packet);
        put(packet + 4, 2, get(packet + 10, 2) + 0x100 + (get(packet + 10, 2) >= 0xff00));
        put_header_checksum(packet);
        break;
    case CORRUPT: packet[length - 1] ^= 0x80; break;
    }
}

enum { LONGEST = 100 + 2040 + 255 }; /* that step() makes */

/* One step of the program: write a packet, return its length. */
static inline uint32_t step(struct input *input, struct flow flows[4], uint8_t *packet)
{
    uint8_t what = take(input);
    struct flow *flow = &flows[what & 3], now;
    int change = what >> 2;
    uint8_t value = change < CHANGES ? take(input) : 0;
    if (change < ONCE) change_flow(flow, change, value);
    now = *flow;
    if (change >= ONCE && change < CHANGES) change_flow(&now, change, value);
    uint32_t length = build(&now, packet);
    change_packet(&now, packet, length);
    memset(packet + length, 0xee, now.padding);
    flow->sequence += now.size;
    flow->identification++;
    return length + now.padding;
}

/* The pseudo-header's sum in place of the checksum, as FP_VNET_NEEDS_CSUM has it. */
static inline void put_partial(uint8_t *packet, uint32_t length)
{
    uint32_t header = header_length(packet);
    uint16_t sum = (uint16_t)~inverse_sum(NULL, 0, pseudo_header(packet, length - header));
    put(packet + header + (packet[9] == TCP ? 16 : 6), 2, sum);
}

/* A superpacket as the TUN gives it: checksum partial, offload header beside it. Its
 * payload may be longer than any packet. */
static inline uint32_t superpacket(struct input *input, struct flow flows[4],
                                   struct fp_frame *frame)
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
    uint32_t length = build(&now, frame->data);
    uint32_t header = header_length(frame->data);
    bool tcp = now.protocol == TCP;
    frame->vnet = (struct fp_vnet){
        FP_VNET_NEEDS_CSUM, tcp ? FP_VNET_TCPV4 : FP_VNET_UDP, (uint16_t)(length - now.size),
        segment, (uint16_t)header, tcp ? 16 : 6,
    };
    put_partial(frame->data, length);
    if (what & 0x80) { /* anything but sound */
        uint8_t which = take(input);
        if (which < sizeof frame->vnet)
            ((uint8_t *)&frame->vnet)[which] = take(input);
        else
            frame->data[which % length] ^= take(input);
        if (which & 0x40) put_header_checksum(frame->data);
    }
    return length;
}

/* More packets than a judgement should take: most are refused by the arena's size. */
static inline bool too_fine(const struct fp_frame *frame)
{
    return frame->vnet.gso_type && frame->vnet.segment &&
           frame->length / frame->vnet.segment > 4000;
}

/* A copy that ends where it is said to end, so that ASan sees what goes beyond. */
static inline uint8_t *exact(const uint8_t *data, uint32_t length)
{
    uint8_t *copy = malloc(length ? length : 1);
    check(copy != NULL);
    if (length) memcpy(copy, data, length);
    return copy;
}

#endif
