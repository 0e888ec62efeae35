/* Bursts of every kind from the wire: each datagram becomes a packet, alone or in a
 * superpacket, or is dropped for the right reason.
 *
 * Input: two bytes of the path; a byte of choices; and of each burst one byte of its
 * sender, two of a segment size, two of a length, and as many bytes. 1: as packets with
 * right checksums; 2, whose length is right, too; 4, behind VXLAN's headers for us; 8, a
 * first packet that says that it is the whole burst; 0x10, as probes. */
#include "fuzz.h"

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Make of any bytes what the choices say. */
static void improve(const struct path *path, const struct fp_burst *burst, uint8_t choices,
                    uint8_t spoil)
{
    for (uint32_t at = 0; at < burst->length; at += burst->segment) {
        bool whole = choices & 8 && at == 0;
        uint32_t left = burst->length - at;
        uint32_t length = whole ? left : minimum(left, burst->segment);
        uint8_t *packet = burst->data + at + path->front;
        if (choices & 0x10 && length >= PROBE_BYTES) {
            memcpy(burst->data + at, probe_head, sizeof probe_head);
            if (spoil < sizeof probe_head) burst->data[at + spoil] ^= 1;
            continue;
        }
        if (length < path->front + HEADER6) continue;
        uint32_t inner = length - path->front;
        if (choices & 2 || whole) put_total(packet, inner);
        if (choices & 1) fix(packet, inner);
        if (choices & 4) put_front_to_us(path, burst->data + at, at ? UNSPOILT : spoil);
        if (whole) return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp_burst bursts[FRAMES];
    struct input input = {data, data + size};
    uint32_t count = 0, used = 0;
    uint8_t first = take(&input), second = take(&input), choices = take(&input);
    const struct path *path = choose_path(first, second);
    uint8_t *room = malloc(size + 1);
    check(room != NULL);
    while (more(&input) && count < FRAMES) {
        uint8_t sender = take(&input);
        uint32_t segment = 1u + take2(&input) % 2000, length = take2(&input);
        length = minimum(length, (uint32_t)(input.end - input.at));
        if (length / segment > 200) segment = length / 200 + 1;
        struct fp_burst burst = {room + used, length, segment, 0, 0, senders[sender % SENDERS]};
        memcpy(burst.data, input.at, length);
        /* Three of four are not spoilt. */
        bool spoils = length > FRONT && sender >= 0xc0;
        improve(path, &burst, choices, spoils ? input.at[0] : UNSPOILT);
        bursts[count++] = burst;
        used += length;
        input.at += length;
    }
    uint8_t *exactly = exact(room, used); /* beyond the last burst there is nothing */
    for (uint32_t i = 0; i < count; i++) bursts[i].data += exactly - room;
    judge_unwrap(path, bursts, count);
    free(exactly);
    free(room);
    return 0;
}
