/* The pumps: with pump_tun.c and pump_wire.c the only files that make system calls.
 *
 * tx: 1 read frames end to end until the TUN is empty or a batch is full
 *     2 wrap them (wrap.c)   3 sendmmsg the bursts   4 write ICMP errors back
 * rx: 1 recvmmsg a batch of bursts   2 unwrap them (unwrap.c)   3 write the frames
 *
 * Errors of one packet cost that packet, and are counted; only a dead descriptor ends a
 * pump. A full socket or TUN is waited for, but briefly, and once in a pump call: control
 * must not starve. Where the kernel refuses an offload, what it refused goes again
 * without it, in its place. */
#define _GNU_SOURCE
#include "pump.h"

#include <poll.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 1, /* for a full socket or TUN */
    RUN_BUDGET = 64, /* frames or bursts between two looks at the others */
    NARROW = 16,     /* bursts of a receive, when they are large */
    LARGE = 8192,    /* bytes of such a burst, on the average */
};

bool wait_writable(struct pump *pump, int fd)
{
    if (!pump->patient) return false;
    pump->patient = false;
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    return poll(&pollfd, 1, PATIENCE_MS) == 1;
}

static int pump_tx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_TX];
    uint32_t moved = 0;
    pump->patient = true;
    for (bool empty = false; moved < budget && !empty;) {
        uint32_t want = min32(fp->config.batch, budget - moved);
        begin_round(fp, pump);
        int got = read_frames(fp, pump, want, &empty);
        end_stage(pump, FP_STAGE_READ);
        if (got < 0) return got;
        for (int done = 0; done < got;) {
            done += fp_wrap(fp, pump->frames + done, (uint32_t)(got - done), now_ns(),
                            &pump->out);
            send_bursts(fp, pump);
            end_stage(pump, FP_STAGE_SEND);
            int error = write_frames(fp, pump, false);
            end_stage(pump, FP_STAGE_WRITE);
            if (error) return error;
        }
        moved += (uint32_t)got;
    }
    return (int)moved;
}

/* How many bursts to receive next. Where the kernel has joined many datagrams to each,
 * few of them stay in the cache; where it has not, to receive more by one call is what
 * lets them be merged here. */
static uint32_t width_after(const struct pump *pump, uint32_t got)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < got; i++) bytes += pump->bursts[i].length;
    return bytes < (uint64_t)got * LARGE ? pump->message_count
                                         : min32(NARROW, pump->message_count);
}

/* Move what one socket has received. */
static int pump_socket(struct fp *fp, struct pump *pump, int fd, uint32_t budget)
{
    uint32_t moved = 0;
    while (moved < budget) {
        uint32_t want = min32(pump->width, budget - moved);
        begin_round(fp, pump);
        int got = receive_bursts(pump, fd, want);
        end_stage(pump, FP_STAGE_RECEIVE);
        if (got == -EBADF) return got;
        /* Nothing there, or an error of an earlier send, which is over once told. */
        if (got < 0) break;
        for (int done = 0; done < got;) {
            done += fp_unwrap(fp, pump->bursts + done, (uint32_t)(got - done), now_ns(),
                              &pump->out);
            if (pump->out.burst_count) send_replies(pump, fd);
            int error = write_frames(fp, pump, true);
            end_stage(pump, FP_STAGE_WRITE);
            if (error) return error;
        }
        moved += (uint32_t)got;
        pump->width = width_after(pump, (uint32_t)got);
        if ((uint32_t)got < want) break;
    }
    return (int)moved;
}

static int pump_rx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_RX];
    pump->patient = true;
    int moved = pump_socket(fp, pump, fp->config.udp_fd, budget);
    if (moved < 0 || fp->config.udp6_fd < 0) return moved;
    int moved6 = pump_socket(fp, pump, fp->config.udp6_fd, budget);
    return moved6 < 0 ? moved6 : moved + moved6;
}

int fp_pump(struct fp *fp, enum fp_direction direction, uint32_t budget)
{
    count(&fp->pumps[direction].counters.pumps, 1);
    return direction == FP_TX ? pump_tx(fp, budget) : pump_rx(fp, budget);
}

int fp_run(struct fp *fp, uint32_t directions)
{
    enum { STOP, TUN, WIRE, WIRE6, FDS };
    bool tx = directions & 1u << FP_TX, rx = directions & 1u << FP_RX;
    /* Poll passes over a negative descriptor. */
    struct pollfd fds[FDS] = {
        [STOP] = {.fd = fp->config.stop_fd, .events = POLLIN},
        [TUN] = {.fd = tx ? fp->config.tun_fd : -1, .events = POLLIN},
        [WIRE] = {.fd = rx ? fp->config.udp_fd : -1, .events = POLLIN},
        [WIRE6] = {.fd = rx ? fp->config.udp6_fd : -1, .events = POLLIN},
    };
    for (;;) {
        if (poll(fds, FDS, -1) < 0 && errno != EINTR) return -errno;
        if (fds[STOP].revents) return 0;
        int moved = 0;
        if (fds[TUN].revents) moved = fp_pump(fp, FP_TX, RUN_BUDGET);
        if (moved >= 0 && (fds[WIRE].revents || fds[WIRE6].revents))
            moved = fp_pump(fp, FP_RX, RUN_BUDGET);
        if (moved < 0) return moved;
    }
}

int fp_stop(struct fp *fp)
{
    uint64_t one = 1;
    return write(fp->config.stop_fd, &one, sizeof one) == sizeof one ? 0 : -errno;
}
