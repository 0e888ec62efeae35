/* The IPv4 header: check it, and take a hop from it. The twin is encap/ip.py. */
#include "fastpath.h"

#include <string.h>

uint16_t checksum(const uint8_t *data, size_t length)
{
    uint64_t sum = 0;
    for (; length >= 4; data += 4, length -= 4) sum += load32(data);
    if (length >= 2) {
        sum += load16(data);
        data += 2;
        length -= 2;
    }
    if (length) sum += (uint64_t)data[0] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

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
