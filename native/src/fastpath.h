/* What the files of the fast path share. */
#ifndef FASTPATH_H
#define FASTPATH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* ---- checksum.c: the Internet checksum (RFC 1071) --------------------------------- */

/* The one's complement sum of data, 0 to 0xffff, as a number to be stored by store16; 0
 * is the sum of zeros alone. Of at most 1 MiB. */
uint32_t checksum_sum(const uint8_t *data, size_t length);

/* Copy, and sum what is copied: in one pass over memory. The two must not overlap. */
uint32_t checksum_copy(uint8_t *to, const uint8_t *from, size_t length);

/* Add two such sums. */
static inline uint32_t checksum_add(uint32_t a, uint32_t b)
{
    uint32_t sum = a + b;
    return (sum & 0xffff) + (sum >> 16);
}

/* A sum of 16-bit or of 32-bit numbers, as such a sum. */
static inline uint32_t checksum_fold(uint64_t sum)
{
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

/* The checksum itself, to be stored by store16. */
static inline uint16_t checksum(const uint8_t *data, size_t length)
{
    return (uint16_t)~checksum_sum(data, length);
}

/* ---- packet.c: headers ------------------------------------------------------------ */

struct ip { /* a checked header, in host order */
    uint32_t length, total; /* bytes: of the header, of the packet without padding */
    uint32_t source, destination; /* IPv4; those of IPv6 stay in the packet */
    uint16_t fragment;            /* flags and offset; 0 for IPv6 */
    uint8_t ttl, protocol;        /* IPv6: hop limit, next header */
    uint8_t version;
};

enum { IPV6_HEADER = 40 }; /* bytes; what follows, extensions too, is payload here */

static inline uint16_t load16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static inline uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t load64(const uint8_t *p)
{
    return (uint64_t)load32(p) << 32 | load32(p + 4);
}

static inline void store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void store32(uint8_t *p, uint32_t value)
{
    store16(p, (uint16_t)(value >> 16));
    store16(p + 2, (uint16_t)value);
}

static inline void store64(uint8_t *p, uint64_t value)
{
    store32(p, (uint32_t)(value >> 32));
    store32(p + 4, (uint32_t)value);
}

/* Check a header, of IPv6 only where `ipv6` allows that. -1 if it is sound, else the
 * fp_drop that says why not. */
int ip_parse(const uint8_t *packet, uint32_t length, bool ipv6, struct ip *ip);

/* One hop less, IPv4's checksum adjusted. There must be a hop left. */
void ip_take_hop(uint8_t *packet, const struct ip *ip);

/* Put the packet's length into its header, and IPv4's checksum. */
void ip_put_total(uint8_t *packet, uint32_t header_length, uint32_t total);

/* A number that all packets of a flow share, and others seldom: of addresses, protocol
 * and, where there are some, ports. */
uint32_t ip_flow(const uint8_t *packet, const struct ip *ip);

/* The sum of the pseudo-header of a TCP or UDP packet (RFC 9293 section 3.1, RFC 8200
 * section 8.1). */
uint32_t pseudo_sum(const uint8_t *packet, uint8_t protocol, uint32_t l4_length);

enum { TCP = 6, UDP = 17 };
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_ACK = 16, TCP_ECE = 64, TCP_CWR = 128 };

/* Where the checksum lies behind the IP header, in a TCP or UDP packet that is no
 * fragment and long enough to have it; else 0. */
uint32_t l4_checksum_offset(const struct ip *ip);

/* Does the checksum of such a packet hold no more than the pseudo-header's sum, left for
 * hardware to finish? */
bool is_partial(const uint8_t *packet, const struct ip *ip);

/* Is it right? */
bool l4_sound(const uint8_t *packet, const struct ip *ip);

/* ---- vxlan.c: VXLAN's header, and the Ethernet header behind it ---------------------- */

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd };

/* Write FP_HEADROOM bytes: to `mac`, from us, around a packet of that IP version. */
void vxlan_put(uint8_t *out, const struct fp_config *own, uint64_t mac, uint8_t version);

/* Is this datagram for us? -1, or the fp_drop that says why not. */
int vxlan_check(const struct fp_config *own, const uint8_t *datagram, uint32_t length);

/* ---- split.c: superpackets cut into packets ---------------------------------------- */

/* Where to cut. */
struct cut {
    uint32_t headers; /* bytes that each packet begins with */
    uint32_t segment; /* bytes of payload in each, but for the last */
    uint32_t packets;
};

/* How the kernel wants this frame cut, its IP header checked before. A frame that is
 * one packet has `packets` 1. -1 if it is sound, else FP_BAD_OFFLOAD. */
int split_plan(const struct fp_frame *frame, const struct ip *ip, struct cut *cut);

/* Finish the checksum that the kernel left partial, in place. */
void finish_checksum(const struct fp_frame *frame, const struct ip *ip);

/* Write the packets end to end, each behind a copy of `prefix`; `out` has room for
 * split_size. Each but the last is prefix + headers + segment bytes long. */
