/* How a path must treat what it is given, and two judges that hold fp_wrap and fp_unwrap
 * to it. */
#ifndef MODEL_H
#define MODEL_H

#include "paths.h"

enum {
    ARENA = 1 << 18,
    FRAMES = 1024, /* frames, or bursts, that are judged at once */
    OWED = 50,     /* answers that may be sent at once */
};

/* Room for results, small enough to be found too small. */
static inline struct fp_output results(uint32_t capacity, uint32_t arena_size)
{
    static struct fp_burst bursts[FRAMES];
    static struct fp_frame frames[FRAMES];
    static uint8_t arena[ARENA];
    check(capacity <= FRAMES && arena_size <= ARENA);
    return (struct fp_output){
        .bursts = bursts, .frames = frames, .capacity = capacity,
        .arena = arena, .arena_size = arena_size,
    };
}

static inline void judge_drops(struct fp *fp, enum fp_direction direction,
                               const struct fp_counters *before, const uint64_t *drops)
{
    struct fp_counters now;
    fp_read_counters(fp, direction, &now);
    for (int i = 0; i < FP_DROPS; i++) check(now.drops[i] - before->drops[i] == drops[i]);
}

/* ---- observers --------------------------------------------------------------------------- */

struct told {
    bool some;           /* was anything? */
    uint32_t next;       /* the number of what comes in next */
    uint32_t into, last; /* of what was merged last */
};

/* Numbers follow one another: those of what comes in, and those within a frame. */
static inline void judge_number(struct told *told, const struct fp_event *event)
{
    uint32_t number = event->number;
    bool begins = event->kind == FP_READ || event->kind == FP_RECEIVED;
    if (told->some) check(number == told->next - !begins);
    told->some = true;
    if (begins) told->next = number + 1;
    if (event->kind == FP_WRAPPED || event->kind == FP_UNWRAPPED || event->kind == FP_DROPPED)
        told->next = number + event->packets;
    if (event->kind != FP_MERGED) return;
    check(number == (event->into == told->into ? told->last : event->into) + 1);
    told->into = event->into;
    told->last = number;
}

/* Whoever watches was told of all that came in, and of every drop. */
static inline void judge_told(const struct path *path, enum fp_direction direction,
                              const uint64_t *drops, uint32_t probes)
{
    static uint8_t records[4 << 20];
    uint64_t lost, dropped[FP_DROPS] = {0}, kinds[FP_KINDS] = {0};
    struct told told = {0};
    if (!path->watched) return;
    int length = fp_watched(path->fp, direction, records, sizeof records, &lost);
    check(length >= 0 && lost == 0);
    for (int at = 0; at < length;) {
        struct fp_event event;
        memcpy(&event, records + at, sizeof event);
        check(event.size % 8 == 0 && event.captured <= 50 && event.captured <= event.length);
        check(event.size >= sizeof event + event.captured);
        check(event.kind < FP_KINDS && event.direction == direction && event.packets);
        judge_number(&told, &event);
        kinds[event.kind]++;
        if (event.kind == FP_DROPPED) dropped[event.drop] += event.packets;
        at += (int)event.size;
    }
    check(memcmp(dropped, drops, sizeof dropped) == 0);
    check(kinds[FP_READ] == (direction == FP_TX ? kinds[FP_WRAPPED] + kinds[FP_DROPPED] : 0));
    check(kinds[FP_RECEIVED] ==
          (direction == FP_RX ? kinds[FP_UNWRAPPED] + kinds[FP_DROPPED] + probes : 0));
}

/* ---- tx: errors that answer -------------------------------------------------------------- */

struct owed { /* an answer, and to what */
    int reason;
    uint32_t total, quoted;
    uint8_t quote[FP_MAX_ANSWER];
};

static struct owed owed[FRAMES];
static uint32_t owed_count;

