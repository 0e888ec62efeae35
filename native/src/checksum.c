/* The Internet checksum, for headers and for 64 KiB superpackets alike, and the copy that
 * sums as it goes.
 *
 * A one's complement sum does not care for the order of bytes in its words (RFC 1071
 * section 2B), nor for their width: words are added as they lie in memory, and the
 * result is folded to 16 bits and turned round once.
 *
 * Two bodies sum blocks, and a look at the processor chooses: a portable one, and one of
 * AVX2 intrinsics. Left to make that from the portable one, gcc 12 takes each block
 * through the stack, and twenty times as long. */
#include "fastpath.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { BLOCK = 32 }; /* bytes */

/* Sum blocks, and copy them if `to` is not NULL. */
static __attribute__((optimize("O3"))) uint64_t blocks_portable(uint8_t *to,
                                                                const uint8_t *from,
                                                                size_t blocks)
{
    uint64_t lanes[BLOCK / 4] = {0};
    for (size_t i = 0; i < blocks; i++) {
        uint32_t words[BLOCK / 4];
        memcpy(words, from + i * BLOCK, BLOCK);
        if (to) memcpy(to + i * BLOCK, words, BLOCK);
        for (int lane = 0; lane < BLOCK / 4; lane++) lanes[lane] += words[lane];
    }
    uint64_t sum = 0;
    for (int lane = 0; lane < BLOCK / 4; lane++) sum += lanes[lane];
    return sum;
}

#if defined(__x86_64__)
/* vpmaddwd adds pairs of 16-bit words to 32 bits, but takes them as signed: so each word
 * loses 0x8000 first (that is: turns its top bit), and gets it back in the end. */
static __attribute__((target("avx2"))) uint64_t blocks_avx2(uint8_t *to,
                                                            const uint8_t *from,
                                                            size_t blocks)
{
    const __m256i top = _mm256_set1_epi16(INT16_MIN), one = _mm256_set1_epi16(1);
    __m256i lanes = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (size_t i = 0; i < blocks; i++) {
        __m256i words = _mm256_loadu_si256((const __m256i *)(from + i * BLOCK));
        if (to) _mm256_storeu_si256((__m256i *)(to + i * BLOCK), words);
        __m256i pairs = _mm256_madd_epi16(_mm256_xor_si256(words, top), one);
        lanes = _mm256_add_epi32(lanes, pairs);
    }
    /* Eight sums of 32 bits become four of 64, two, one. */
    __m256i four = _mm256_add_epi64(
        _mm256_cvtepi32_epi64(_mm256_castsi256_si128(lanes)),
        _mm256_cvtepi32_epi64(_mm256_extracti128_si256(lanes, 1)));
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four),
                                _mm256_extracti128_si256(four, 1));
    int64_t sum = _mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1);
    return (uint64_t)sum + blocks * (BLOCK / 2) * 0x8000;
}

static uint64_t blocks_best(uint8_t *to, const uint8_t *from, size_t blocks)
{
    return __builtin_cpu_supports("avx2") ? blocks_avx2(to, from, blocks)
                                          : blocks_portable(to, from, blocks);
}
#else
static uint64_t blocks_best(uint8_t *to, const uint8_t *from, size_t blocks)
{
    return blocks_portable(to, from, blocks);
}
#endif

/* Add what is left behind the blocks, fold, turn round. */
static uint32_t finish(uint64_t sum, const uint8_t *data, size_t length)
{
    for (; length >= 4; data += 4, length -= 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        sum += word;
    }
    if (length) { /* zeros add nothing */
        uint8_t rest[4] = {data[0], length > 1 ? data[1] : 0, length > 2 ? data[2] : 0};
        uint32_t last;
        memcpy(&last, rest, 4);
        sum += last;
    }
    uint16_t folded = (uint16_t)checksum_fold(sum);
    return load16((const uint8_t *)&folded);
}

uint32_t checksum_sum(const uint8_t *data, size_t length)
{
    if (length < BLOCK) return finish(0, data, length);
    size_t whole = length / BLOCK * BLOCK;
    uint64_t sum = blocks_best(NULL, data, length / BLOCK);
    return finish(sum, data + whole, length - whole);
}

uint32_t checksum_copy(uint8_t *to, const uint8_t *from, size_t length)
{
    size_t whole = length / BLOCK * BLOCK;
    uint64_t sum = blocks_best(to, from, length / BLOCK);
    memcpy(to + whole, from + whole, length - whole);
    return finish(sum, from + whole, length - whole);
}
