/* A superpacket from the TUN becomes the packets that it stands for. Input: what MTU and
 * arena; then the program of up to three superpackets. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp *paths[3];
    static const uint32_t mtus[3] = {1472, 65507, 68};
    static uint8_t room[FP_MAX_PACKET + LONGEST];
    struct input input = {data, data + size};
    struct flow flows[4];
    struct fp_frame frames[3];
    uint32_t count = 0;
    uint8_t what = take(&input);
    uint32_t mtu = what % 3, arena = what & 0x80 ? 4096 : ARENA;
    if (!paths[mtu]) paths[mtu] = new_path(mtus[mtu], FP_VNET);
    start_flows(flows);
    while (count < 3 && more(&input)) {
        struct fp_frame *frame = &frames[count];
        frame->data = room;
        frame->length = superpacket(&input, flows, frame);
        if (too_fine(frame)) continue;
        frame->data = exact(room, frame->length);
        count++;
    }
    judge_wrap(paths[mtu], mtus[mtu], frames, count, 8, arena);
    while (count) free(frames[--count].data);
    return 0;
}