static inline bool answerable4(const uint8_t *packet, const struct head *head, bool too_big)
{
    static const uint8_t errors[] = {3, 4, 5, 11, 12};
    const uint8_t *from = packet + 12, *to = packet + 16;
    if (head->fragment & FRAGMENT_OFFSET) return false;
    if (head->protocol == ICMP) {
        if (!too_big || head->total == head->length) return false;
        if (memchr(errors, packet[head->length], sizeof errors)) return false;
    }
    return from[0] && from[0] != 127 && from[0] < 224 && to[0] < 224;
}

static inline bool answerable6(const uint8_t *packet, const struct head *head, bool too_big)
{
    struct address from = read_address(packet, true);
    if (head->protocol == ICMPV6) {
        if (head->total == HEADER6) return false;
        if (packet[HEADER6] < 128 || packet[HEADER6] == 137) return false;
    }
    if (packet[24] == 0xff && !too_big) return false;
    return packet[8] != 0xff && (from.high || from.low > 1);
}

static inline void owe(const uint8_t *packet, int reason)
{
    struct head head = read_head(packet);
    bool six = head.version == 6, too_big = reason == FP_OVERSIZE;
    if (too_big && !six && !(head.fragment & DONT_FRAGMENT)) return;
    if (!(six ? answerable6 : answerable4)(packet, &head, too_big)) return;
    struct owed *one = &owed[owed_count++];
    one->reason = reason;
    one->quoted = six ? FP_MAX_ANSWER - HEADER6 - 8 : head.length + 8;
    if (one->quoted > head.total) one->quoted = head.total;
    memcpy(one->quote, packet, one->quoted);
}

static inline void judge_answer(const struct path *path, const struct fp_frame *frame,
                                const struct owed *one)
{
    const struct fp_config *config = &path->config;
    const uint8_t *packet = frame->data;
    struct fp_vnet none = {0};
    struct head head;
    bool six = is_6(one->quote), too_big = one->reason == FP_OVERSIZE;
    check(memcmp(&frame->vnet, &none, sizeof none) == 0);
    check(frame->length <= FP_MAX_ANSWER && unsound(packet, frame->length, six) < 0);
    head = read_head(packet);
    const uint8_t *icmp = packet + head.length;
    struct address from = read_address(packet, true), to = read_address(packet, false);
    struct address offender = read_address(one->quote, true);
    uint32_t length = 8 + one->quoted;
    check(head.total == frame->length && head.total == head.length + length);
    check(is_6(packet) == six && to.high == offender.high && to.low == offender.low);
    if (six) {
        check(get(packet, 4) == 0x60000000 && head.protocol == ICMPV6 && head.hops == 64);
        check(from.high == config->high6 && from.low == config->low6);
        check(icmp[0] == (too_big ? 2 : 1) && icmp[1] == 0);
        check(get(icmp + 4, 4) == (too_big ? config->mtu6 : 0));
        check(inverse_sum(icmp, length, pseudo_header(packet, ICMPV6, length)) == 0);
    } else {
        check(packet[0] == 0x45 && packet[1] == 0 && get(packet + 4, 4) == 0);
        check(head.protocol == ICMP && head.hops == 8 && from.low == config->address);
        check(icmp[0] == 3 && icmp[1] == (too_big ? 4 : 0) && get(icmp + 4, 2) == 0);
        check(get(icmp + 6, 2) == (too_big ? (uint16_t)config->mtu : 0));
        check(inverse_sum(icmp, length, 0) == 0);
    }
    check(memcmp(icmp + 8, one->quote, one->quoted) == 0);
}

/* ---- tx ---------------------------------------------------------------------------------- */

