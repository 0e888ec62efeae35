/* Packets joined to a superpacket, so that the kernel walks its stack once for many.
 *
 * Only a packet that follows another of its flow, with nothing between them, is joined
 * to it, in place: its payload is moved down behind the other's. So no packet overtakes
 * another, none is held back, and no memory is needed. What the kernel does with the
 * superpacket, to cut it again, must give the very packets that came; so everything in
 * the headers that cutting does not count up has to be equal (the rules are those of
 * Linux' tcp_gro_receive), and checksums are verified first: the superpacket tells the
 * kernel to make new ones, which would make a corrupt packet look sound. */
#include "fastpath.h"

#include <string.h>

enum { DONT_FRAGMENT = 0x4000, MAX_DATAGRAMS = 64 };

uint32_t mergeable(const uint8_t *packet, const struct ip *ip, uint32_t merges)
{
    const uint8_t *l4 = packet + ip->length;
    uint32_t l4_length = ip->total - ip->length, headers;
    if ((ip->length != 20 && ip->version == 4) ||
        ip->fragment & (uint16_t)~DONT_FRAGMENT)
        return 0;
    if (ip->protocol == TCP && merges & FP_MERGE_TCP) {
        if (l4_length < 20) return 0;
        headers = ip->length + (l4[12] >> 4) * 4u;
        uint8_t others = (uint8_t)(l4[13] & ~(TCP_ACK | TCP_PSH | TCP_ECE));
        /* Bits of the octet before the flags are reserved (or AccECN's): none. */
        if (headers < ip->length + 20 || others || !(l4[13] & TCP_ACK) || l4[12] & 0xf) return 0;
    } else if (ip->protocol == UDP && merges & FP_MERGE_UDP) {
        if (l4_length < 8 || load16(l4 + 4) != l4_length || load16(l4 + 6) == 0) return 0;
        headers = ip->length + 8;
    } else {
        return 0;
    }
    return headers < ip->total ? headers : 0;
}

/* All of the IP header that a cut does not change, but for IPv4's identification. */
static bool same_ip(const uint8_t *first, const uint8_t *packet)
{
    if (packet[0] >> 4 == 6)
        return memcmp(first, packet, 4) == 0 && memcmp(first + 6, packet + 6, 34) == 0;
    return first[1] == packet[1] && memcmp(first + 6, packet + 6, 4) == 0 &&
           memcmp(first + 12, packet + 12, 8) == 0;
}

static bool same_flow(const struct run *run, const uint8_t *first, const uint8_t *packet)
{
    const uint8_t *a = first + run->ip_length, *b = packet + run->ip_length;
    if (!same_ip(first, packet) || memcmp(a, b, 4) != 0) return false;
    if (run->protocol == UDP) return true;
    /* Acknowledgement, offset, flags but for PSH, window; urgent pointer, options. */
    return memcmp(a + 8, b + 8, 5) == 0 && a[13] == (b[13] & (uint8_t)~TCP_PSH) &&
           memcmp(a + 14, b + 14, 2) == 0 &&
           memcmp(a + 18, b + 18, run->headers - run->ip_length - 18) == 0;
}

/* Cutting counts the identification up: without DF, that must be what was there. IPv6
 * has neither. */
static bool same_identification(const struct run *run, const uint8_t *first,
                                const uint8_t *packet)
{
    bool counts = (uint16_t)(load16(first + 4) + run->packets) == load16(packet + 4);
    return counts || first[6] & (DONT_FRAGMENT >> 8) || run->ip_length == IPV6_HEADER;
}

static bool fits(const struct run *run, const struct fp_frame *frame,
                 const uint8_t *packet, const struct ip *ip, uint32_t headers)
{
    if (!run->open || run->protocol != ip->protocol || run->ip_length != ip->length ||
        run->headers != headers ||
        frame->length + ip->total - headers > FP_MAX_PACKET ||
        ip->total - headers > run->segment ||
        !same_flow(run, frame->data, packet) ||
        !same_identification(run, frame->data, packet))
        return false;
    if (ip->protocol == UDP) return run->packets < MAX_DATAGRAMS;
    return load32(packet + ip->length + 4) == run->next_sequence;
}

static void finish(const struct run *run, struct fp_frame *frame)
{
    uint8_t *packet = frame->data;
    uint8_t *l4 = packet + run->ip_length;
    uint32_t l4_length = frame->length - run->ip_length;
    bool tcp = run->protocol == TCP, v6 = packet[0] >> 4 == 6;
    ip_put_total(packet, run->ip_length, frame->length);
    if (!tcp) store16(l4 + 4, (uint16_t)l4_length);
    frame->vnet = (struct fp_vnet){
        .flags = FP_VNET_NEEDS_CSUM,
        .gso_type = !tcp ? FP_VNET_UDP : v6 ? FP_VNET_TCPV6 : FP_VNET_TCPV4,
        .header_length = (uint16_t)run->headers,
        .segment = (uint16_t)run->segment,
        .checksum_start = (uint16_t)run->ip_length,
        .checksum_offset = tcp ? 16 : 6,
    };
    store16(l4 + frame->vnet.checksum_offset,
            (uint16_t)pseudo_sum(packet, run->protocol, l4_length));
}

void merge_finish(struct run *run, struct fp_frame *frame)
{
    if (run->packets > 1) finish(run, frame);
    *run = (struct run){0};
}

bool merge_append(struct run *run, struct fp_frame *frame, uint8_t *packet,
                  const struct ip *ip, uint32_t headers)
{
    uint32_t payload = ip->total - headers;
    uint32_t flags = ip->length + 13; /* where TCP's are */
    bool push = ip->protocol == TCP && headers && packet[flags] & TCP_PSH;
    if (!headers || !fits(run, frame, packet, ip, headers)) {
        merge_finish(run, frame);
        if (!headers) return false;
        *run = (struct run){
            .open = !push,
            .protocol = ip->protocol,
            .ip_length = ip->length,
            .headers = headers,
            .segment = payload,
            .packets = 1,
            .next_sequence =
                ip->protocol == TCP ? load32(packet + ip->length + 4) + payload : 0,
        };
        return false;
    }
    memmove(frame->data + frame->length, packet + headers, payload);
    frame->length += payload;
    run->packets++;
    run->next_sequence += payload;
    if (push) frame->data[flags] |= TCP_PSH;
    if (push || payload < run->segment) run->open = false; /* the last of its run */
    return true;
}
