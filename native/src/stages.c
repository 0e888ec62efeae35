/* Where the time goes: one round of a pump in many is timed.
 *
 * The clock of a timed round is read at the end of each stage, and all that has gone by
 * since it was last read is that stage's, less what it takes to read it. So the stages of
 * a round add up to the round. */
#include "fastpath.h"

#include <time.h>

enum { READINGS = 64 };

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The least of several times, for whatever else the machine does makes them longer. */
uint64_t reading_ns(void)
{
    uint64_t least = UINT64_MAX, before = now_ns();
    for (int i = 0; i < READINGS; i++) {
        uint64_t now = now_ns();
        if (now - before < least) least = now - before;
        before = now;
    }
    return least;
}

void begin_timed_round(struct pump *pump)
{
    count(&pump->counters.timed_rounds, 1);
    pump->stage_began = now_ns();
}

void end_timed_stage(struct pump *pump, enum fp_stage stage)
{
    uint64_t now = now_ns(), taken = now - pump->stage_began;
    uint64_t own = taken < pump->reading ? taken : pump->reading;
    count(&pump->counters.stages[stage], taken - own);
    pump->stage_began = now;
}
