/* Bursts between the pumps and the underlay: many by one system call. */
#define _GNU_SOURCE
#include "pump.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

enum {
    GSO_DATAGRAMS = 64, /* UDP_MAX_SEGMENTS before Linux 6.9 */
    GSO_BYTES = 65487,  /* of UDP payload in one packet with an IPv6 header's length */
};

/* ---- addresses ----------------------------------------------------------------------- */

static socklen_t put_address(struct sockaddr_in6 *room, const struct fp_peer *peer)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)peer->port),
        .sin_addr.s_addr = htonl((uint32_t)peer->low),
    };
    if (peer->version == 6) {
        *room = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = in.sin_port};
        store64(room->sin6_addr.s6_addr, peer->high);
        store64(room->sin6_addr.s6_addr + 8, peer->low);
        return sizeof *room;
    }
    memcpy(room, &in, sizeof in);
    return sizeof in;
}

static struct fp_peer get_address(const struct sockaddr_in6 *room)
{
    struct sockaddr_in in;
    memcpy(&in, room, sizeof in);
    if (in.sin_family == AF_INET)
        return (struct fp_peer){
            .low = ntohl(in.sin_addr.s_addr), .version = 4, .port = ntohs(in.sin_port),
        };
    return (struct fp_peer){
        .high = load64(room->sin6_addr.s6_addr),
        .low = load64(room->sin6_addr.s6_addr + 8),
        .version = 6,
        .port = ntohs(room->sin6_port),
    };
}

/* ---- sending ------------------------------------------------------------------------- */

/* Make one message of the next `length` bytes of a burst, cut every `segment`. */
static void fill_message(struct pump *pump, uint32_t at, const struct fp_burst *burst,
                         uint32_t offset, uint32_t length)
{
    uint8_t *data = burst->data + offset;
    struct msghdr *message = &pump->messages[at].msg_hdr;
    pump->iovecs[at] = (struct iovec){data, length};
    *message = (struct msghdr){
        .msg_name = &pump->addresses[at],
        .msg_namelen = put_address(&pump->addresses[at], &burst->peer),
        .msg_iov = &pump->iovecs[at],
        .msg_iovlen = 1,
    };
    pump->segments[at] = burst->segment;
    pump->numbers[at] = burst->number + offset / burst->segment;
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

/* Tell who watches of datagrams of a message, from its `first` on. */
static void tell_sent(struct fp *fp, struct pump *pump, uint32_t at, uint32_t first,
                      uint32_t datagrams, bool dropped)
{
    struct fp_peer peer = get_address(&pump->addresses[at]);
    const uint8_t *data = pump->iovecs[at].iov_base;
    uint32_t segment = pump->segments[at], room = headroom(fp);
    uint32_t all = (uint32_t)pump->iovecs[at].iov_len;
    section_enter(pump);
    struct watch *watch = atomic_load(&fp->watch);
    for (uint32_t i = first; watch && i < first + datagrams; i++) {
        struct subject subject;
        uint32_t offset = i * segment, length = min32(segment, all - offset);
        subject_open(&subject, watch, FP_TX, pump->numbers[at] + i, data + offset,
                     length, room);
        if (subject.watch) subject.event.outer = 1;
        tell_peer(&subject, &peer);
        if (dropped)
            tell_drop(&subject, FP_SEND_FAILED, 1);
        else
            tell(&subject, FP_SENT);
    }
    section_leave(pump);
}

/* One message went, of so many datagrams. */
static void sent(struct fp *fp, struct pump *pump, uint32_t at, uint32_t first,
                 uint32_t datagrams, uint64_t bytes)
{
    moved_message(pump, bytes);
    forwarded(pump, datagrams, bytes - (uint64_t)datagrams * headroom(fp));
    if (watched(fp)) tell_sent(fp, pump, at, first, datagrams, false);
}

static void not_sent(struct fp *fp, struct pump *pump, uint32_t at, uint32_t first,
                     uint32_t datagrams)
{
    count(&pump->counters.drops[FP_SEND_FAILED], datagrams);
    if (watched(fp)) tell_sent(fp, pump, at, first, datagrams, true);
}

/* A message whose kind the kernel refuses, as single datagrams, in order. */
static void send_apart(struct fp *fp, struct pump *pump, int fd, uint32_t at)
{
    const struct msghdr *message = &pump->messages[at].msg_hdr;
    const struct iovec *whole = &pump->iovecs[at];
    uint32_t left = (uint32_t)whole->iov_len, number = 0;
    for (uint8_t *data = whole->iov_base; left; number++) {
        uint32_t length = min32(left, pump->segments[at]);
        ssize_t result;
        do {
            result = sendto(fd, data, length, 0, message->msg_name, message->msg_namelen);
            count(&pump->counters.wire_calls, 1);
        } while (result < 0 &&
                 (errno == EINTR ||
                  (is_full(errno) && wait_writable(pump, fd))));
        if (result < 0)
            not_sent(fp, pump, at, number, 1);
        else
            sent(fp, pump, at, number, 1, length);
        data += length;
        left -= length;
    }
}

/* Deal with the message that sendmmsg stopped at; true to try it once more. */
static bool retry(struct fp *fp, struct pump *pump, int fd, uint32_t at)
{
    uint32_t packets =
        packets_in((uint32_t)pump->iovecs[at].iov_len, pump->segments[at]);
    if (errno == EINTR) return true;
    if (is_full(errno) && wait_writable(pump, fd)) return true;
    if (packets > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE)) {
        /* EMSGSIZE, before Linux 6.14 EINVAL: the way to this peer has become narrow, not
         * the kernel. */
        if (errno == EIO) give_up(fp, FP_GSO);
        send_apart(fp, pump, fd, at);
    } else {
        not_sent(fp, pump, at, 0, packets);
    }
    return false;
}

