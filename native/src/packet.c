/* Headers: check them, take a hop. The twin is encap/ip.py. */
#include "fastpath.h"

int ipv4_parse(const uint8_t *packet, uint32_t length, struct ipv4 *ip)
{
    if (length < 20) return FP_SHORT;
    *ip = (struct ipv4){
        .length = (packet[0] & 0xfu) * 4,
        .total = load16(packet + 2),
        .fragment = load16(packet + 6),
        .ttl = packet[8],
        .protocol = packet[9],
        .source = load32(packet + 12),
        .destination = load32(packet + 16),
    };
    if (packet[0] >> 4 != 4) return FP_BAD_VERSION;
    if (ip->length < 20 || ip->length > length) return FP_BAD_HEADER;
    if (ip->total < ip->length || ip->total > length) return FP_BAD_LENGTH;
    if (checksum(packet, ip->length) != 0) return FP_BAD_CHECKSUM;
    return -1;
}

void ipv4_take_hop(uint8_t *packet)
{
    /* The word of the TTL loses 0x0100, so its complement's sum gains it, end around
     * (RFC 1141). 0xffff is the other zero, which a sum over a header never gives. */
    uint32_t sum = load16(packet + 10) + 0x100u;
    packet[8]--;
    store16(packet + 10, (uint16_t)(sum + (sum >= 0xffff)));
}

void ipv4_put_checksum(uint8_t *packet, uint32_t header_length)
{
    store16(packet + 10, 0);
    store16(packet + 10, checksum(packet, header_length));
}

uint32_t pseudo_sum(const uint8_t *packet, uint8_t protocol, uint32_t l4_length)
{
    uint64_t sum = (uint64_t)load32(packet + 12) + load32(packet + 16);
    return checksum_fold(sum + protocol + l4_length);
}
