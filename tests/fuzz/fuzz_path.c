/* libFuzzer on the path without its system calls: any bytes, as a burst from the wire
 * and as frames from the TUN. Whatever comes out is sound, or this aborts.
 *
 * Input: a byte of choices, two bytes of segment size, then the bytes to be cut by it.
 * Choices: 1, put the right checksum into each IPv4 header (a fuzzer would not find it);
 * 2, use offloads; 4, the last ten bytes are the virtio header of each frame. */
#include "../../native/src/fastpath.h"

#include <stdlib.h>
#include <string.h>

enum { MTU = 1472, MOST = 4096 };

static struct fp *paths[2]; /* without offloads, and with */
static struct fp_burst bursts[MOST];
static struct fp_frame frames[MOST], results[MOST];
static uint8_t arena[MOST * FP_MAX_ANSWER];

static void check(int holds)
{
    if (!holds) abort();
}

static void check_sound(const uint8_t *packet, uint32_t length)
{
    struct ipv4 ip;
    check(length <= MTU && ipv4_parse(packet, length, &ip) < 0);
    check(ip.total == length && ip.ttl > 0);
}

static void put_checksum(uint8_t *packet, uint32_t length)
{
    uint32_t header = length < 20 ? 0 : (packet[0] & 0xfu) * 4;
    if (header < 20 || header > length) return;
    store16(packet + 10, 0);
    store16(packet + 10, checksum(packet, header));
}

/* The bytes of the input, cut, and their checksums put right if it asks for that. */
static void prepare(uint8_t *copy, const uint8_t *data, uint32_t length, uint32_t segment)
{
    memcpy(copy, data + 3, length);
    for (uint32_t at = 0; data[0] & 1 && at < length; at += segment)
        put_checksum(copy + at, length - at < segment ? length - at : segment);
}

static struct fp_output output(void)
{
    return (struct fp_output){.bursts = bursts, .frames = results, .capacity = MOST,
                              .arena = arena, .arena_size = sizeof arena};
}

static void set_up(void)
{
    struct fp_config config = {-1, -1, -1, .mtu = MTU, .address = 0x0a050100, .batch = 1};
    struct fp_route routes[] = {
        {0x0a050200, 24, 0xc0000202, 8285}, {0x0a050000, 16, 0xc0000203, 8285},
        {0x0a0502fe, 32, 0xc0000204, 8285}, {0x80000000, 1, 0xc0000205, 8285},
    };
    for (int i = 0; i < 2; i++) {
        config.offloads = i ? FP_VNET | FP_MERGE_TCP | FP_MERGE_UDP : 0;
        check(fp_new(&config, &paths[i]) == 0);
        check(fp_set_route(paths[i], routes, sizeof routes / sizeof *routes) == 0);
    }
}

/* Whatever a frame stands for is sound; a merged one is within its limits. */
static void check_frame(const struct fp_frame *frame)
{
    struct ipv4 ip;
    struct cut cut;
    check(ipv4_parse(frame->data, frame->length, &ip) < 0 && ip.total == frame->length);
    check(split_plan(frame, &ip, &cut) < 0 && ip.ttl > 0);
    check((cut.packets > 1 ? cut.headers + cut.segment : ip.total) <= MTU);
}

static void unwrap(struct fp *fp, uint8_t *copy, uint32_t length, uint32_t segment)
{
    struct fp_burst burst = {copy, length, segment, 1, 1};
    struct fp_output out = output();
    check(fp_unwrap(fp, &burst, 1, &out) == 1);
    for (uint32_t i = 0; i < out.frame_count; i++) check_frame(&out.frames[i]);
}

static void wrap(struct fp *fp, uint8_t *copy, uint32_t length, uint32_t segment,
                 struct fp_vnet vnet)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at < length; at += segment, count++)
        frames[count] = (struct fp_frame){
            copy + at, length - at < segment ? length - at : segment, vnet,
        };
    for (uint32_t done = 0; done < count;) {
        struct fp_output out = output();
        int consumed = fp_wrap(fp, frames + done, count - done, 0, &out);
        check(consumed > 0);
        done += (uint32_t)consumed;
        for (uint32_t i = 0; i < out.burst_count; i++) {
            const struct fp_burst *b = &out.bursts[i];
            for (uint32_t at = 0; at < b->length; at += b->segment)
                check_sound(b->data + at,
                            b->length - at < b->segment ? b->length - at : b->segment);
        }
        for (uint32_t i = 0; i < out.frame_count; i++)
            check_sound(out.frames[i].data, out.frames[i].length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!paths[0]) set_up();
    if (size < 3) return 0;
    struct fp_vnet vnet = {0};
    uint32_t segment = 1u + load16(data + 1), length = (uint32_t)size - 3;
    if (data[0] & 4 && length >= sizeof vnet) {
        length -= sizeof vnet;
        memcpy(&vnet, data + 3 + length, sizeof vnet);
    }
    if (length / segment >= MOST) return 0;
    struct fp *fp = paths[data[0] >> 1 & 1];
    uint8_t *copy = malloc(length + 1); /* of the exact size, so that ASan sees more */
    prepare(copy, data, length, segment);
    unwrap(fp, copy, length, segment);
    prepare(copy, data, length, segment);
    wrap(fp, copy, length, segment, vnet);
    free(copy);
    return 0;
}
