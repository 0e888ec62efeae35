/* The pumps: the only file that makes system calls.
 *
 * tx: 1 read frames end to end until the TUN is empty or a batch is full
 *     2 wrap them (path.c)   3 sendmmsg the datagrams   4 write ICMP errors back
 * rx: 1 recvmmsg a batch of datagrams   2 unwrap them (path.c)   3 write the frames
 *
 * Errors of one packet cost that packet, and are counted; only a dead descriptor ends a
 * pump. A full socket or TUN is waited for, but briefly: control must not starve. */
#define _GNU_SOURCE
#include "fastpath.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 1,   /* for a full socket or TUN */
    RUN_BUDGET = 1024, /* packets between two looks at stop_fd */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static bool wait_writable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    return poll(&pollfd, 1, PATIENCE_MS) == 1;
}

/* ---- the TUN ----------------------------------------------------------------------- */

/* Read up to `want` frames end to end. How many, or -errno if not even one came. */
static int read_frames(struct fp *fp, struct pump *pump, uint32_t want)
{
    uint32_t got = 0;
    size_t used = 0;
    /* A slot for each frame still to come; the last may be as long as any. */
    while (got < want) {
        ssize_t length =
            read(fp->config.tun_fd, pump->buffer + used, pump->buffer_size - used);
        if (length < 0 && errno == EINTR) continue;
        if (length < 0 && errno == EAGAIN) break;
        if (length < 0) return got ? (int)got : -errno;
        pump->frames[got++] = (struct fp_frame){pump->buffer + used, (uint32_t)length};
        used += (size_t)length;
        if (pump->buffer_size - used < 65536) break;
    }
    return (int)got;
}

/* Write frames to the TUN; 0, or -errno if the device is dead. */
static int write_frames(struct fp *fp, struct pump *pump, bool forwarded)
{
    struct fp_output *out = &pump->out;
    for (uint32_t i = 0; i < out->frame_count; i++) {
        const struct fp_frame *frame = &out->frames[i];
        ssize_t sent;
        do {
            sent = write(fp->config.tun_fd, frame->data, frame->length);
        } while (sent < 0 && (errno == EINTR ||
                              (errno == EAGAIN && wait_writable(fp->config.tun_fd))));
        if (sent < 0) {
            int error = errno;
            bool dead = error == EBADFD || error == EBADF;
            uint32_t lost = dead ? out->frame_count - i : 1;
            if (forwarded) count(&pump->counters.drops[FP_WRITE_FAILED], lost);
            if (dead) return -error;
        } else if (forwarded) {
            count(&pump->counters.packets, 1);
            count(&pump->counters.bytes, frame->length);
        }
    }
    return 0;
}

/* ---- the socket -------------------------------------------------------------------- */

static uint32_t cut_into_messages(struct pump *pump)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < pump->out.burst_count; i++) {
        const struct fp_burst *burst = &pump->out.bursts[i];
        for (uint32_t offset = 0; offset < burst->length; offset += burst->segment) {
            pump->iovecs[total] = (struct iovec){
                burst->data + offset, min32(burst->segment, burst->length - offset),
            };
            pump->addresses[total] = (struct sockaddr_in){
                .sin_family = AF_INET,
                .sin_port = htons((uint16_t)burst->port),
                .sin_addr.s_addr = htonl(burst->address),
            };
            pump->messages[total] = (struct mmsghdr){.msg_hdr = {
                .msg_name = &pump->addresses[total],
                .msg_namelen = sizeof(struct sockaddr_in),
                .msg_iov = &pump->iovecs[total],
                .msg_iovlen = 1,
            }};
            total++;
        }
    }
    return total;
}

/* Send all bursts; each datagram is counted as forwarded or as dropped. */
static void send_bursts(struct fp *fp, struct pump *pump)
{
    uint32_t total = cut_into_messages(pump);
    for (uint32_t next = 0; next < total;) {
        int sent =
            sendmmsg(fp->config.udp_fd, pump->messages + next, total - next, 0);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN && wait_writable(fp->config.udp_fd)) continue;
        if (sent < 0) {
            count(&pump->counters.drops[FP_SEND_FAILED], 1);
            next++;
            continue;
        }
        for (int i = 0; i < sent; i++) {
            count(&pump->counters.packets, 1);
            count(&pump->counters.bytes, pump->iovecs[next++].iov_len);
        }
    }
}

/* Receive up to `want` datagrams as bursts. How many, or -errno. */
static int receive_bursts(struct fp *fp, struct pump *pump, uint32_t want)
{
    for (uint32_t i = 0; i < want; i++) {
        pump->iovecs[i] =
            (struct iovec){pump->buffer + i * pump->slot_size, pump->slot_size};
        pump->messages[i] = (struct mmsghdr){.msg_hdr = {
            .msg_name = &pump->addresses[i],
            .msg_namelen = sizeof(struct sockaddr_in),
            .msg_iov = &pump->iovecs[i],
            .msg_iovlen = 1,
        }};
    }
    /* A slot is longer than the MTU: what is cut to fit is still oversize. */
    int got = recvmmsg(fp->config.udp_fd, pump->messages, want, MSG_DONTWAIT, NULL);
    if (got < 0) return -errno;
    for (int i = 0; i < got; i++) {
        uint32_t length = pump->messages[i].msg_len;
        pump->bursts[i] = (struct fp_burst){
            pump->iovecs[i].iov_base, length, length,
            ntohl(pump->addresses[i].sin_addr.s_addr),
            ntohs(pump->addresses[i].sin_port),
        };
    }
    return got;
}

/* ---- the pumps ---------------------------------------------------------------------- */

static int pump_tx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_TX];
    uint32_t moved = 0;
    while (moved < budget) {
        uint32_t want = min32(fp->config.batch, budget - moved);
        int got = read_frames(fp, pump, want);
        if (got < 0) return got;
        if (got == 0) break;
        fp_wrap(fp, pump->frames, (uint32_t)got, now_ns(), &pump->out);
        send_bursts(fp, pump);
        int error = write_frames(fp, pump, false);
        if (error) return error;
        moved += (uint32_t)got;
        if ((uint32_t)got < want) break;
    }
    return (int)moved;
}

static int pump_rx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_RX];
    uint32_t moved = 0;
    while (moved < budget) {
        uint32_t want = min32(fp->config.batch, budget - moved);
        int got = receive_bursts(fp, pump, want);
        if (got == -EBADF) return got;
        /* Nothing there, or an error of an earlier send, which is over once told. */
        if (got < 0) break;
        fp_unwrap(fp, pump->bursts, (uint32_t)got, &pump->out);
        int error = write_frames(fp, pump, true);
        if (error) return error;
        moved += (uint32_t)got;
        if ((uint32_t)got < want) break;
    }
    return (int)moved;
}

int fp_pump(struct fp *fp, enum fp_direction direction, uint32_t budget)
{
    return direction == FP_TX ? pump_tx(fp, budget) : pump_rx(fp, budget);
}

int fp_run(struct fp *fp, enum fp_direction direction)
{
    struct pollfd fds[2] = {
        {.fd = direction == FP_TX ? fp->config.tun_fd : fp->config.udp_fd,
         .events = POLLIN},
        {.fd = fp->config.stop_fd, .events = POLLIN},
    };
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return -errno;
        if (fds[1].revents) return 0;
        int moved = fp_pump(fp, direction, RUN_BUDGET);
        if (moved < 0) return moved;
    }
}

int fp_stop(struct fp *fp)
{
    uint64_t one = 1;
    return write(fp->config.stop_fd, &one, sizeof one) == sizeof one ? 0 : -errno;
}
