/* The pumps: the only file that makes system calls.
 *
 * tx: 1 read frames end to end until the TUN is empty or a batch is full
 *     2 wrap them (path.c)   3 sendmmsg the bursts   4 write ICMP errors back
 * rx: 1 recvmmsg a batch of bursts   2 unwrap them (path.c)   3 write the frames
 *
 * Errors of one packet cost that packet, and are counted; only a dead descriptor ends a
 * pump. A full socket or TUN is waited for, but briefly, and once in a pump call: control
 * must not starve. Where the kernel refuses an offload, what it refused goes again
 * without it, in its place. */
#define _GNU_SOURCE
#include "fastpath.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 1,        /* for a full socket or TUN */
    RUN_BUDGET = 64,        /* frames or bursts between two looks at the others */
    GSO_DATAGRAMS = 64,     /* UDP_MAX_SEGMENTS before Linux 6.9 */
    GSO_BYTES = 65507,      /* of UDP payload in one IPv4 packet */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t packets_in(uint32_t length, uint32_t segment)
{
    return segment ? (length + segment - 1) / segment : 1;
}

/* True if it is worth to try again; always false once patience is used up. */
static bool wait_writable(struct pump *pump, int fd)
{
    if (!pump->patient) return false;
    pump->patient = false;
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    return poll(&pollfd, 1, PATIENCE_MS) == 1;
}

static void forwarded(struct pump *pump, uint32_t packets, uint64_t bytes)
{
    count(&pump->counters.packets, packets);
    count(&pump->counters.bytes, bytes);
}

static bool uses(struct fp *fp, uint32_t offload) { return fp_offloads(fp) & offload; }

static void give_up(struct fp *fp, uint32_t offloads)
{
    atomic_fetch_and(&fp->offloads, ~offloads);
}

/* ---- the TUN ----------------------------------------------------------------------- */

static ssize_t read_frame(struct fp *fp, struct fp_frame *frame, size_t room)
{
    struct iovec parts[2] = {
        {&frame->vnet, sizeof frame->vnet},
        {frame->data, room},
    };
    bool vnet = fp->config.offloads & FP_VNET;
    ssize_t length = readv(fp->config.tun_fd, parts + !vnet, vnet ? 2 : 1);
    if (length < 0 || !vnet) return length;
    return length < (ssize_t)sizeof frame->vnet ? 0
                                                : length - (ssize_t)sizeof frame->vnet;
}

/* Read up to `want` frames end to end. How many, or -errno if not even one came; *empty
 * tells that the TUN has no more. */
static int read_frames(struct fp *fp, struct pump *pump, uint32_t want, bool *empty)
{
    uint32_t got = 0;
    size_t used = 0;
    while (got < want && pump->buffer_size - used > FP_MAX_PACKET) {
        struct fp_frame *frame = &pump->frames[got];
        *frame = (struct fp_frame){.data = pump->buffer + used};
        ssize_t length = read_frame(fp, frame, pump->buffer_size - used);
        if (length < 0 && errno == EINTR) continue;
        *empty = length < 0 && errno == EAGAIN;
        if (*empty) break;
        if (length < 0) return got ? (int)got : -errno;
        frame->length = (uint32_t)length;
        used += frame->length;
        got++;
    }
    return (int)got;
}

/* 0, or -errno. */
static int write_frame(struct fp *fp, struct pump *pump, struct fp_frame *frame)
{
    struct iovec parts[2] = {
        {&frame->vnet, sizeof frame->vnet},
        {frame->data, frame->length},
    };
    bool vnet = fp->config.offloads & FP_VNET;
    for (;;) {
        if (writev(fp->config.tun_fd, parts + !vnet, vnet ? 2 : 1) >= 0) return 0;
        if (errno == EAGAIN && wait_writable(pump, fp->config.tun_fd)) continue;
        if (errno != EINTR) return -errno;
    }
}

static bool is_dead(int error) { return error == -EBADFD || error == -EBADF; }

static void written(struct pump *pump, int error, uint32_t packets, uint64_t bytes)
{
    if (error)
        count(&pump->counters.drops[FP_WRITE_FAILED], packets);
    else
        forwarded(pump, packets, bytes);
}

/* A superpacket that the kernel refused, as the packets that it was made of; each is
 * counted. 0, or -errno if the device is dead. */
static int write_apart(struct fp *fp, struct pump *pump, const struct fp_frame *frame)
{
    struct ip ip;
    struct cut cut = {.packets = 1};
    int dead = 0;
    if (ip_parse(frame->data, frame->length, true, &ip) >= 0 ||
        split_plan(frame, &ip, &cut) >= 0 ||
        split_size(&cut, &ip) > pump->out.arena_size) {
        written(pump, -EINVAL, cut.packets, 0);
        return 0;
    }
    split(pump->out.arena, frame->data, &ip, &cut);
    uint32_t left = split_size(&cut, &ip), full = cut.headers + cut.segment;
    for (uint8_t *data = pump->out.arena; left;) {
        struct fp_frame one = {data, min32(left, full), {0}};
        int error = dead ? dead : write_frame(fp, pump, &one);
        written(pump, error, 1, one.length);
        if (is_dead(error)) dead = error;
        data += one.length;
        left -= one.length;
    }
    return dead;
}

