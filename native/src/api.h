/* The fast path's whole surface. C includes this file through fastpath.h, and cffi
 * parses it: no preprocessor beyond plain #define.
 *
 * Words: a frame is what the TUN gives or takes; a burst is bytes cut every `segment`
 * bytes into datagrams of one peer, the last perhaps shorter (what UDP_SEGMENT and
 * UDP_GRO speak). tx is TUN to wire, rx is wire to TUN. Addresses are numbers in host
 * order, those of IPv6 in two halves; one that may be either has IPv4's in the low half.
 * A MAC is a number of 48 bits. Functions that return int give a count, or 0, or -errno.
 *
 * Threads: one caller at a time for each direction (fp_pump, fp_run, fp_wrap for tx,
 * fp_unwrap for rx), and one for the routes (fp_set_routes, fp_del_routes, fp_find,
 * fp_read_peers); all of these may run side by side.
 * fp_watch, fp_unwatch and fp_watched have one caller, too.
 * fp_stop and fp_read_counters may be called by anyone at any time. */

enum fp_direction { FP_TX, FP_RX };
#define FP_DIRECTIONS 2

/* encap/drop.py has the same names in the same order, and says what they mean. */
enum fp_drop {
    FP_SHORT, FP_BAD_VERSION, FP_BAD_HEADER, FP_BAD_LENGTH, FP_BAD_CHECKSUM,
    FP_TTL_EXPIRED, FP_NO_ROUTE, FP_OVERSIZE, FP_SEND_FAILED, FP_WRITE_FAILED,
    FP_BAD_OFFLOAD, FP_UNKNOWN_PEER, FP_WRONG_SOURCE, FP_BAD_FLAGS, FP_WRONG_VNI,
    FP_WRONG_MAC, FP_BAD_ETHERTYPE
};
#define FP_DROPS 17

/* What may be used; a bit goes when the kernel refuses it at run time. */
enum fp_offload {
    FP_VNET = 1,      /* each frame has a virtio header: the TUN's IFF_VNET_HDR */
    FP_MERGE_TCP = 2, /* rx: write runs of TCP segments as one frame */
    FP_MERGE_UDP = 4, /* rx: write runs of UDP datagrams as one frame */
    FP_GSO = 8,       /* tx: send a burst by one UDP_SEGMENT message */
    FP_GRO = 16       /* rx: the socket has UDP_GRO on */
};

/* Whose packets are taken from the wire: anybody's; those from an address that is a
 * peer's; and then only if a packet's own source lies in that peer's subnets. */
enum fp_peer_check { FP_CHECK_OFF, FP_CHECK_PEER, FP_CHECK_STRICT };

/* The pieces of a packet's way whose time is taken. tx: read; look up, headers checked;
 * split, in one pass with the checksums and the copy, and wrap; send; write what answers.
 * rx: receive; check the sender and the headers; verify the checksum of what may be
 * merged; merge; write. */
enum fp_stage {
    FP_STAGE_READ, FP_STAGE_LOOKUP, FP_STAGE_SPLIT, FP_STAGE_SEND, FP_STAGE_RECEIVE,
    FP_STAGE_CHECK, FP_STAGE_CHECKSUM, FP_STAGE_MERGE, FP_STAGE_WRITE
};
#define FP_STAGES 9

#define FP_MAX_BATCH 1024 /* frames or datagrams a system call can move */
#define FP_MAX_ANSWER 1280 /* bytes of the longest ICMP error */
#define FP_MAX_PACKET 65535
#define FP_MAX_FLOWS 16 /* sockets that send, of one IP version */
#define FP_HEADROOM 22  /* bytes of VXLAN's header and the Ethernet header behind it */

struct fp_config {
    int32_t tun_fd;           /* this and all sockets: non-blocking; borrowed until fp_free */
    int32_t udp_fd, udp6_fd;  /* receive; -1 for udp6_fd: there is none */
    int32_t flow_fds[FP_MAX_FLOWS], flow6_fds[FP_MAX_FLOWS]; /* send, by inner flow */
    uint32_t flows, flows6;   /* how many of them; 0: the socket that receives sends */
    int32_t stop_fd;          /* an eventfd; borrowed; readable once fp_stop was called */
    uint32_t mtu;             /* of IPv4 packets, bytes, 68 to 65507 less headers */
    uint32_t mtu6;            /* of IPv6 packets; 0: they are dropped as FP_BAD_VERSION */
    uint32_t address;         /* the TUN's: the source of ICMP errors */
    uint64_t high6, low6;     /* the TUN's IPv6 address, likewise */
    uint32_t batch;           /* 1 to FP_MAX_BATCH */
    uint32_t offloads;        /* of enum fp_offload; merges and vnet go together */
    uint32_t peer_check;      /* of enum fp_peer_check */
    uint32_t vxlan;           /* 0: datagrams are packets, as flannel's udp has it */
    uint32_t vni;
    uint64_t mac;             /* ours */
    uint32_t time_stages;     /* take the time in one round of so many; 0: never */
};

