/* One handle: its memory, its counters. */
#define _GNU_SOURCE
#include "fastpath.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MAX_PACKET 65536 /* what one read from the TUN may give */

static int pump_init(struct pump *pump, const struct fp_config *config,
                     enum fp_direction direction)
{
    uint32_t batch = config->batch;
    /* At least a cache line more than the MTU, so that longer datagrams show. */
    pump->slot_size = (config->mtu / 64 + 2) * 64;
    pump->buffer_size =
        batch * pump->slot_size + (direction == FP_TX ? MAX_PACKET : 0);
    pump->buffer = malloc(pump->buffer_size);
    pump->messages = calloc(batch, sizeof *pump->messages);
    pump->iovecs = calloc(batch, sizeof *pump->iovecs);
    pump->addresses = calloc(batch, sizeof *pump->addresses);
    pump->frames = calloc(batch, sizeof *pump->frames);
    pump->bursts = calloc(batch, sizeof *pump->bursts);
    pump->out = (struct fp_output){
        .bursts = calloc(batch, sizeof *pump->out.bursts),
        .frames = calloc(batch, sizeof *pump->out.frames),
        .capacity = batch,
        .arena = malloc((size_t)batch * FP_MAX_ANSWER),
        .arena_size = batch * FP_MAX_ANSWER,
    };
    bool complete = pump->buffer && pump->messages && pump->iovecs && pump->addresses &&
                    pump->frames && pump->bursts && pump->out.bursts &&
                    pump->out.frames && pump->out.arena;
    return complete ? 0 : -ENOMEM;
}

static void pump_free(struct pump *pump)
{
    free(pump->buffer);
    free(pump->messages);
    free(pump->iovecs);
    free(pump->addresses);
    free(pump->frames);
    free(pump->bursts);
    free(pump->out.bursts);
    free(pump->out.frames);
    free(pump->out.arena);
}

int fp_new(const struct fp_config *config, struct fp **result)
{
    if (config->batch < 1 || config->batch > FP_MAX_BATCH || config->mtu < 68 ||
        config->mtu > 65507)
        return -EINVAL;
    struct fp *fp = calloc(1, sizeof *fp);
    if (!fp) return -ENOMEM;
    fp->config = *config;
    fp->writer = route_writer_new();
    int error = fp->writer ? 0 : -ENOMEM;
    for (int i = 0; i < FP_DIRECTIONS && !error; i++)
        error = pump_init(&fp->pumps[i], config, (enum fp_direction)i);
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
    route_writer_free(fp->writer);
    free(atomic_load(&fp->routes));
    free(fp);
}

static uint64_t value_of(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
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
}
