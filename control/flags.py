"""The table of `flannelette run`'s flags: flanneld's, and a few of our own.

flannel-behaviour.md section 4.1, in the groups in which the usage shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

from flannelette.control import flagvalues, goflags
from flannelette.control.goflags import Flag
from flannelette.dataplane.forwarder import DRIVERS, MAX_BATCH, MAX_QUEUES, OFFLOADS

ENVIRONMENT = "FLANNELD_"
"""What a flag's variable begins with (C1)."""
DEFAULT_ENDPOINTS = "http://127.0.0.1:4001,http://127.0.0.1:2379"
DEFAULT_SUBNET_FILE = "/run/flannel/subnet.env"
SOCKET_NAME = "flannelette.sock"

_ETCD = (
    Flag(
        "store",
        flagvalues.store,
        "`KIND` of store: etcd, local:PATH or static:FILE.toml (ours)",
        "etcd",
    ),
    Flag(
        "etcd-endpoints",
        flagvalues.endpoints,
        "`URLS` of etcd, separated by commas",
        DEFAULT_ENDPOINTS,
    ),
    Flag(
        "etcd-prefix",
        flagvalues.present,
        "`KEY` that flannel's keys lie below",
        "/coreos.com/network",
    ),
    Flag("etcd-keyfile", str, "`FILE` with the client key for etcd"),
    Flag("etcd-certfile", str, "`FILE` with the client certificate for etcd"),
    Flag("etcd-cafile", str, "`FILE` with the authority of etcd's certificates"),
    Flag("etcd-username", str, "`NAME` of the user in etcd"),
    Flag("etcd-password", str, "`PASSWORD` of that user"),
)
_INTERFACE = (
    Flag(
        "iface",
        flagvalues.iface,
        "`NAME` or address of the external interface; the first that is there is taken",
        repeated=True,
    ),
    Flag(
        "iface-regex",
        flagvalues.regex,
        "`REGEX` that its address, else its name matches; asked after --iface",
        repeated=True,
    ),
    Flag(
        "iface-can-reach",
        flagvalues.reachable,
        "take the interface by which packets to `ADDRESS` leave; asked last",
    ),
    Flag("public-ip", flagvalues.unicast, "`ADDRESS` that other nodes send to"),
    Flag("public-ipv6", flagvalues.unicast6, "`ADDRESS` that they send to over IPv6"),
)
_NODE = (
    Flag(
        "subnet-file",
        flagvalues.path,
        "`FILE` to write the node's subnet to",
        DEFAULT_SUBNET_FILE,
    ),
    Flag(
        "subnet-lease-renew-margin",
        flagvalues.minutes,
        "`MINUTES` from a renewal of the lease to its expiry, 1 to 1439",
        "60",
    ),
    Flag(
        "operator-socket",
        flagvalues.path_or_none,
        f"`PATH` of the socket for status; without it {SOCKET_NAME} beside subnet-file "
        "(ours)",
    ),
    Flag(
        "take-over",
        goflags.boolean,
        "go on where the daemon at the operator socket is, which ends then (ours)",
        "false",
    ),
    Flag(
        "keep-privileges",
        goflags.boolean,
        "do not drop capabilities after the start (ours)",
        "false",
    ),
    Flag("version", goflags.boolean, "print the version and exit", "false"),
)
_RULES = (
    Flag(
        "ip-masq",
        goflags.boolean,
        "masquerade packets that leave the overlay",
        "false",
    ),
    Flag(
        "ip-masq-fully-random-disable",
        goflags.boolean,
        "do so without drawing ports at random",
        "false",
    ),
    Flag(
        "iptables-forward-rules",
        goflags.boolean,
        "accept packets of the overlay where forwarding is forbidden; on unless told, "
        "where the machine can",
        "true",
    ),
    Flag(
        "iptables-resync",
        flagvalues.seconds,
        "`SECONDS` between two comparisons of the kernel's rules with ours, repaired "
        "if need be",
        "5",
    ),
    Flag(
        "ip-blackhole-route",
        goflags.boolean,
        "drop packets to this node's subnet that no other route takes",
        "false",
    ),
)
_HEALTH = (
    Flag(
        "healthz-ip",
        flagvalues.listened,
        "`ADDRESS` or host name to answer /healthz, /readyz and /metrics at",
        "0.0.0.0",
    ),
    Flag("healthz-port", flagvalues.port, "`PORT` of that; 0: none", "0"),
)
_FORWARDING = (
    Flag(
        "datapath",
        goflags.one_of("native", "python"),
        "`KIND` of path: native or python",
        "native",
    ),
    Flag(
        "driver",
        goflags.one_of(*DRIVERS),
        "`KIND` of driver: thread (one a queue), threads (one a direction) or loop",
        "thread",
    ),
    Flag(
        "queues",
        flagvalues.queues,
        f"`NUMBER` of queues that share the work, 1 to {MAX_QUEUES}",
        "1",
    ),
    Flag(
        "offload",
        flagvalues.offload,
        "`LIST` of offloads allowed: auto, none or some of " + ",".join(OFFLOADS),
        "auto",
    ),
    Flag(
        "batch",
        flagvalues.batch,
        f"`NUMBER` of packets that one system call may move, 1 to {MAX_BATCH}",
        "64",
    ),
    Flag(
        "peer-check",
        goflags.one_of("peer", "strict", "off"),
        "`WHOSE` packets are taken: peer (a known node's), strict (from its own subnets"
        " only) or off",
        "peer",
    ),
    Flag(
        "time-stages",
        flagvalues.rounds,
        "take the time of each stage in one of `N` rounds; 0: never",
        "0",
    ),
)
_LOG_PLACES = (
    Flag(
        "vmodule",
        flagvalues.levels_of_files,
        "`LEVELS` of flanneld's source files; without effect",
    ),
    Flag(
        "log_backtrace_at",
        flagvalues.line_of_file,
        "`PLACE` in flanneld's source files; without effect",
    ),
)
_LOGGING = (
    Flag("v", flagvalues.level, "`LEVEL` of the log: 1 and more say everything", "0"),
    *_LOG_PLACES,
)
_KUBERNETES = (
    Flag("kube-api-url", str, "`URL` of the Kubernetes API"),
    Flag("kubeconfig-file", str, "`FILE` that says how to reach it"),
    Flag(
        "kube-annotation-prefix",
        str,
        "`PREFIX` of the annotations of nodes",
        "flannel.alpha.coreos.com",
    ),
    Flag(
        "net-config-path",
        str,
        "`FILE` with the network configuration",
        "/etc/kube-flannel/net-conf.json",
    ),
    Flag(
        "set-node-network-unavailable",
        goflags.boolean,
        "say at the node that its network is up",
        "true",
    ),
)
_KUBERNETES_STORE = Flag(
    "kube-subnet-mgr", goflags.boolean, "keep leases in Kubernetes: refused", "false"
)
WITHOUT_EFFECT = tuple(flag.name for flag in (*_LOG_PLACES, *_KUBERNETES))
"""Accepted, for unit files that have them, and warned of."""

GROUPS: Mapping[str, tuple[Flag, ...]] = {
    "etcd": _ETCD,
    "Interface": _INTERFACE,
    "Node and subnet file": _NODE,
    "Traffic rules": _RULES,
    "Health": _HEALTH,
    "Forwarding (ours)": _FORWARDING,
    "Logging": _LOGGING,
    "Kubernetes (not yet: without effect)": (_KUBERNETES_STORE, *_KUBERNETES),
}
FLAGS = tuple(flag for group in GROUPS.values() for flag in group)


def usage() -> str:
    """What `flannelette run --help` prints."""
    return (
        "Usage: flannelette run [flags]\n\n"
        "Runs the daemon. Each flag can also be given as a variable, such as\n"
        f"{ENVIRONMENT}PUBLIC_IP for --public-ip; the flag goes before the variable.\n"
        + goflags.usage(GROUPS)
    )
