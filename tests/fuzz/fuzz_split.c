/* A superpacket from the TUN becomes the packets that it stands for. Input: two bytes of
 * the path, one of flows: 1 and 2, which are IPv6, 4, frames apart; then the program of up
 * to three superpackets. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t room[3][FP_MAX_PACKET + LONGEST];
    struct input input = {data, data + size};
    struct flow flows[4], made;
    struct fp_frame frames[3];
    struct memory memory;
    uint32_t count = 0;
    uint8_t first = take(&input), second = take(&input), what = take(&input);
    const struct path *path = choose_path(first, second);
    start_flows(flows, what);
    while (count < 3 && more(&input)) {
        struct fp_frame *frame = &frames[count];
        frame->data = room[count];
        frame->length = superpacket(&input, flows, frame, &made);
        if (!too_fine(frame)) count++;
    }
    own_memory(&memory, frames, count, path->front, what & 4);
    judge_wrap(path, frames, count);
    free_memory(&memory);
    return 0;
}