/* Put what stands on the wire into the packets from `next` on. */
static inline void send_wanted(const struct path *path, uint32_t next, const struct fp_peer *peer)
{
    static uint8_t datagram[FRONT + HEADER6 + FP_MAX_PACKET];
    const struct fp_config *config = &path->config;
    uint32_t flows = peer->version == 6 ? config->flows6 : config->flows;
    for (; next < wanted.count; next++) {
        struct one *one = &wanted.list[next];
        one->flow = flow_of(one->data, flows);
        one->peer = *peer;
        if (!path->front) {
            take_hop(one->data);
            continue;
        }
        memcpy(datagram + FRONT, one->data, one->length);
        put_front(datagram, config->vni, peer->mac, OWN_MAC, is_6(one->data));
        check(wanted.used + one->length + FRONT <= BYTES);
        one->data = wanted.bytes + wanted.used;
        one->front = FRONT;
        one->length += FRONT;
        memcpy(one->data, datagram, one->length);
        wanted.used += one->length;
    }
}

static inline void model_wrap(const struct path *path, const struct fp_frame *frame,
                              uint32_t arena_size, uint64_t *drops)
{
    struct plan plan = {.packets = 1};
    int reason = unsound(frame->data, frame->length, path->config.mtu6);
    if (reason < 0) reason = plan_cut(frame, &plan);
    if (reason >= 0) {
        drops[reason]++;
        return;
    }
    struct head head = read_head(frame->data);
    const struct fp_peer *peer = peer_of(frame->data, false);
    bool cuts = plan.packets > 1;
    uint32_t longest = cuts ? plan.headers + plan.segment : head.total;
    uint32_t copied = head.total + (plan.packets - 1) * plan.headers + plan.packets * path->front;
    if (cuts && copied > arena_size)
        reason = FP_BAD_OFFLOAD;
    else if (!peer)
        reason = FP_NO_ROUTE;
    else if (!path->front && head.hops <= 1)
        reason = FP_TTL_EXPIRED;
    else if (longest > mtu_for(path, frame->data))
        reason = FP_OVERSIZE;
    if (reason >= 0) {
        drops[reason] += plan.packets;
        if (reason == FP_NO_ROUTE || reason == FP_OVERSIZE) owe(frame->data, reason);
        return;
    }
    uint32_t next = wanted.count;
    cut_frame(&wanted, frame, &plan);
    send_wanted(path, next, peer);
}

static inline void take_burst(const struct path *path, const struct fp_burst *burst)
{
    check(burst->length > 0 && burst->segment > 0);
    for (uint32_t at = 0; at < burst->length; at += burst->segment) {
        uint32_t left = burst->length - at;
        uint32_t length = left < burst->segment ? left : burst->segment;
        struct one *one = add(&given, burst->data + at, length);
        one->front = path->front;
        one->peer = burst->peer;
        one->flow = burst->flow;
    }
}

/* A datagram or a drop for each packet that the frames stand for, and the answers. */
static inline void judge_wrap(const struct path *path, const struct fp_frame *frames,
                              uint32_t count)
{
    static uint64_t now;
    uint32_t capacity = path->tight ? 2 : FRAMES, arena_size = path->tight ? 4096 : ARENA;
    uint64_t drops[FP_DROPS] = {0};
    struct fp_counters before, after;
    uint32_t answers = 0;
    reset_packets();
    owed_count = 0;
    for (uint32_t i = 0; i < count; i++) model_wrap(path, &frames[i], arena_size, drops);
    fp_read_counters(path->fp, FP_TX, &before);
    now += 1000000000; /* long enough for answers to be owed again */
    for (uint32_t done = 0; done < count;) {
        struct fp_output out = results(capacity, arena_size);
        int consumed = fp_wrap(path->fp, frames + done, count - done, now, &out);
        check(consumed > 0 && out.burst_count <= capacity && out.frame_count <= capacity);
        check(out.arena_used <= arena_size);
        done += (uint32_t)consumed;
        for (uint32_t i = 0; i < out.frame_count; i++) {
            check(answers < owed_count && answers < OWED);
            judge_answer(path, &out.frames[i], &owed[answers++]);
        }
        for (uint32_t i = 0; i < out.burst_count; i++) take_burst(path, &out.bursts[i]);
    }
    judge_drops(path->fp, FP_TX, &before, drops);
    judge_told(path, FP_TX, drops, 0);
    fp_read_counters(path->fp, FP_TX, &after);
    uint64_t made = after.answers - before.answers;
    uint64_t limited = after.answers_limited - before.answers_limited;
    check(made == answers && made + limited == owed_count);
    check(made == OWED || limited == 0);
    judge_packets();
}

