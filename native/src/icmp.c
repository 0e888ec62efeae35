/* Errors of ICMP and ICMPv6. The twins, with the reasons, are encap/icmp.py, icmp6.py. */
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
    NET_UNREACHABLE = 0,
    FRAGMENTATION_NEEDED = 4,

    PROTOCOL_ICMPV6 = 58,
    UNREACHABLE_6 = 1,
    TOO_BIG_6 = 2,
    FIRST_QUESTION_6 = 128, /* types below it are errors */
    REDIRECT_6 = 137,
    ANSWER_HOPS_6 = 64,
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

static bool answerable4(const uint8_t *packet, const struct ip *ip, enum icmp_error error)
{
    if (ip->fragment & FRAGMENT_OFFSET) return false;
    if (ip->protocol == PROTOCOL_ICMP && (error != TOO_BIG || is_error(packet, ip)))
        return false;
    return single_host(ip->source) && ip->destination >> 28 < 0xe;
}

static bool answerable6(const uint8_t *packet, const struct ip *ip, enum icmp_error error)
{
    if (ip->protocol == PROTOCOL_ICMPV6 &&
        (ip->total == ip->length || packet[ip->length] < FIRST_QUESTION_6 ||
         packet[ip->length] == REDIRECT_6))
        return false;
    uint64_t high = load64(packet + 8), low = load64(packet + 16);
    bool unspecified_or_loopback = !high && low <= 1;
    bool to_group = packet[24] == 0xff;
    return !unspecified_or_loopback && packet[8] != 0xff && (!to_group || error == TOO_BIG);
}

bool icmp_answerable(const uint8_t *packet, const struct ip *ip, enum icmp_error error)
{
    return ip->version == 6 ? answerable6(packet, ip, error)
                            : answerable4(packet, ip, error);
}

bool icmp_allow(uint64_t *due, uint64_t now)
{
    uint64_t next = *due > now ? *due : now;
    if (next - now > (uint64_t)(LIMIT_BURST - 1) * LIMIT_INTERVAL) return false;
    *due = next + LIMIT_INTERVAL;
    return true;
}

static uint32_t answer4(uint8_t *out, const uint8_t *offender, const struct ip *ip,
                        const struct fp_config *own, enum icmp_error error)
{
    uint32_t quote = ip->length + QUOTED_PAYLOAD;
    if (quote > ip->total) quote = ip->total;
    uint32_t total = 20 + 8 + quote;

    memset(out, 0, 28);
    out[0] = 0x45;
    store16(out + 2, (uint16_t)total);
    out[8] = ANSWER_TTL;
    out[9] = PROTOCOL_ICMP;
    store32(out + 12, own->address);
    store32(out + 16, ip->source);
    store16(out + 10, checksum(out, 20));

    out[20] = UNREACHABLE;
    out[21] = error == TOO_BIG ? FRAGMENTATION_NEEDED : NET_UNREACHABLE;
    store16(out + 26, error == TOO_BIG ? (uint16_t)own->mtu : 0);
    memcpy(out + 28, offender, quote);
    store16(out + 22, checksum(out + 20, 8 + quote));
    return total;
}

static uint32_t answer6(uint8_t *out, const uint8_t *offender, const struct ip *ip,
                        const struct fp_config *own, enum icmp_error error)
{
    uint32_t most = FP_MAX_ANSWER - IPV6_HEADER - 8;
    uint32_t quote = ip->total < most ? ip->total : most, length = 8 + quote;
    uint8_t *body = out + IPV6_HEADER;

    memset(out, 0, IPV6_HEADER + 8);
    out[0] = 0x60;
    store16(out + 4, (uint16_t)length);
    out[6] = PROTOCOL_ICMPV6;
    out[7] = ANSWER_HOPS_6;
    store64(out + 8, own->high6);
    store64(out + 16, own->low6);
    memcpy(out + 24, offender + 8, 16);

    body[0] = error == TOO_BIG ? TOO_BIG_6 : UNREACHABLE_6;
    store32(body + 4, error == TOO_BIG ? own->mtu6 : 0);
    memcpy(body + 8, offender, quote);
    uint32_t sum = checksum_add(pseudo_sum(out, PROTOCOL_ICMPV6, length),
                                checksum_sum(body, length));
    store16(body + 2, (uint16_t)~sum);
    return IPV6_HEADER + length;
}

uint32_t icmp_answer(uint8_t *out, const uint8_t *offender, const struct ip *ip,
                     const struct fp_config *own, enum icmp_error error)
{
    return ip->version == 6 ? answer6(out, offender, ip, own, error)
                            : answer4(out, offender, ip, own, error);
}