uint32_t split_size(const struct cut *cut, const struct ip *ip, uint32_t prefix_length);
void split(uint8_t *out, const uint8_t *packet, const struct ip *ip,
           const struct cut *cut, const uint8_t *prefix, uint32_t prefix_length);

/* ---- merge.c: packets joined to superpackets ---------------------------------------- */

/* The run at the end of the output that a packet may still join. */
struct run {
    bool open;
    uint8_t protocol;
    uint32_t ip_length;        /* bytes of the IP header */
    uint32_t headers, segment; /* as in struct cut */
    uint32_t packets, next_sequence;
};

/* Could this checked packet be one of a run, but for its checksum? Its headers' length,
 * else 0. `merges` says which protocols may. */
uint32_t mergeable(const uint8_t *packet, const struct ip *ip, uint32_t merges);

/* Try to append such a packet to the run, whose frame is the output's last; true if that
 * has grown by it. If not, the run is finished, and if the packet could begin one, *run
 * describes it for the frame to come. The packet lies behind the frame in the same
 * memory. `headers` is their length; 0 if the packet may not be merged. */
bool merge_append(struct run *run, struct fp_frame *frame, uint8_t *packet,
                  const struct ip *ip, uint32_t headers);

/* End the run: make its frame fit to be written. */
void merge_finish(struct run *run, struct fp_frame *frame);

/* ---- icmp.c: errors of ICMP and ICMPv6 --------------------------------------------- */

enum icmp_error { NO_ROUTE_THERE, TOO_BIG };

/* May this packet be answered with that error? (RFC 1812 section 4.3.2.7, RFC 4443
 * section 2.4) */
bool icmp_answerable(const uint8_t *packet, const struct ip *ip, enum icmp_error error);

/* Write the answer to `offender`; `out` has room for FP_MAX_ANSWER. Its length. */
uint32_t icmp_answer(uint8_t *out, const uint8_t *offender, const struct ip *ip,
                     const struct fp_config *own, enum icmp_error error);

/* Take one from the budget of errors; `due` is the limiter's whole state. */
bool icmp_allow(uint64_t *due, uint64_t now);

/* ---- counters: one writer each, who need not wait for the readers ------------------- */