/* ---- rx ---------------------------------------------------------------------------------- */

/* -1, or why the packet of a datagram is not forwarded, its length apart. */
static inline int bad_packet(const struct path *path, const uint8_t *datagram, uint32_t length,
                             const struct fp_peer *sender)
{
    const uint8_t *packet = datagram + path->front;
    int reason = unsound(packet, length - path->front, path->config.mtu6);
    if (reason >= 0) return reason;
    if (path->front && (get(packet - 2, 2) == 0x86dd) != is_6(packet)) return FP_BAD_ETHERTYPE;
    if (!path->front && read_head(packet).hops <= 1) return FP_TTL_EXPIRED;
    if (path->config.peer_check != FP_CHECK_STRICT) return -1;
    const struct fp_peer *owner = peer_of(packet, true);
    return owner && same_host(owner, sender) ? -1 : FP_WRONG_SOURCE;
}

static inline void take_datagram(const struct path *path, const uint8_t *packet)
{
    struct head head = read_head(packet);
    uint8_t *copy = add(&wanted, packet, head.total)->data;
    if (!path->front)
        take_hop(copy);
    else if (is_left_partial(copy, &head) && !checksum_verifies(copy, &head))
        put_l4_checksum(copy, head.total);
}

struct reply { /* to a probe */
    uint8_t bytes[PROBE_BYTES];
    struct fp_peer peer;
};
static struct reply replies[FRAMES * 4];
static uint32_t replies_owed;

static inline void drop_datagram(const uint8_t *datagram, uint32_t length,
                                 const struct fp_peer *sender, int reason, uint64_t *drops)
{
    struct reply *reply = &replies[replies_owed];
    if (length < PROBE_BYTES || memcmp(datagram, probe_head, sizeof probe_head) != 0) {
        drops[reason]++;
        return;
    }
    check(replies_owed++ < sizeof replies / sizeof *replies);
    memcpy(reply->bytes, datagram, PROBE_BYTES);
    reply->bytes[16] = 2;
    reply->bytes[17] = is_peer(sender);
    reply->bytes[18] = (uint8_t)(length >> 8);
    reply->bytes[19] = (uint8_t)length;
    reply->peer = *sender;
}

static inline void model_unwrap(const struct path *path, const uint8_t *datagram,
                                uint32_t length, const struct fp_peer *sender, uint64_t *drops)
{
    uint32_t mtu = path->config.mtu, mtu6 = path->config.mtu6;
    int reason = bad_front(path, datagram, length);
    uint32_t inner = length - path->front;
    if (reason < 0 && inner > (mtu > mtu6 ? mtu : mtu6)) reason = FP_OVERSIZE;
    if (reason < 0) reason = bad_packet(path, datagram, length, sender);
    const uint8_t *packet = datagram + path->front;
    if (reason < 0 && inner > mtu_for(path, packet)) reason = FP_OVERSIZE;
    if (reason < 0)
        take_datagram(path, packet);
    else
        drop_datagram(datagram, length, sender, reason, drops);
}

/* Is it a kernel's superpacket? Its own length accounts for all of the burst, though
 * that is cut, or too long for one packet. */
static inline bool is_kernels(const struct path *path, const struct fp_burst *burst)
{
    if (!path->front || burst->length < FRONT + 20) return false;
    const uint8_t *packet = burst->data + FRONT;
    uint32_t total = is_6(packet) ? HEADER6 + get(packet + 4, 2) : get(packet + 2, 2);
    return total == burst->length - FRONT &&
           (burst->segment < burst->length || total > mtu_for(path, packet));
}