/* The packets in a frame, and their bytes. */
static uint32_t packets_of(const struct fp_frame *frame, uint64_t *bytes)
{
    uint32_t headers = frame->vnet.header_length;
    uint32_t packets = frame->vnet.gso_type
                           ? packets_in(frame->length - headers, frame->vnet.segment)
                           : 1;
    *bytes = frame->length + (uint64_t)(packets - 1) * headers;
    return packets;
}

/* Write frames to the TUN; 0, or -errno if the device is dead. */
static int write_frames(struct fp *fp, struct pump *pump, bool counted)
{
    struct fp_output *out = &pump->out;
    int dead = 0;
    for (uint32_t i = 0; i < out->frame_count; i++) {
        struct fp_frame *frame = &out->frames[i];
        uint64_t bytes;
        uint32_t packets = packets_of(frame, &bytes);
        int error = dead ? dead : write_frame(fp, pump, frame);
        if (error == -EINVAL && packets > 1) {
            give_up(fp, frame->vnet.gso_type == FP_VNET_UDP ? FP_MERGE_UDP
                                                            : FP_MERGE_TCP);
            error = write_apart(fp, pump, frame);
        } else if (counted) {
            written(pump, error, packets, bytes);
        }
        if (is_dead(error)) dead = error;
    }
    return dead;
}

/* ---- sending ------------------------------------------------------------------------- */

/* Make one message of the next `length` bytes of a burst, cut every `segment`. */
static void fill_message(struct pump *pump, uint32_t at, const struct fp_burst *burst,
                         uint8_t *data, uint32_t length)
{
    struct msghdr *message = &pump->messages[at].msg_hdr;
    pump->iovecs[at] = (struct iovec){data, length};
    pump->addresses[at] = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)burst->port),
        .sin_addr.s_addr = htonl(burst->address),
    };
    *message = (struct msghdr){
        .msg_name = &pump->addresses[at],
        .msg_namelen = sizeof(struct sockaddr_in),
        .msg_iov = &pump->iovecs[at],
        .msg_iovlen = 1,
    };
    pump->segments[at] = burst->segment;
    if (length <= burst->segment) return;
    message->msg_control = pump->controls[at].bytes;
    message->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
    cmsg->cmsg_level = SOL_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t segment = (uint16_t)burst->segment;
    memcpy(CMSG_DATA(cmsg), &segment, sizeof segment);
}

/* ENOBUFS: it is the device behind the socket that is full. */
static bool is_full(int error) { return error == EAGAIN || error == ENOBUFS; }

/* A message whose kind the kernel refuses, as single datagrams, in order. */
static void send_apart(struct fp *fp, struct pump *pump, uint32_t at)
{
    const struct iovec *whole = &pump->iovecs[at];
    uint32_t left = (uint32_t)whole->iov_len;
    for (uint8_t *data = whole->iov_base; left;) {
        uint32_t length = min32(left, pump->segments[at]);
        ssize_t sent;
        do {
            sent = sendto(fp->config.udp_fd, data, length, 0,
                          (struct sockaddr *)&pump->addresses[at],
                          sizeof(struct sockaddr_in));
        } while (sent < 0 &&
                 (errno == EINTR ||
                  (is_full(errno) && wait_writable(pump, fp->config.udp_fd))));
        if (sent < 0)
            count(&pump->counters.drops[FP_SEND_FAILED], 1);
        else
            forwarded(pump, 1, length);
        data += length;
        left -= length;
    }
}

/* Deal with the message that sendmmsg stopped at; true to try it once more. */
static bool retry(struct fp *fp, struct pump *pump, uint32_t at)
{
    uint32_t packets =
        packets_in((uint32_t)pump->iovecs[at].iov_len, pump->segments[at]);
    if (errno == EINTR) return true;
    if (is_full(errno) && wait_writable(pump, fp->config.udp_fd)) return true;
    if (packets > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE)) {
        /* EMSGSIZE: the way to this peer has become narrow, not the kernel. */
        if (errno != EMSGSIZE) give_up(fp, FP_GSO);
        send_apart(fp, pump, at);
    } else {
        count(&pump->counters.drops[FP_SEND_FAILED], packets);
    }
    return false;
}

/* Send the first `total` messages; each datagram is counted, forwarded or dropped. */
static void send_messages(struct fp *fp, struct pump *pump, uint32_t total)
{
    for (uint32_t next = 0; next < total;) {
        int sent = sendmmsg(fp->config.udp_fd, pump->messages + next, total - next, 0);
        if (sent < 0) {
            if (!retry(fp, pump, next)) next++;
            continue;
        }
        for (int i = 0; i < sent; i++, next++) {
            uint32_t length = (uint32_t)pump->iovecs[next].iov_len;
            forwarded(pump, packets_in(length, pump->segments[next]), length);
        }
    }
}

