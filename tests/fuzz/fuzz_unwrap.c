/* Bursts of every kind from the wire: each datagram becomes a packet, alone or in a
 * superpacket, or is dropped for the right reason.
 *
 * Input: a byte of choices, and of each burst two bytes of a segment size, two of a
 * length, and as many bytes; with 1, as IPv4 packets with right checksums. 2: with
 * merges; 0x10: little room for results; 0x20, a small MTU. */
#include "fuzz.h"

static void put_checksums(const struct fp_burst *burst)
{
    for (uint32_t at = 0; at < burst->length; at += burst->segment) {
        uint32_t left = burst->length - at;
        uint32_t length = left < burst->segment ? left : burst->segment;
        if (length >= 20) fix(burst->data + at, length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp *paths[4];
    static struct fp_burst bursts[FRAMES];
    struct input input = {data, data + size};
    uint8_t choices = take(&input);
    uint32_t path = (choices >> 4 & 2) | (choices >> 1 & 1), count = 0, used = 0;
    uint32_t mtu = path & 2 ? 100 : 1472;
    uint32_t merges = path & 1 ? FP_VNET | FP_MERGE_TCP | FP_MERGE_UDP : 0;
    if (!paths[path]) paths[path] = new_path(mtu, merges);
    uint8_t *room = malloc(size + 1);
    check(room != NULL);
    while (more(&input) && count < FRAMES) {
        uint32_t segment = 1u + take2(&input) % 2000, length = take2(&input);
        uint32_t left = (uint32_t)(input.end - input.at);
        if (length > left) length = left;
        if (length / segment > 200) segment = length / 200 + 1;
        struct fp_burst burst = {room + used, length, segment, 1, 1};
        memcpy(burst.data, input.at, length);
        if (choices & 1) put_checksums(&burst);
        bursts[count++] = burst;
        used += length;
        input.at += length;
    }
    uint8_t *exactly = exact(room, used); /* beyond the last burst there is nothing */
    for (uint32_t i = 0; i < count; i++) bursts[i].data += exactly - room;
    judge_unwrap(paths[path], mtu, bursts, count, choices & 0x10 ? 8 : FRAMES);
    free(exactly);
    free(room);
    return 0;
}
