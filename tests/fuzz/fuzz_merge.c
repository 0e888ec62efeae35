/* Flows with troubles from the wire, merged: the frames stand for the very packets that
 * came. Input: a byte of choices: 1 and 2, which merges are on; 4, each packet is a burst
 * of its own; 8, how many more packets of its flow follow comes before each step; 16,
 * little room for results. Then the program. */
#include "fuzz.h"

enum { PACKETS = 160 };

/* Packets of one length, one behind the other, are one burst. */
static uint32_t gather(struct fp_burst *bursts, uint8_t *data, const uint32_t *lengths,
                       uint32_t count, bool apart)
{
    uint32_t made = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct fp_burst *last = made ? &bursts[made - 1] : NULL;
        bool joins = last && !apart && lengths[i] <= last->segment &&
                     last->length % last->segment == 0;
        if (joins)
            last->length += lengths[i];
        else
            bursts[made++] = (struct fp_burst){data, lengths[i], lengths[i], 1, 1};
        data += lengths[i];
    }
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp *paths[4];
    static uint8_t room[PACKETS * LONGEST];
    static struct fp_burst bursts[PACKETS];
    struct input input = {data, data + size};
    struct flow flows[4];
    uint32_t lengths[PACKETS], count = 0, used = 0;
    uint8_t what = take(&input);
    if (!paths[what & 3]) paths[what & 3] = new_path(1472, FP_VNET | (what & 3u) << 1);
    start_flows(flows);
    while (count < PACKETS && more(&input)) {
        uint8_t more_of_it = what & 8 ? take(&input) & 63 : 0;
        uint8_t plain = more(&input) ? *input.at | 0xfc : 0xfc; /* a step of that flow */
        used += lengths[count++] = step(&input, flows, room + used);
        for (; more_of_it && count < PACKETS; more_of_it--) {
            struct input again = {&plain, &plain + 1};
            used += lengths[count++] = step(&again, flows, room + used);
        }
    }
    uint8_t *exactly = exact(room, used);
    uint32_t made = gather(bursts, exactly, lengths, count, what & 4);
    judge_unwrap(paths[what & 3], 1472, bursts, made, what & 16 ? PACKETS / 8 : PACKETS);
    free(exactly);
    return 0;
}