struct fp_peer {
    uint64_t high, low;     /* its address on the underlay */
    uint64_t mac;           /* of VXLAN */
    uint32_t version, port; /* of the address: 4 or 6; 1 to 65535 */
};

/* A prefix: no host bits; length 0 to 32, or of IPv6 to 128. An IPv4 prefix has a peer
 * of IPv4. */
struct fp_route {
    uint64_t high, low;
    uint32_t length, version; /* 4 or 6 */
    struct fp_peer peer;
};

struct fp_found {
    uint32_t address, port; /* the peer's; port 0: there is none */
};

struct fp_burst {
    uint8_t *data;
    uint32_t length, segment; /* bytes; 0 < segment unless length is 0 */
    uint32_t flow;            /* tx: the place in flow_fds, or flow6_fds */
    uint32_t number;          /* tx: its first packet's, for observers */
    struct fp_peer peer;      /* tx: to whom; rx: from whom, without a MAC */
};

/* virtio_net_hdr (VIRTIO 1.2 section 5.1.6), in host order as the TUN gives it. */
struct fp_vnet {
    uint8_t flags, gso_type;
    uint16_t header_length, segment, checksum_start, checksum_offset;
};
#define FP_VNET_NEEDS_CSUM 1
#define FP_VNET_TCPV4 1
#define FP_VNET_TCPV6 4
#define FP_VNET_UDP 5
#define FP_VNET_ECN 128

/* A packet, or a superpacket: then vnet says how it is to be cut. */
struct fp_frame {
    uint8_t *data;
    uint32_t length;
    struct fp_vnet vnet;
    uint32_t number; /* to the TUN: its first packet's, for observers */
};

/* Room for results: the caller fills in the pointers, `capacity` and `arena_size`. */
struct fp_output {
    struct fp_burst *bursts; /* to the wire */
    struct fp_frame *frames; /* to the TUN */
    uint32_t capacity;       /* of bursts, and of frames */
    uint32_t burst_count, frame_count;
    uint8_t *arena; /* for bytes that no input holds */
    uint32_t arena_size, arena_used;
};

struct fp_counters {
    uint64_t packets, bytes;           /* forwarded */
    /* ICMP errors, on rx replies to probes: made, and held back by rate. */
    uint64_t answers, answers_limited;
    uint64_t drops[FP_DROPS];
    /* What went over the border to the kernel, and by how many system calls; calls that
     * found nothing, or failed, are among them. A burst that the kernel cuts or joins is
     * one message. */
    uint64_t frames, frame_bytes, tun_calls; /* bytes with the virtio headers */
    uint64_t messages, message_bytes, wire_calls; /* bytes of UDP payload */
    uint64_t pumps; /* begun: how often there was something to read again */
    /* In the rounds that were timed, each a batch: nanoseconds of each stage; how many
     * packets were forwarded; how many rounds. */
    uint64_t stages[FP_STAGES], timed_packets, timed_rounds;
};

/* Of the peer with that address on the underlay, whatever routes lead there, since the
 * first of them was set. */
struct fp_peer_counters {
    uint64_t high, low;
    uint64_t tx_packets, tx_bytes; /* wrapped for it; bytes of IP packets */
    uint64_t rx_packets, rx_bytes; /* datagrams from it, without VXLAN's headers */
    uint64_t last_seen; /* ns of CLOCK_MONOTONIC: when its last datagram came; or 0 */
    uint32_t version;
};

struct fp;

/* Allocate all that the pumps will need: they allocate nothing. *fp is freed by fp_free,
 * once no other call is under way. -EINVAL for a setting out of range, -ENOMEM. */
int fp_new(const struct fp_config *config, struct fp **fp);
void fp_free(struct fp *fp);

/* Insert or replace `count` routes; of equal prefixes the last one wins. All become
 * visible to the pumps at once. -EINVAL (nothing changed) or -ENOMEM. */
int fp_set_routes(struct fp *fp, const struct fp_route *routes, uint32_t count);

/* Remove routes by prefix and length; unknown ones are no error. -ENOMEM. */
int fp_del_routes(struct fp *fp, const struct fp_route *routes, uint32_t count);

/* Look up many IPv4 addresses as fp_wrap does. How many have a peer. */
int fp_find(struct fp *fp, const uint32_t *addresses, uint32_t count,
            struct fp_found *found);

