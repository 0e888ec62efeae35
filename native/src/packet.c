/* Headers: check them, take a hop. The twin is encap/ip.py. */
#include "fastpath.h"

enum { HOP_BY_HOP = 0, FRAGMENT = 0x3fff };

/* RFC 8200 section 3. What is about IPv6 alone stays out of line: so IPv4 pays nothing. */
static __attribute__((noinline)) int ipv6_parse(const uint8_t *packet, uint32_t length, struct ip *ip)
{
    if (length < IPV6_HEADER) return FP_SHORT;
    *ip = (struct ip){
        .length = IPV6_HEADER,
        .total = IPV6_HEADER + load16(packet + 4),
        .protocol = packet[6],
        .ttl = packet[7],
        .version = 6,
    };
    /* Hop-by-hop options in a payload of no bytes are a jumbogram's (RFC 2675). */
    bool jumbo = ip->total == IPV6_HEADER && ip->protocol == HOP_BY_HOP;
    return jumbo || ip->total > length ? FP_BAD_LENGTH : -1;
}

int ip_parse(const uint8_t *packet, uint32_t length, bool ipv6, struct ip *ip)
{
    if (length < 20) return FP_SHORT;
    *ip = (struct ip){
        .length = (packet[0] & 0xfu) * 4,
        .total = load16(packet + 2),
        .fragment = load16(packet + 6),
        .ttl = packet[8],
        .protocol = packet[9],
        .source = load32(packet + 12),
        .destination = load32(packet + 16),
        .version = 4,
    };
    if (packet[0] >> 4 != 4)
        return packet[0] >> 4 == 6 && ipv6 ? ipv6_parse(packet, length, ip)
                                           : FP_BAD_VERSION;
    if (ip->length < 20 || ip->length > length) return FP_BAD_HEADER;
    if (ip->total < ip->length || ip->total > length) return FP_BAD_LENGTH;
    if (checksum(packet, ip->length) != 0) return FP_BAD_CHECKSUM;
    return -1;
}

void ip_take_hop(uint8_t *packet, const struct ip *ip)
{
    if (ip->version == 6) {
        packet[7]--;
        return;
    }
    /* The word of the TTL loses 0x0100, so its complement's sum gains it, end around
     * (RFC 1141). 0xffff is the other zero, which a sum over a header never gives. */
    uint32_t sum = load16(packet + 10) + 0x100u;
    packet[8]--;
    store16(packet + 10, (uint16_t)(sum + (sum >= 0xffff)));
}

void ip_put_total(uint8_t *packet, uint32_t header_length, uint32_t total)
{
    if (packet[0] >> 4 == 6) {
        store16(packet + 4, (uint16_t)(total - header_length));
        return;
    }
    store16(packet + 2, (uint16_t)total);
    store16(packet + 10, 0);
    store16(packet + 10, checksum(packet, header_length));
}

static __attribute__((noinline)) uint32_t pseudo_sum6(const uint8_t *packet,
                                                      uint8_t protocol,
                                                      uint32_t l4_length)
{
    return checksum_fold((uint64_t)checksum_sum(packet + 8, 32) + protocol + l4_length);
}

uint32_t pseudo_sum(const uint8_t *packet, uint8_t protocol, uint32_t l4_length)
{
    if (packet[0] >> 4 == 6) return pseudo_sum6(packet, protocol, l4_length);
    uint64_t sum = (uint64_t)load32(packet + 12) + load32(packet + 16);
    return checksum_fold(sum + protocol + l4_length);
}

uint32_t ip_flow(const uint8_t *packet, const struct ip *ip)
{
    uint32_t words = ip->source ^ ip->destination;
    for (uint32_t at = 8; ip->version == 6 && at < IPV6_HEADER; at += 4)
        words ^= load32(packet + at);
    bool has_ports = (ip->protocol == TCP || ip->protocol == UDP) &&
                     !(ip->fragment & FRAGMENT) && ip->total - ip->length >= 4;
    if (has_ports) words ^= load32(packet + ip->length);
    return ((words ^ ip->protocol) * 0x9e3779b1u) >> 16;
}

uint32_t l4_checksum_offset(const struct ip *ip)
{
    uint32_t length = ip->total - ip->length;
    if (ip->fragment & FRAGMENT) return 0;
    if (ip->protocol == TCP && length >= 20) return 16;
    return ip->protocol == UDP && length >= 8 ? 6 : 0;
}

bool is_partial(const uint8_t *packet, const struct ip *ip)
{
    uint32_t offset = l4_checksum_offset(ip);
    return offset && load16(packet + ip->length + offset) ==
                         pseudo_sum(packet, ip->protocol, ip->total - ip->length);
}

bool l4_sound(const uint8_t *packet, const struct ip *ip)
{
    uint32_t length = ip->total - ip->length;
    return checksum_add(pseudo_sum(packet, ip->protocol, length),
                        checksum_sum(packet + ip->length, length)) == 0xffff;
}