/* A sound packet that says of itself that it is the whole burst: how is it cut? -1, or
 * why it is not. */
static inline int plan_kernels(const struct path *path, const struct fp_burst *burst,
                               struct plan *plan)
{
    const uint8_t *packet = burst->data + FRONT;
    struct head head = read_head(packet);
    uint32_t mtu = mtu_for(path, packet);
    bool told = burst->segment < burst->length, udp = head.protocol == UDP;
    *plan = (struct plan){.packets = 1};
    if (!has_checksum(&head) || (udp && !told)) return FP_OVERSIZE;
    uint32_t at = payload_at(packet, &head);
    if (udp && get(packet + head.length + 4, 2) != head.total - head.length) at = 0;
    uint32_t full = mtu < 1280 ? mtu : 1280; /* what every pod takes */
    if (!at || at >= full || at == head.total) return FP_BAD_OFFLOAD;
    plan->headers = at;
    plan->segment = told ? burst->segment : full - at;
    while (plan->packets * plan->segment < head.total - at) plan->packets++;
    if (udp && plan->packets > 128) return FP_BAD_OFFLOAD;
    uint32_t longest = plan->packets > 1 ? at + plan->segment : head.total;
    if (longest > mtu) return FP_OVERSIZE;
    bool sound = is_left_partial(packet, &head) || checksum_verifies(packet, &head);
    return sound ? -1 : FP_BAD_CHECKSUM;
}

static inline void model_kernels(const struct path *path, const struct fp_burst *burst,
                                 uint32_t capacity, uint32_t arena_size, uint64_t *drops)
{
    struct plan plan = {.packets = 1};
    uint8_t *packet = burst->data + FRONT;
    struct head head = read_head(packet);
    int reason = bad_front(path, burst->data, burst->length);
    if (reason < 0) reason = bad_packet(path, burst->data, burst->length, &burst->peer);
    if (reason < 0) reason = plan_kernels(path, burst, &plan);
    bool merges = path->config.offloads & (head.protocol == TCP ? FP_MERGE_TCP : FP_MERGE_UDP);
    uint32_t copied = head.total + (plan.packets - 1) * plan.headers;
    bool fits = merges || plan.packets == 1 ||
                (plan.packets <= capacity && copied <= arena_size);
    if (reason < 0 && !fits) reason = FP_BAD_OFFLOAD;
    if (reason >= 0) {
        drops[reason] += plan.packets - 1;
        drop_datagram(burst->data, burst->length, &burst->peer, reason, drops);
    } else if (plan.packets == 1) {
        take_datagram(path, packet);
    } else {
        struct fp_frame frame = {.data = packet, .length = head.total};
        cut_frame(&wanted, &frame, &plan);
    }
}

/* What Linux demands of a superpacket that is written to a TUN, and what we do: its
 * checksum field holds the pseudo-header's sum. */
static inline void judge_superpacket(const struct path *path, const struct fp_frame *frame,
                                     struct plan *plan)
{
    const struct fp_vnet *vnet = &frame->vnet;
    struct head head = read_head(frame->data);
    bool tcp = head.protocol == TCP;
    check(path->config.offloads & (tcp ? FP_MERGE_TCP : FP_MERGE_UDP));
    check(plan_cut(frame, plan) < 0 && plan->packets > 1);
    check(tcp || plan->packets <= (path->front ? 128 : 64));
    check(!(vnet->gso_type & FP_VNET_ECN) && vnet->header_length == plan->headers);
    check(plan->headers + plan->segment <= mtu_for(path, frame->data));
    check(tcp || get(frame->data + head.length + 4, 2) == head.total - head.length);
}

