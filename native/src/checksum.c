/* The Internet checksum, for headers and for 64 KiB superpackets alike.
 *
 * A one's complement sum does not care for the order of bytes in its words (RFC 1071
 * section 2B): words are added as they lie in memory, and the result is turned round
 * once. One body serves two machines: the compiler vectorises it for AVX2 as well, and a
 * look at the processor chooses. */
#include "fastpath.h"

#include <string.h>

static inline __attribute__((always_inline)) uint64_t sum_blocks(const uint8_t *data,
                                                                 size_t blocks)
{
    uint64_t lanes[8] = {0};
    for (size_t i = 0; i < blocks; i++) {
        uint32_t words[8];
        memcpy(words, data + i * sizeof words, sizeof words);
        for (int lane = 0; lane < 8; lane++) lanes[lane] += words[lane];
    }
    uint64_t sum = 0;
    for (int lane = 0; lane < 8; lane++) sum += lanes[lane];
    return sum;
}

static __attribute__((optimize("O3"))) uint64_t sum_portable(const uint8_t *data,
                                                             size_t blocks)
{
    return sum_blocks(data, blocks);
}

#if defined(__x86_64__)
static __attribute__((target("avx2"), optimize("O3"))) uint64_t
sum_avx2(const uint8_t *data, size_t blocks)
{
    return sum_blocks(data, blocks);
}

static uint64_t sum_best(const uint8_t *data, size_t blocks)
{
    return __builtin_cpu_supports("avx2") ? sum_avx2(data, blocks)
                                          : sum_portable(data, blocks);
}
#else
static uint64_t sum_best(const uint8_t *data, size_t blocks)
{
    return sum_portable(data, blocks);
}
#endif

uint32_t checksum_sum(const uint8_t *data, size_t length)
{
    uint64_t sum = 0;
    if (length >= 256) {
        size_t blocks = length / 32;
        sum = sum_best(data, blocks);
        data += blocks * 32;
        length -= blocks * 32;
    }
    for (; length >= 4; data += 4, length -= 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        sum += word;
    }
    uint8_t rest[4] = {0}; /* zeros add nothing */
    memcpy(rest, data, length);
    uint32_t last;
    memcpy(&last, rest, 4);
    sum += last;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    uint16_t folded = (uint16_t)sum;
    return load16((const uint8_t *)&folded);
}