/* What of a burst one message can carry. */
static uint32_t message_length(struct fp *fp, const struct fp_burst *burst, uint32_t left)
{
    if (!uses(fp, FP_GSO)) return min32(left, burst->segment);
    uint32_t most = min32(GSO_DATAGRAMS, GSO_BYTES / burst->segment);
    return min32(left, most * burst->segment);
}

static void send_bursts(struct fp *fp, struct pump *pump)
{
    /* One frame a call means one message a call, too: the ladder's second rung. */
    uint32_t room = min32(pump->message_count, fp->config.batch), total = 0;
    for (uint32_t i = 0; i < pump->out.burst_count; i++) {
        const struct fp_burst *burst = &pump->out.bursts[i];
        for (uint32_t offset = 0; offset < burst->length;) {
            uint32_t length = message_length(fp, burst, burst->length - offset);
            fill_message(pump, total++, burst, burst->data + offset, length);
            offset += length;
            if (total == room) {
                send_messages(fp, pump, total);
                total = 0;
            }
        }
    }
    send_messages(fp, pump, total);
}

/* ---- receiving ----------------------------------------------------------------------- */

static uint32_t segment_of(struct msghdr *message, uint32_t length)
{
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg;
         cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_UDP || cmsg->cmsg_type != UDP_GRO) continue;
        int segment;
        memcpy(&segment, CMSG_DATA(cmsg), sizeof segment);
        if (segment > 0) return (uint32_t)segment;
    }
    return length;
}

/* Receive up to `want` bursts. How many, or -errno. */
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
            .msg_control = pump->controls[i].bytes,
            .msg_controllen = sizeof pump->controls[i].bytes,
        }};
    }
    /* A slot is longer than the MTU: what is cut to fit is still oversize. */
    int got = recvmmsg(fp->config.udp_fd, pump->messages, want, MSG_DONTWAIT, NULL);
    if (got < 0) return -errno;
    for (int i = 0; i < got; i++) {
        uint32_t length = pump->messages[i].msg_len;
        pump->bursts[i] = (struct fp_burst){
            pump->iovecs[i].iov_base, length,
            segment_of(&pump->messages[i].msg_hdr, length),
            ntohl(pump->addresses[i].sin_addr.s_addr),
            ntohs(pump->addresses[i].sin_port),
        };
    }
    return got;
}

/* ---- the pumps ------------------------------------------------------------------------ */

static int pump_tx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_TX];
    uint32_t moved = 0;
    pump->patient = true;
    for (bool empty = false; moved < budget && !empty;) {
        uint32_t want = min32(fp->config.batch, budget - moved);
        int got = read_frames(fp, pump, want, &empty);
        if (got < 0) return got;
        for (int done = 0; done < got;) {
            done += fp_wrap(fp, pump->frames + done, (uint32_t)(got - done), now_ns(),
                            &pump->out);
            send_bursts(fp, pump);
            int error = write_frames(fp, pump, false);
            if (error) return error;
        }
        moved += (uint32_t)got;
    }
    return (int)moved;
}

static int pump_rx(struct fp *fp, uint32_t budget)
{
    struct pump *pump = &fp->pumps[FP_RX];
    uint32_t moved = 0;
    pump->patient = true;
    while (moved < budget) {
        uint32_t want = min32(pump->message_count, budget - moved);
        int got = receive_bursts(fp, pump, want);
        if (got == -EBADF) return got;
        /* Nothing there, or an error of an earlier send, which is over once told. */
        if (got < 0) break;
        for (int done = 0; done < got;) {
            done +=
                fp_unwrap(fp, pump->bursts + done, (uint32_t)(got - done), &pump->out);
            int error = write_frames(fp, pump, true);
            if (error) return error;
        }
        moved += (uint32_t)got;
        if ((uint32_t)got < want) break;
    }
    return (int)moved;
}

int fp_pump(struct fp *fp, enum fp_direction direction, uint32_t budget)
{
    return direction == FP_TX ? pump_tx(fp, budget) : pump_rx(fp, budget);
}

int fp_run(struct fp *fp, uint32_t directions)
{
    struct pollfd fds[FP_DIRECTIONS + 1] = {
        [FP_TX] = {.fd = fp->config.tun_fd, .events = POLLIN},
        [FP_RX] = {.fd = fp->config.udp_fd, .events = POLLIN},
        [FP_DIRECTIONS] = {.fd = fp->config.stop_fd, .events = POLLIN},
    };
    for (int i = 0; i < FP_DIRECTIONS; i++)
        if (!(directions & 1u << i)) fds[i].fd = -1; /* poll passes over it */
    for (;;) {
        if (poll(fds, FP_DIRECTIONS + 1, -1) < 0 && errno != EINTR) return -errno;
        if (fds[FP_DIRECTIONS].revents) return 0;
        for (int i = 0; i < FP_DIRECTIONS; i++) {
            if (!fds[i].revents) continue;
            int moved = fp_pump(fp, (enum fp_direction)i, RUN_BUDGET);
            if (moved < 0) return moved;
        }
    }
}

int fp_stop(struct fp *fp)
{
    uint64_t one = 1;
    return write(fp->config.stop_fd, &one, sizeof one) == sizeof one ? 0 : -errno;
}
