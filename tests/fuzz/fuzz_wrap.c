/* Frames of every kind from the TUN: each packet in them becomes a datagram to the right
 * peer, or is dropped for the right reason, and answered if that is due.
 *
 * Input: two bytes of the path; a byte of choices: 1 and 2, which flows are IPv6; 4, frames
 * apart, not end to end. With 8, any bytes follow: two bytes of a size, and what is cut by
 * it to frames; 0x10, with right IPv4 checksums; 0x20, with the last ten bytes as each
 * one's offload header. Without 8, a program: packets, some with offload headers, and
 * superpackets; 0x40, none of these, but each packet many times. */
#include "fuzz.h"

enum { STEPS = 256 };

static struct fp_frame frames[FRAMES];
static uint8_t room[4 * FP_MAX_PACKET + STEPS * LONGEST]; /* they lie end to end */

static uint32_t read_bytes(struct input *input, uint8_t choices)
{
    struct fp_vnet vnet = {0};
    uint32_t segment = 1u + take2(input), count = 0;
    uint8_t *end = room;
    if (choices & 0x20 && (size_t)(input->end - input->at) >= sizeof vnet) {
        input->end -= sizeof vnet;
        memcpy(&vnet, input->end, sizeof vnet);
    }
    for (; more(input) && count < FRAMES; count++) {
        uint32_t left = (uint32_t)(input->end - input->at);
        uint32_t length = left < segment ? left : segment;
        frames[count] = (struct fp_frame){end, length, vnet, 0};
        memcpy(end, input->at, length);
        if (choices & 0x10 && length >= 20) {
            uint32_t header = read_head(end).length;
            if (header >= 20 && header <= length) put_header_checksum(end);
        }
        input->at += length;
        end += length;
    }
    return count;
}

/* A packet, and perhaps an offload header that does not cut it. */
static void one_packet(struct input *input, struct flow flows[4], uint8_t kind,
                       struct fp_frame *frame)
{
    struct flow made;
    frame->length = step(input, flows, frame->data, &made);
    bool tcp = made.protocol == TCP, partial = kind & 0x40 && (tcp || made.protocol == UDP);
    if (partial)
        frame->vnet = (struct fp_vnet){FP_VNET_NEEDS_CSUM, 0, 0, 0,
                                       (uint16_t)before_l4(&made), tcp ? 16 : 6};
    uint32_t length = before_l4(&made) + l4_header(&made) + made.size;
    if (partial && !made.change) put_partial(&made, frame->data, length);
    if (kind & 0x80) frame->vnet.checksum_offset = kind & 0x3f;
}

static uint32_t run_program(struct input *input, uint8_t choices)
{
    struct flow flows[4], made;
    uint32_t count = 0, superpackets = 0;
    uint8_t *end = room;
    start_flows(flows, choices);
    while (more(input) && count < STEPS) {
        struct fp_frame *frame = &frames[count];
        *frame = (struct fp_frame){.data = end};
        uint8_t kind = take(input);
        bool large = kind >= 0xf0 && !(choices & 0x40);
        if (large && superpackets++ < 3)
            frame->length = superpacket(input, flows, frame, &made);
        else
            one_packet(input, flows, choices & 0x40 ? 0 : kind, frame);
        if (too_fine(frame)) continue;
        end += frame->length;
        uint32_t again = choices & 0x40 ? kind & 63 : 0;
        for (count++; again && count < STEPS; again--) { /* enough to be limited */
            frames[count] = frames[count - 1];
            frames[count].data = end;
            memcpy(end, frames[count - 1].data, frames[count].length);
            end += frames[count++].length;
        }
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    struct memory memory;
    uint8_t first = take(&input), second = take(&input), choices = take(&input);
    const struct path *path = choose_path(first, second);
    uint32_t count =
        choices & 8 ? read_bytes(&input, choices) : run_program(&input, choices);
    own_memory(&memory, frames, count, path->front, choices & 4);
    judge_wrap(path, frames, count);
    free_memory(&memory);
    return 0;
}