/* The first `room` of the known peers' counters. How many peers there are. */
int fp_read_peers(struct fp *fp, struct fp_peer_counters *counters, uint32_t room);

/* Move packets now, up to `budget` from each descriptor, until there are none. Returns
 * how many were read, or -errno when a descriptor is dead (-EBADFD: the TUN device is
 * gone). */
int fp_pump(struct fp *fp, enum fp_direction direction, uint32_t budget);

/* Pump whenever there is something to read, until fp_stop; blocks. `directions` has bit
 * 1 << direction for each that is meant. 0 or -errno. */
int fp_run(struct fp *fp, uint32_t directions);

/* Make every fp_run return soon, now and for ever. 0 or -errno. */
int fp_stop(struct fp *fp);

/* The offloads in use now, of enum fp_offload. */
uint32_t fp_offloads(struct fp *fp);

void fp_read_counters(struct fp *fp, enum fp_direction direction,
                      struct fp_counters *counters);

/* The pumps without their system calls. Frames are changed in place, and the results
 * point into them or into the arena: borrowed for as long as the caller keeps both.
 * With VXLAN, FP_HEADROOM bytes before each frame are the path's to write, too.
 * `now` is nanoseconds of CLOCK_MONOTONIC. Returns how many inputs were
 * consumed: fewer than `total` when the output has no room for the next; call again
 * with the rest once the output was used. `packets` and `bytes` are not counted: that is
 * for whoever sends them.
 * Bursts given to fp_unwrap lie one behind the other in one piece of memory; those that
 * it gives are replies to probes (probe.h). */
int fp_wrap(struct fp *fp, const struct fp_frame *frames, uint32_t total, uint64_t now,
            struct fp_output *out);
int fp_unwrap(struct fp *fp, const struct fp_burst *bursts, uint32_t total,
              uint64_t now, struct fp_output *out);

/* ---- watching: what happens to packets, told to one observer --------------------------- */

/* tx: a frame is read, its peer found, and what it was cut into wrapped; each datagram is
 * sent. rx: each datagram is received, its sender checked, its packet unwrapped, and
 * joined to the superpacket before it or not; each frame is written. On tx what is written
 * is an ICMP error of ours. Everywhere packets may be dropped. */
enum fp_kind {
    FP_READ, FP_ROUTED, FP_WRAPPED, FP_SENT, FP_RECEIVED, FP_CHECKED, FP_UNWRAPPED,
    FP_MERGED, FP_WRITTEN, FP_DROPPED
};
#define FP_KINDS 10

struct fp_event { /* in a ring `captured` bytes follow, and padding to a multiple of 8 */
    uint64_t time;      /* ns of CLOCK_MONOTONIC, plus the observer's epoch */
    uint64_t high, low; /* the peer's address, unless version is 0 */
    uint32_t size;      /* bytes of all that */
    /* A frame or a datagram that comes in has a number in its direction, which goes
     * round, and as many numbers as the packets that it is cut into. This is about
     * `packets` of them, from `number` on. */
    uint32_t number, packets;
    uint32_t into;             /* FP_MERGED: the superpacket's number */
    uint32_t length, captured; /* bytes: of the packet or datagram, and of it here */
    uint16_t port;             /* the peer's */
    uint8_t version;           /* of the peer's address: 4, 6, or 0: there is none */
    uint8_t kind, drop;        /* of enum fp_kind; FP_DROPPED: of enum fp_drop */
    uint8_t direction;
    uint8_t outer;  /* the bytes are a datagram's payload, not a packet */
    uint8_t unused; /* 0 */
};

struct fp_instruction { /* of classic BPF, as in struct sock_filter */
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};

struct fp_watch {
    const struct fp_instruction *filter; /* of packets; read by fp_watch only */
    uint32_t count;                      /* of instructions; 0: all packets are meant */
    uint32_t snap;                       /* bytes of a packet that are told, at most */
    uint32_t kinds;                      /* bit 1 << kind for those that are told */
    uint64_t epoch;                      /* added to each time */
};

/* Begin to tell. -EINVAL for a filter that cannot be run, -EBUSY if there is an observer,
 * -ENOMEM. */
int fp_watch(struct fp *fp, const struct fp_watch *watch);

/* End; what was not read is gone. */
void fp_unwatch(struct fp *fp);

/* Move what was told into `out`: whole records, in order, as many as there are and fit
 * into `room`. How many bytes, or -EINVAL without an observer. *lost gets how many events
 * found no room since the beginning. */
int fp_watched(struct fp *fp, enum fp_direction direction, uint8_t *out, uint32_t room,
               uint64_t *lost);
