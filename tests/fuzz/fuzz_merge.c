/* Flows with troubles from the wire, merged: the frames stand for the very packets that
 * came. Input: two bytes of the path; a byte of choices: 1 and 2, which flows are IPv6; 4,
 * each packet is a burst of its own; 8, how many more packets of its flow follow comes
 * before each step; 16, no superpackets of kernels. Then the program. */
#include "fuzz.h"

enum { PACKETS = 160, SUPERPACKETS = 3 };

struct datagram {
    uint32_t length, segment; /* segment 0: a datagram as any; else a burst of its own */
    uint8_t sender;
};

static uint8_t room[PACKETS * (LONGEST + FRONT) + SUPERPACKETS * (FP_MAX_PACKET + FRONT)];

/* Packets of one length from one sender, one behind the other, are one burst. */
static uint32_t gather(struct fp_burst *bursts, uint8_t *data,
                       const struct datagram *datagrams, uint32_t count, bool apart)
{
    uint32_t made = 0;
    bool closed = true; /* the last burst takes no more */
    for (uint32_t i = 0; i < count; i++) {
        const struct datagram *one = &datagrams[i];
        struct fp_burst *last = &bursts[made ? made - 1 : 0];
        bool joins = !closed && !apart && !one->segment && one->length <= last->segment &&
                     last->length % last->segment == 0 &&
                     memcmp(&last->peer, &senders[one->sender], sizeof last->peer) == 0;
        if (joins)
            last->length += one->length;
        else
            bursts[made++] = (struct fp_burst){
                data, one->length, one->segment ? one->segment : one->length, 0, 0,
                senders[one->sender],
            };
        closed = one->segment;
        data += one->length;
    }
    return made;
}

/* What a kernel sends to a machine beside it; true if it is one that is judged. */
static bool kernels_superpacket(const struct path *path, struct input *input,
                                struct flow flows[4], uint8_t *data, struct datagram *one)
{
    struct flow made;
    struct fp_frame frame = {.data = data + path->front};
    uint8_t what = take(input);
    uint32_t length = superpacket(input, flows, &frame, &made);
    uint32_t told = what & 1 ? 0 : frame.vnet.segment;
    if (too_fine(&frame) || (!told && what & 2)) return false;
    if (what & 4) fix(frame.data, length); /* its checksum is whole */
    put_front_to_us(path, data, what & 8 ? what | 0xf0 : UNSPOILT);
    length += path->front;
    *one = (struct datagram){length, told ? told : length, made.sender};
    return true;
}

static uint32_t run_program(const struct path *path, struct input *input, uint8_t what,
                            struct datagram *datagrams, uint32_t *used)
{
    struct flow flows[4], made;
    uint32_t count = 0, superpackets = 0;
    start_flows(flows, what);
    while (count < PACKETS && more(input)) {
        bool large = *input->at >= 0xfc && !(what & 16) && superpackets < SUPERPACKETS;
        if (large) {
            take(input);
            superpackets++;
            if (kernels_superpacket(path, input, flows, room + *used, &datagrams[count]))
                *used += datagrams[count++].length;
            continue;
        }
        uint8_t more_of_it = what & 8 ? take(input) & 63 : 0;
        uint8_t plain = more(input) ? *input->at | 0xfc : 0xfc; /* a step of that flow */
        struct input again = *input, *from = input;
        for (uint32_t i = 0; i <= more_of_it && count < PACKETS; i++) {
            uint8_t *data = room + *used;
            uint32_t length = step(from, flows, data + path->front, &made) + path->front;
            put_front_to_us(path, data, made.change == FRONT_BIT ? made.where : UNSPOILT);
            datagrams[count++] = (struct datagram){length, 0, made.sender};
            *used += length;
            again = (struct input){&plain, &plain + 1};
            from = &again;
        }
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fp_burst bursts[PACKETS];
    struct input input = {data, data + size};
    struct datagram datagrams[PACKETS];
    uint32_t used = 0;
    uint8_t first = take(&input), second = take(&input), what = take(&input);
    const struct path *path = choose_path(first, second);
    uint32_t count = run_program(path, &input, what, datagrams, &used);
    uint8_t *exactly = exact(room, used);
    uint32_t made = gather(bursts, exactly, datagrams, count, what & 4);
    judge_unwrap(path, bursts, made);
    free(exactly);
    return 0;
}
