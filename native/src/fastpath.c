/* One handle: its memory, its counters. */
#define _GNU_SOURCE
#include "fastpath.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* What one batch may move. Small enough to stay in a processor's second-level cache:
 * that is worth more than a longer batch. */
enum {
    TX_BYTES = 2 * 65536,    /* frames read before the first is sent */
    TX_ARENA = 2 * 65536,    /* what they are cut into; a superpacket fits twice */
    /* A receive with UDP_GRO; and some cache lines, or all slots' beginnings would lie in
     * the same few sets of the cache. */
    GRO_SLOT = 65536 + 5 * 64,
    GRO_SLOTS = 64,
    GRO_DATAGRAMS = 128,     /* in one such receive, at most (net/ipv4/udp_offload.c) */
    SEND_MESSAGES = 64,      /* given to one sendmmsg */
    HUGE_PAGE = 2 << 20,
};

/* Bytes of packet memory that a direction needs: its buffer, then its arena. */
static void pump_plan(struct pump *pump, const struct fp_config *config,
                      enum fp_direction direction)
{
    uint32_t batch = config->batch, room = config->vxlan ? FP_HEADROOM : 0;
    uint32_t mtu = config->mtu > config->mtu6 ? config->mtu : config->mtu6;
    pump->out.arena_size = TX_ARENA + batch * (config->mtu6 ? FP_MAX_ANSWER : MAX_ANSWER4);
    if (direction == FP_TX) {
        size_t plain = (size_t)batch * (room + mtu + 1) + FP_MAX_PACKET + 1 + room;
        bool vnet = config->offloads & FP_VNET;
        pump->buffer_size = vnet && batch > 1 ? TX_BYTES + FP_MAX_PACKET + 1 : plain;
        pump->message_count = batch > SEND_MESSAGES ? batch : SEND_MESSAGES;
        pump->out.capacity = batch;
        return;
    }
    /* A kernel's VXLAN device may hand over superpackets, GRO or not. */
    bool large = config->offloads & FP_GRO || config->vxlan;
    /* Else at least a cache line more than the MTU, so that longer ones show. */
    pump->slot_size = large ? GRO_SLOT : (mtu / 64 + 2) * 64;
    pump->message_count = large && batch > GRO_SLOTS ? GRO_SLOTS : batch;
    pump->buffer_size = pump->message_count * pump->slot_size;
    pump->width = pump->message_count;
    pump->out.capacity = pump->message_count * (large ? GRO_DATAGRAMS : 1);
}

/* `memory` is where the packets go. */
static int pump_allocate(struct pump *pump, uint8_t *memory)
{
    uint32_t messages = pump->message_count, results = pump->out.capacity;
    pump->buffer = memory;
    pump->out.arena = memory + pump->buffer_size;
    pump->messages = calloc(messages, sizeof *pump->messages);
    pump->iovecs = calloc(messages, sizeof *pump->iovecs);
    pump->addresses = calloc(messages, sizeof *pump->addresses);
    pump->controls = calloc(messages, sizeof *pump->controls);
    pump->segments = calloc(messages, sizeof *pump->segments);
    pump->numbers = calloc(messages, sizeof *pump->numbers);
    pump->frames = calloc(results, sizeof *pump->frames);
    pump->bursts = calloc(messages, sizeof *pump->bursts);
    pump->out.bursts = calloc(results, sizeof *pump->out.bursts);
    pump->out.frames = calloc(results, sizeof *pump->out.frames);
    bool complete = pump->messages && pump->iovecs && pump->addresses &&
                    pump->controls && pump->segments && pump->numbers && pump->frames &&
                    pump->bursts && pump->out.bursts && pump->out.frames;
    return complete ? 0 : -ENOMEM;
}

static void pump_free(struct pump *pump)
{
    free(pump->messages);
    free(pump->iovecs);
    free(pump->addresses);
    free(pump->controls);
    free(pump->segments);
    free(pump->numbers);
    free(pump->frames);
    free(pump->bursts);
    free(pump->out.bursts);
    free(pump->out.frames);
}

