/* ICMP destination unreachable. The twin, with the reasons, is encap/icmp.py. */
#include "fastpath.h"

#include <string.h>

enum {
    PROTOCOL_ICMP = 1,
    FRAGMENT_OFFSET = 0x1fff,
    UNREACHABLE = 3,
    SOURCE_QUENCH = 4,
    REDIRECT = 5,
    TIME_EXCEEDED = 11,
    PARAMETER_PROBLEM = 12,
    ANSWER_TTL = 8,
    QUOTED_PAYLOAD = 8,
};

#define LIMIT_BURST 50
#define LIMIT_INTERVAL 1000000u /* nanoseconds */

static bool single_host(uint32_t address)
{
    uint32_t net = address >> 24;
    return net != 0 && net != 127 && address >> 28 < 0xe;
}

static bool is_error(const uint8_t *packet, const struct ip *ip)
{
    if (ip->total == ip->length) return true;
    switch (packet[ip->length]) {
    case UNREACHABLE:
    case SOURCE_QUENCH:
    case REDIRECT:
    case TIME_EXCEEDED:
    case PARAMETER_PROBLEM:
        return true;
    default:
        return false;
    }
}

bool icmp_answerable(const uint8_t *packet, const struct ip *ip, uint8_t code)
{
    if (ip->fragment & FRAGMENT_OFFSET) return false;
    if (ip->protocol == PROTOCOL_ICMP &&
        (code != FRAGMENTATION_NEEDED || is_error(packet, ip)))
        return false;
    return single_host(ip->source) && ip->destination >> 28 < 0xe;
}

bool icmp_allow(uint64_t *due, uint64_t now)
{
    uint64_t next = *due > now ? *due : now;
    if (next - now > (uint64_t)(LIMIT_BURST - 1) * LIMIT_INTERVAL) return false;
    *due = next + LIMIT_INTERVAL;
    return true;
}

uint32_t icmp_unreachable(uint8_t *out, const uint8_t *offender, const struct ip *ip,
                          uint32_t source, uint8_t code, uint16_t mtu)
{
    uint32_t quote = ip->length + QUOTED_PAYLOAD;
    if (quote > ip->total) quote = ip->total;
    uint32_t total = 20 + 8 + quote;

    memset(out, 0, 28);
    out[0] = 0x45;
    store16(out + 2, (uint16_t)total);
    out[8] = ANSWER_TTL;
    out[9] = PROTOCOL_ICMP;
    store32(out + 12, source);
    store32(out + 16, ip->source);
    store16(out + 10, checksum(out, 20));

    out[20] = UNREACHABLE;
    out[21] = code;
    store16(out + 26, mtu);
    memcpy(out + 28, offender, quote);
    store16(out + 22, checksum(out + 20, 8 + quote));
    return total;
}
