/* checksum.c with its static bodies in reach, for test_checksum.py. */
#include "../../native/src/checksum.c"

uint64_t portable(uint8_t *to, const uint8_t *from, size_t blocks)
{
    return blocks_portable(to, from, blocks);
}

uint64_t best(uint8_t *to, const uint8_t *from, size_t blocks)
{
    return blocks_best(to, from, blocks);
}