/* Send the first `total` messages; each datagram is counted, forwarded or dropped. */
static void send_messages(struct fp *fp, struct pump *pump, int fd, uint32_t total)
{
    for (uint32_t next = 0; next < total;) {
        int taken = sendmmsg(fd, pump->messages + next, total - next, 0);
        count(&pump->counters.wire_calls, 1);
        if (taken < 0) {
            if (!retry(fp, pump, fd, next)) next++;
            continue;
        }
        for (int i = 0; i < taken; i++, next++) {
            uint32_t length = (uint32_t)pump->iovecs[next].iov_len;
            sent(fp, pump, next, 0, packets_in(length, pump->segments[next]), length);
        }
    }
}

/* What of a burst one message can carry. */
static uint32_t message_length(struct fp *fp, const struct fp_burst *burst, uint32_t left)
{
    bool single = !uses(fp, FP_GSO) || burst->segment > GSO_BYTES;
    if (single) return min32(left, burst->segment);
    uint32_t most = min32(GSO_DATAGRAMS, GSO_BYTES / burst->segment);
    return min32(left, most * burst->segment);
}

/* ---- one pass for each socket: a flow has the same always, so it stays in order ---- */

static uint32_t socket_of(const struct fp_burst *burst)
{
    return burst->flow + (burst->peer.version == 6 ? FP_MAX_FLOWS : 0);
}

static int fd_of(const struct fp_config *config, uint32_t which)
{
    if (which >= FP_MAX_FLOWS)
        return config->flows6 ? config->flow6_fds[which - FP_MAX_FLOWS] : config->udp6_fd;
    return config->flows ? config->flow_fds[which] : config->udp_fd;
}

static void send_through(struct fp *fp, struct pump *pump, uint32_t which)
{
    /* One frame a call means one message a call, too: the ladder's second rung. */
    uint32_t room = min32(pump->message_count, fp->config.batch), total = 0;
    int fd = fd_of(&fp->config, which);
    for (uint32_t i = 0; i < pump->out.burst_count; i++) {
        const struct fp_burst *burst = &pump->out.bursts[i];
        if (socket_of(burst) != which) continue;
        for (uint32_t offset = 0; offset < burst->length;) {
            uint32_t length = message_length(fp, burst, burst->length - offset);
            fill_message(pump, total++, burst, offset, length);
            offset += length;
            if (total == room) {
                send_messages(fp, pump, fd, total);
                total = 0;
            }
        }
    }
    send_messages(fp, pump, fd, total);
}

void send_bursts(struct fp *fp, struct pump *pump)
{
    uint32_t used = 0; /* a bit for each socket */
    for (uint32_t i = 0; i < pump->out.burst_count; i++)
        used |= 1u << socket_of(&pump->out.bursts[i]);
    for (; used; used &= used - 1) send_through(fp, pump, (uint32_t)__builtin_ctz(used));
}

void send_replies(struct pump *pump, int fd)
{
    for (uint32_t i = 0; i < pump->out.burst_count; i++) {
        const struct fp_burst *reply = &pump->out.bursts[i];
        struct sockaddr_in6 to;
        socklen_t length = put_address(&to, &reply->peer);
        /* Whoever asks will ask again. */
        sendto(fd, reply->data, reply->length, 0, (struct sockaddr *)&to, length);
        count(&pump->counters.wire_calls, 1);
    }
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

static void prepare_message(struct pump *pump, uint32_t at)
{
    pump->iovecs[at] =
        (struct iovec){pump->buffer + at * pump->slot_size, pump->slot_size};
    pump->messages[at] = (struct mmsghdr){.msg_hdr = {
        .msg_name = &pump->addresses[at],
        .msg_namelen = sizeof *pump->addresses,
        .msg_iov = &pump->iovecs[at],
        .msg_iovlen = 1,
        .msg_control = pump->controls[at].bytes,
        .msg_controllen = sizeof pump->controls[at].bytes,
    }};
}

int receive_bursts(struct pump *pump, int fd, uint32_t want)
{
    /* Only those that were used are prepared again: a lone datagram costs no more. */
    for (; pump->prepared < want; pump->prepared++) prepare_message(pump, pump->prepared);
    /* A slot is longer than the MTU: what is cut to fit is still oversize. */
    int got = recvmmsg(fd, pump->messages, want, MSG_DONTWAIT, NULL);
    count(&pump->counters.wire_calls, 1);
    if (got < 0) return -errno;
    for (int i = 0; i < got; i++) {
        uint32_t length = pump->messages[i].msg_len;
        moved_message(pump, length);
        pump->bursts[i] = (struct fp_burst){
            pump->iovecs[i].iov_base, length,
            segment_of(&pump->messages[i].msg_hdr, length), 0, 0,
            get_address(&pump->addresses[i]),
        };
        prepare_message(pump, (uint32_t)i);
    }
    return got;
}