static inline uint64_t value_of(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void set_value(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
    set_value(counter, value_of(counter) + n);
}

/* ---- peers.c: what is counted of each peer, by its number ---------------------------- */

#define NO_PEER UINT32_MAX
enum { CACHE_LINE = 64, FIRST_CHUNK = 64, CHUNKS = 24 };

struct sent {
    _Atomic uint64_t packets, bytes;
};

struct received {
    _Atomic uint64_t packets, bytes, last_seen;
    uint64_t unused; /* so that none lies in two cache lines */
};

struct chunk { /* FIRST_CHUNK of each, in the next chunk twice as many */
    struct sent *sent;
    struct received *received;
    uint32_t *holds; /* the tables that know the peer; of a free number, as peers.free */
};

struct peers {
    struct chunk chunks[CHUNKS];
    uint32_t count; /* the numbers that were ever given */
    uint32_t free;  /* 1 more than the first of those to give again; 0: there is none */
};

struct place {
    uint32_t chunk, at;
};

static inline struct place place_of(uint32_t number)
{
    uint32_t moved = number + FIRST_CHUNK;
    uint32_t chunk = 31 - (uint32_t)__builtin_clz(moved / FIRST_CHUNK);
    return (struct place){chunk, moved - (FIRST_CHUNK << chunk)};
}

static inline struct sent *sent_to(const struct peers *peers, uint32_t number)
{
    struct place place = place_of(number);
    return &peers->chunks[place.chunk].sent[place.at];
}

static inline struct received *received_from(const struct peers *peers, uint32_t number)
{
    struct place place = place_of(number);
    return &peers->chunks[place.chunk].received[place.at];
}

/* A number whose counters are 0, held once. 0 or -ENOMEM. */
int peers_take(struct peers *peers, uint32_t *number);

/* Hold a number that is held, once more; and once less: then it may be given again. */
void peers_hold(struct peers *peers, uint32_t number);
void peers_drop(struct peers *peers, uint32_t number);

void peers_free(struct peers *peers);

/* ---- routes.c, table.c: longest-prefix match -------------------------------------- */

struct routes;       /* the published, immutable table */
struct route_writer; /* the list it is built from, and the tables not yet freed */

void routes_free(struct routes *routes, struct peers *peers); /* out of sight; or NULL */
struct route_writer *route_writer_new(void);
void route_writer_free(struct route_writer *writer, struct peers *peers);

struct found {
    struct fp_peer peer;
    uint32_t number; /* the peer's */
};

/* The peer for an address; false if there is none. Of IPv4, `high` is not looked at. */
bool routes_find(const struct routes *routes, uint8_t version, uint64_t high,
                 uint64_t low, struct found *found);

/* The number of the peer with that address on the underlay, if a route leads to one;
 * else NO_PEER. */
uint32_t routes_number(const struct routes *routes, const struct fp_peer *peer);

/* ---- fastpath.c: one handle ----------------------------------------------------- */

struct counters {
    _Atomic uint64_t packets, bytes, answers, answers_limited, drops[FP_DROPS];
    _Atomic uint64_t frames, frame_bytes, tun_calls;
    _Atomic uint64_t messages, message_bytes, wire_calls, pumps;
    _Atomic uint64_t stages[FP_STAGES], timed_packets, timed_rounds;
};

union control { /* one cmsg: UDP_SEGMENT's uint16_t, or UDP_GRO's int */
    size_t aligned;
    char bytes[32];
};

struct pump { /* one direction's own memory */
    struct counters counters;
    /* Odd while the direction may hold a pointer to the routes, or to who watches. */
    _Atomic uint64_t section;
    uint8_t *buffer; /* tx: frames end to end; rx: slots of slot_size */
    size_t buffer_size, slot_size;
    uint32_t message_count;
    uint32_t width;    /* rx: of the messages, those to receive into next */
    uint32_t prepared; /* rx: of the messages, those fit to receive into */
    struct mmsghdr *messages;
    struct iovec *iovecs;
    struct sockaddr_in6 *addresses; /* or IPv4's in the same room */
    union control *controls;
    uint32_t *segments; /* of each message */
    struct fp_frame *frames;
    struct fp_burst *bursts;
    struct fp_output out;
    bool patient;         /* may this pump call still wait for a full socket or TUN? */
    uint32_t number;      /* of the next packet: for observers */
    uint32_t *numbers;    /* tx: of each message's first packet */
    bool timed;           /* is this round? */
    uint32_t rounds;      /* since one was timed */
    uint64_t stage_began; /* of a timed round */
    uint64_t reading;     /* ns that it takes to read the clock */
};

struct fp {
    struct fp_config config;
    _Atomic(struct routes *) routes;
    struct route_writer *writer;
    _Atomic(struct watch *) watch; /* or NULL: nobody watches */
    struct watch *watches;         /* those that ended, and may still be in sight */
    struct peers peers;
    uint64_t icmp_due;          /* tx only */
    uint64_t probe_due;         /* rx only */
    _Atomic uint32_t offloads; /* bits only go */
    struct pump pumps[FP_DIRECTIONS];
    uint8_t *memory; /* of the pumps' packets */
};

/* Enter before reading fp->routes or fp->watch, leave when done with what was found. */
static inline void section_enter(struct pump *pump)
{
    atomic_fetch_add(&pump->section, 1);
}

static inline void section_leave(struct pump *pump)
{
    atomic_fetch_add_explicit(&pump->section, 1, memory_order_release);
}

/* The sections at the moment when something that the pumps read was replaced. Whoever
 * replaces it stores the new pointer and then takes this; a pump enters its section and
 * then loads the pointer: so what it may still hold shows here, if all of that is
 * sequentially consistent. */
struct sections {
    uint64_t seen[FP_DIRECTIONS];
};

static inline struct sections sections_of(struct fp *fp)
{
    struct sections sections;
    for (int i = 0; i < FP_DIRECTIONS; i++)
        sections.seen[i] = atomic_load(&fp->pumps[i].section);
    return sections;
}

/* Has every pump left the section that it was in then? */
static inline bool out_of_sight(struct fp *fp, const struct sections *then)
{
    for (int i = 0; i < FP_DIRECTIONS; i++)
        if (then->seen[i] % 2 && atomic_load(&fp->pumps[i].section) == then->seen[i])
            return false;
    return true;
}

/* ---- stages.c: where the time goes -------------------------------------------------- */

uint64_t now_ns(void); /* of CLOCK_MONOTONIC */

/* Nanoseconds that it takes to read the clock. */
uint64_t reading_ns(void);

void begin_timed_round(struct pump *pump);
void end_timed_stage(struct pump *pump, enum fp_stage stage);

static inline void begin_round(const struct fp *fp, struct pump *pump)
{
    if (!fp->config.time_stages) return;
    pump->timed = ++pump->rounds >= fp->config.time_stages;
    if (!pump->timed) return;
    pump->rounds = 0;
    begin_timed_round(pump);
}

/* A stage ends: of a timed round, what went by since the last one did is its time. */
static inline void end_stage(struct pump *pump, enum fp_stage stage)
{
    if (__builtin_expect(pump->timed, false)) end_timed_stage(pump, stage);
}

/* Bytes in front of each packet in a datagram. */
static inline uint32_t headroom(const struct fp *fp)
{
    return fp->config.vxlan ? FP_HEADROOM : 0;
}

enum { MAX_ANSWER4 = 96 }; /* bytes of the longest error of ICMP */

/* Bytes that a packet of that IP version may have; 0: there are none. */
static inline uint32_t mtu_of(const struct fp *fp, uint8_t version)
{
    return version == 6 ? fp->config.mtu6 : fp->config.mtu;
}

static inline uint32_t largest_mtu(const struct fp *fp)
{
    return fp->config.mtu > fp->config.mtu6 ? fp->config.mtu : fp->config.mtu6;
}

#endif
