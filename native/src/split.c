/* A superpacket, cut as the kernel would have cut it.
 *
 * The TUN hands over up to 64 KiB of one TCP connection, or of UDP datagrams, behind one
 * set of headers, and says in a virtio header where to cut. Each packet gets a copy of
 * the headers with its own lengths, IPv4 identification, sequence number, flags and
 * checksums. CWR belongs to the first, FIN and PSH to the last (RFC 3168 section 6.1.2).
 *
 * header_length in the virtio header is a hint that may span the first payload; where
 * the payload begins is read from the packet itself. */
#include "fastpath.h"

#include <string.h>

/* The L4 header's length, or 0 if the packet has none that we can cut behind. */
static uint32_t l4_header(const uint8_t *l4, uint32_t length, uint8_t protocol)
{
    if (protocol == UDP) return length >= 8 ? 8 : 0;
    if (protocol != TCP || length < 20) return 0;
    uint32_t header = (l4[12] >> 4) * 4u;
    return header >= 20 && header <= length ? header : 0;
}

static bool checksum_in_place(const struct fp_vnet *vnet, const struct ip *ip)
{
    return vnet->checksum_start >= ip->length &&
           vnet->checksum_start + vnet->checksum_offset + 2u <= ip->total;
}

int split_plan(const struct fp_frame *frame, const struct ip *ip, struct cut *cut)
{
    const struct fp_vnet *vnet = &frame->vnet;
    *cut = (struct cut){.packets = 1};
    if (vnet->flags & FP_VNET_NEEDS_CSUM && !checksum_in_place(vnet, ip))
        return FP_BAD_OFFLOAD;
    if (vnet->gso_type == 0) return -1;
    uint8_t type = vnet->gso_type & (uint8_t)~FP_VNET_ECN;
    uint8_t tcp = ip->version == 6 ? FP_VNET_TCPV6 : FP_VNET_TCPV4;
    uint8_t wanted = type == tcp ? TCP : type == FP_VNET_UDP ? UDP : 0;
    if (!wanted || wanted != ip->protocol || !vnet->segment || ip->fragment & 0x3fff)
        return FP_BAD_OFFLOAD;
    uint32_t header =
        l4_header(frame->data + ip->length, ip->total - ip->length, ip->protocol);
    if (!header) return FP_BAD_OFFLOAD;
    cut->headers = ip->length + header;
    cut->segment = vnet->segment;
    uint32_t payload = ip->total - cut->headers;
    if (payload) cut->packets = (payload + cut->segment - 1) / cut->segment;
    return -1;
}

uint32_t split_size(const struct cut *cut, const struct ip *ip, uint32_t prefix_length)
{
    return ip->total + (cut->packets - 1) * cut->headers + cut->packets * prefix_length;
}

void finish_checksum(const struct fp_frame *frame, const struct ip *ip)
{
    const struct fp_vnet *vnet = &frame->vnet;
    /* The field holds the pseudo-header's sum, so it is summed with the rest. */
    uint16_t sum = checksum(frame->data + vnet->checksum_start,
                            ip->total - vnet->checksum_start);
    /* Of IPv6 it may lie behind extension headers; 6 is where UDP's checksum is. */
    bool udp = ip->protocol == UDP || (ip->version == 6 && vnet->checksum_offset == 6);
    if (sum == 0 && udp) sum = 0xffff; /* 0 would mean "none" */
    store16(frame->data + vnet->checksum_start + vnet->checksum_offset, sum);
}

/* `payload` is the sum of what lies behind the headers. */
static void put_l4_checksum(uint8_t *packet, const struct ip *ip, uint32_t headers,
                            uint32_t l4_length, uint32_t payload)
{
    uint8_t *l4 = packet + ip->length;
    uint8_t *field = l4 + (ip->protocol == TCP ? 16 : 6);
    store16(field, 0);
    uint32_t sum = checksum_add(pseudo_sum(packet, ip->protocol, l4_length),
                                checksum_sum(l4, headers - ip->length));
    uint16_t check = (uint16_t)~checksum_add(sum, payload);
    if (check == 0 && ip->protocol == UDP) check = 0xffff;
    store16(field, check);
}

void split(uint8_t *out, const uint8_t *packet, const struct ip *ip,
           const struct cut *cut, const uint8_t *prefix, uint32_t prefix_length)
{
    const uint8_t *payload = packet + cut->headers, *end = packet + ip->total;
    uint16_t identification = load16(packet + 4);
    for (uint32_t i = 0; i < cut->packets; i++) {
        uint32_t left = (uint32_t)(end - payload);
        uint32_t length = left < cut->segment ? left : cut->segment;
        uint32_t total = cut->headers + length;
        if (prefix_length) memcpy(out, prefix, prefix_length);
        out += prefix_length;
        uint8_t *l4 = out + ip->length;
        memcpy(out, packet, cut->headers);
        uint32_t sum = checksum_copy(out + cut->headers, payload, length);
        if (ip->version == 4) store16(out + 4, (uint16_t)(identification + i));
        ip_put_total(out, ip->length, total);
        if (ip->protocol == TCP) {
            store32(l4 + 4, load32(l4 + 4) + i * cut->segment);
            if (i > 0) l4[13] &= (uint8_t)~TCP_CWR;
            if (length < left) l4[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
        } else {
            store16(l4 + 4, (uint16_t)(total - ip->length));
        }
        put_l4_checksum(out, ip, cut->headers, total - ip->length, sum);
        payload += length;
        out += total;
    }
}
