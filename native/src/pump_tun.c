/* Frames between the pumps and the TUN: one system call for each. */
#include "pump.h"

#include <sys/uio.h>
#include <unistd.h>

static ssize_t read_frame(struct fp *fp, struct pump *pump, struct fp_frame *frame,
                          size_t room)
{
    struct iovec parts[2] = {
        {&frame->vnet, sizeof frame->vnet},
        {frame->data, room},
    };
    bool vnet = fp->config.offloads & FP_VNET;
    ssize_t length = readv(fp->config.tun_fd, parts + !vnet, vnet ? 2 : 1);
    called_tun(pump, length);
    if (length < 0 || !vnet) return length;
    return length < (ssize_t)sizeof frame->vnet ? 0
                                                : length - (ssize_t)sizeof frame->vnet;
}

int read_frames(struct fp *fp, struct pump *pump, uint32_t want, bool *empty)
{
    uint32_t got = 0, room = headroom(fp);
    size_t used = room;
    while (got < want && pump->buffer_size - used > FP_MAX_PACKET + room) {
        struct fp_frame *frame = &pump->frames[got];
        *frame = (struct fp_frame){.data = pump->buffer + used};
        ssize_t length = read_frame(fp, pump, frame, pump->buffer_size - used);
        if (length < 0 && errno == EINTR) continue;
        *empty = length < 0 && errno == EAGAIN;
        if (*empty) break;
        if (length < 0) return got ? (int)got : -errno;
        frame->length = (uint32_t)length;
        used += frame->length + room;
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
        ssize_t length = writev(fp->config.tun_fd, parts + !vnet, vnet ? 2 : 1);
        called_tun(pump, length);
        if (length >= 0) return 0;
        if (errno == EAGAIN && wait_writable(pump, fp->config.tun_fd)) continue;
        if (errno != EINTR) return -errno;
    }
}

static bool is_dead(int error) { return error == -EBADFD || error == -EBADF; }

/* Tell who watches. */
static void tell_written(struct fp *fp, struct pump *pump, const struct fp_frame *frame,
                         int error, uint32_t packets)
{
    enum fp_direction direction = (enum fp_direction)(pump - fp->pumps);
    struct subject subject = {.watch = NULL};
    section_enter(pump);
    struct watch *watch = atomic_load(&fp->watch);
    if (watch)
        subject_open(&subject, watch, direction, frame->number, frame->data,
                     frame->length, 0);
    if (subject.watch) subject.event.packets = packets;
    if (error)
        tell_drop(&subject, FP_WRITE_FAILED, packets);
    else
        tell(&subject, FP_WRITTEN);
    section_leave(pump);
}

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
        split_size(&cut, &ip, 0) > pump->out.arena_size - pump->out.arena_used) {
        written(pump, -EINVAL, cut.packets, 0);
        if (watched(fp)) tell_written(fp, pump, frame, -EINVAL, cut.packets);
        return 0;
    }
    /* Behind what the arena holds: frames that are still to be written may lie there. */
    uint8_t *data = pump->out.arena + pump->out.arena_used;
    split(data, frame->data, &ip, &cut, NULL, 0);
    uint32_t left = split_size(&cut, &ip, 0), full = cut.headers + cut.segment;
    uint32_t number = frame->number;
    while (left) {
        struct fp_frame one = {data, min32(left, full), {0}, number++};
        int error = dead ? dead : write_frame(fp, pump, &one);
        written(pump, error, 1, one.length);
        if (watched(fp)) tell_written(fp, pump, &one, error, 1);
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

int write_frames(struct fp *fp, struct pump *pump, bool counted)
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
        } else {
            if (counted) written(pump, error, packets, bytes);
            /* An ICMP error of ours is no packet that could be dropped. */
            if (watched(fp) && (counted || !error))
                tell_written(fp, pump, frame, error, packets);
        }
        if (is_dead(error)) dead = error;
    }
    return dead;
}