static inline void take_frame(const struct path *path, const struct fp_frame *frame)
{
    struct fp_vnet none = {0};
    const struct fp_vnet *vnet = &frame->vnet;
    struct plan plan = {.packets = 1};
    struct head head = read_head(frame->data);
    check(unsound(frame->data, frame->length, path->config.mtu6) < 0);
    check(head.total == frame->length);
    if (memcmp(vnet, &none, sizeof none) == 0) {
        add(&given, frame->data, frame->length);
        return;
    }
    check(path->config.offloads & FP_VNET && vnet->flags == FP_VNET_NEEDS_CSUM);
    check(has_checksum(&head) && is_left_partial(frame->data, &head));
    check(vnet->checksum_start == head.length);
    check(vnet->checksum_offset == field_of(head.protocol));
    if (vnet->gso_type)
        judge_superpacket(path, frame, &plan);
    else
        check(path->front && !vnet->segment && !vnet->header_length);
    cut_frame(&given, frame, &plan);
}

static inline void model_burst(const struct path *path, const struct fp_burst *burst,
                               uint32_t capacity, uint32_t arena_size, uint64_t *drops)
{
    uint32_t length = burst->length, segment = burst->segment, at = 0;
    uint32_t datagrams = length ? (length + segment - 1) / segment : 1;
    bool kernels = is_kernels(path, burst);
    if (!kernels && datagrams > capacity) {
        drops[FP_BAD_OFFLOAD] += datagrams;
    } else if (path->config.peer_check != FP_CHECK_OFF && !is_peer(&burst->peer)) {
        for (uint32_t left = kernels ? 1 : datagrams; left; left--, at += segment) {
            uint32_t this = left > 1 ? segment : length - at;
            drop_datagram(burst->data + at, this, &burst->peer, FP_UNKNOWN_PEER, drops);
        }
    } else if (kernels) {
        model_kernels(path, burst, capacity, arena_size, drops);
    } else {
        for (; datagrams > 1; datagrams--, at += segment)
            model_unwrap(path, burst->data + at, segment, &burst->peer, drops);
        model_unwrap(path, burst->data + at, length - at, &burst->peer, drops);
    }
}

/* A packet in a frame, or a drop, for each datagram. */
static inline void judge_unwrap(const struct path *path, const struct fp_burst *bursts,
                                uint32_t count)
{
    uint32_t capacity = path->tight ? 8 : FRAMES, arena_size = path->tight ? 4096 : ARENA;
    static uint64_t now;
    uint64_t drops[FP_DROPS] = {0};
    struct fp_counters before, after;
    uint32_t replied = 0;
    reset_packets();
    replies_owed = 0;
    for (uint32_t i = 0; i < count; i++)
        model_burst(path, &bursts[i], capacity, arena_size, drops);
    fp_read_counters(path->fp, FP_RX, &before);
    now += 1000000000; /* long enough for replies to be owed again */
    for (uint32_t done = 0; done < count;) {
        struct fp_output out = results(capacity, arena_size);
        int consumed = fp_unwrap(path->fp, bursts + done, count - done, now, &out);
        check(consumed > 0 && out.frame_count <= capacity && out.burst_count <= capacity);
        check(out.arena_used <= arena_size);
        done += (uint32_t)consumed;
        for (uint32_t i = 0; i < out.frame_count; i++) take_frame(path, &out.frames[i]);
        for (uint32_t i = 0; i < out.burst_count; i++, replied++) {
            const struct fp_burst *burst = &out.bursts[i];
            check(replied < replies_owed && burst->length == PROBE_BYTES);
            check(memcmp(burst->data, replies[replied].bytes, PROBE_BYTES) == 0);
            check(memcmp(&burst->peer, &replies[replied].peer, sizeof burst->peer) == 0);
        }
    }
    fp_read_counters(path->fp, FP_RX, &after);
    uint64_t limited = after.answers_limited - before.answers_limited;
    check(after.answers - before.answers == replied && replied + limited == replies_owed);
    check(replied == OWED || limited == 0);
    judge_drops(path->fp, FP_RX, &before, drops);
    judge_told(path, FP_RX, drops, replies_owed);
    judge_packets();
}

#endif