/* All packets are in one piece of memory, on huge pages where the kernel has them: every
 * packet is copied there and from there, and with pages of 4 KiB the processor looks for
 * a page so often that all in all 7 % of its time go there. */
static int packet_memory(struct fp *fp)
{
    size_t size = 0;
    for (int i = 0; i < FP_DIRECTIONS; i++) {
        struct pump *pump = &fp->pumps[i];
        pump_plan(pump, &fp->config, (enum fp_direction)i);
        size += pump->buffer_size + pump->out.arena_size;
    }
    fp->memory = aligned_alloc(HUGE_PAGE, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (!fp->memory) return -ENOMEM;
    madvise(fp->memory, size, MADV_HUGEPAGE); /* a wish: without, it is only slower */
    uint8_t *next = fp->memory;
    int error = 0;
    for (int i = 0; i < FP_DIRECTIONS && !error; i++) {
        struct pump *pump = &fp->pumps[i];
        error = pump_allocate(pump, next);
        next += pump->buffer_size + pump->out.arena_size;
    }
    return error;
}

static bool valid(const struct fp_config *config)
{
    uint32_t most = config->vxlan ? 65507 - FP_HEADROOM : 65507;
    bool merges = config->offloads & (FP_MERGE_TCP | FP_MERGE_UDP);
    return config->batch >= 1 && config->batch <= FP_MAX_BATCH && config->mtu >= 68 &&
           config->mtu <= most && config->mtu6 <= most && !(config->mac >> 48) &&
           !(config->vni >> 24) && config->peer_check <= FP_CHECK_STRICT &&
           config->flows <= FP_MAX_FLOWS && config->flows6 <= FP_MAX_FLOWS &&
           (!merges || config->offloads & FP_VNET);
}

int fp_new(const struct fp_config *config, struct fp **result)
{
    if (!valid(config)) return -EINVAL;
    struct fp *fp = calloc(1, sizeof *fp);
    if (!fp) return -ENOMEM;
    fp->config = *config;
    atomic_store(&fp->offloads, config->offloads);
    uint64_t reading = config->time_stages ? reading_ns() : 0;
    for (int i = 0; i < FP_DIRECTIONS; i++) fp->pumps[i].reading = reading;
    fp->writer = route_writer_new();
    int error = fp->writer ? packet_memory(fp) : -ENOMEM;
    if (error) {
        fp_free(fp);
        return error;
    }
    *result = fp;
    return 0;
}

void fp_free(struct fp *fp)
{
    if (!fp) return;
    for (int i = 0; i < FP_DIRECTIONS; i++) pump_free(&fp->pumps[i]);
    fp_unwatch(fp);
    free(fp->memory);
    route_writer_free(fp->writer, &fp->peers);
    routes_free(atomic_load(&fp->routes), &fp->peers);
    peers_free(&fp->peers);
    free(fp);
}

uint32_t fp_offloads(struct fp *fp)
{
    return atomic_load_explicit(&fp->offloads, memory_order_relaxed);
}

void fp_read_counters(struct fp *fp, enum fp_direction direction,
                      struct fp_counters *result)
{
    struct counters *counters = &fp->pumps[direction].counters;
    result->packets = value_of(&counters->packets);
    result->bytes = value_of(&counters->bytes);
    result->answers = value_of(&counters->answers);
    result->answers_limited = value_of(&counters->answers_limited);
    for (int i = 0; i < FP_DROPS; i++)
        result->drops[i] = value_of(&counters->drops[i]);
    result->frames = value_of(&counters->frames);
    result->frame_bytes = value_of(&counters->frame_bytes);
    result->tun_calls = value_of(&counters->tun_calls);
    result->messages = value_of(&counters->messages);
    result->message_bytes = value_of(&counters->message_bytes);
    result->wire_calls = value_of(&counters->wire_calls);
    result->pumps = value_of(&counters->pumps);
    for (int i = 0; i < FP_STAGES; i++)
        result->stages[i] = value_of(&counters->stages[i]);
    result->timed_packets = value_of(&counters->timed_packets);
    result->timed_rounds = value_of(&counters->timed_rounds);
}
