/* Frames of every kind from the TUN: each packet in them becomes a datagram to the right
 * peer, or is dropped for the right reason.
 *
 * Input: a byte of choices. With 8, any bytes follow: two bytes of a size, and what is
 * cut by it to frames; 1, with right IPv4 checksums; 4, with the last ten bytes as each
 * one's offload header. Without 8, a program: packets, some with offload headers, and
 * superpackets. 0x10 and 0x20: little room for results. */
#include "fuzz.h"

static struct fp_frame frames[FRAMES];
static uint8_t room[4 * FP_MAX_PACKET + 256 * LONGEST]; /* they lie end to end */

static uint32_t read_bytes(struct input *input, uint8_t choices)
{
    struct fp_vnet vnet = {0};
    uint32_t segment = 1u + take2(input), count = 0;
    uint8_t *end = room;
    if (choices & 4 && (size_t)(input->end - input->at) >= sizeof vnet) {
        input->end -= sizeof vnet;
        memcpy(&vnet, input->end, sizeof vnet);
    }
    for (; more(input) && count < FRAMES; count++) {
        uint32_t left = (uint32_t)(input->end - input->at);
        uint32_t length = left < segment ? left : segment;
        frames[count] = (struct fp_frame){end, length, vnet};
        memcpy(end, input->at, length);
        if (choices & 1 && length >= 20 && header_length(end) >= 20 &&
            header_length(end) <= length)
            put_header_checksum(end);
        input->at += length;
        end += length;
    }
    return count;
}

static uint32_t run_program(struct input *input)
{
    struct flow flows[4];
    uint32_t count = 0, superpackets = 0;
    uint8_t *end = room;
    start_flows(flows);
    while (more(input) && count < 256) {
        struct fp_frame *frame = &frames[count];
        *frame = (struct fp_frame){.data = end};
        uint8_t kind = take(input);
        if (kind >= 0xf0 && superpackets++ < 3) {
            frame->length = superpacket(input, flows, frame);
        } else {
            frame->length = step(input, flows, end);
            bool tcp = end[9] == TCP, partial = kind & 0x40 && (tcp || end[9] == UDP);
            if (partial)
                frame->vnet = (struct fp_vnet){FP_VNET_NEEDS_CSUM, 0, 0, 0,
                                               (uint16_t)header_length(end), tcp ? 16 : 6};
            if (partial && get(end + 2, 2) == frame->length && frame->length >= 40)
                put_partial(end, frame->length);
            if (kind & 0x80) frame->vnet.checksum_offset = kind & 0x3f;
        }
        if (too_fine(frame)) continue;
        end += frame->length;
        count++;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp *fp;
    if (!fp) fp = new_path(1472, FP_VNET);
    struct input input = {data, data + size};
    uint8_t choices = take(&input);
    uint32_t count = choices & 8 ? read_bytes(&input, choices) : run_program(&input);
    uint32_t used = count ? (uint32_t)(frames[count - 1].data - room) : 0;
    if (count) used += frames[count - 1].length;
    uint8_t *exactly = exact(room, used); /* beyond the last frame there is nothing */
    for (uint32_t i = 0; i < count; i++) frames[i].data += exactly - room;
    judge_wrap(fp, 1472, frames, count, choices & 0x10 ? 2 : FRAMES,
               choices & 0x20 ? 4096 : ARENA);
    free(exactly);
    return 0;
}
