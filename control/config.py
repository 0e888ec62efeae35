"""The daemon's settings: flanneld's flags and variables, and a few of our own.

flannel-behaviour.md section 4.1. Everything that can be checked without touching the
machine is checked here, so that a wrong setting ends in one line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from flannelette.control import flagvalues, goflags
from flannelette.control.errors import ConfigError
from flannelette.control.goflags import Flag
from flannelette.dataplane.forwarder import (
    DRIVERS,
    MAX_BATCH,
    MAX_QUEUES,
    OFFLOADS,
)

ENVIRONMENT = "FLANNELD_"
"""What a flag's variable begins with (C1)."""
DEFAULT_ENDPOINTS = "http://127.0.0.1:4001,http://127.0.0.1:2379"
DEFAULT_SUBNET_FILE = "/run/flannel/subnet.env"
SOCKET_NAME = "flannelette.sock"


class VersionWanted(Exception):
    """--version was among the flags (C3)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Checked settings; parse() is the way to make one."""

    store: flagvalues.StoreChoice
    """Where the subnet store is."""
    etcd_endpoints: tuple[str, ...]
    """URLs, or host:port; the first one's scheme decides on TLS for all (E37)."""
    etcd_prefix: str
    """As given; keys are path-joined to it (E1)."""
    etcd_keyfile: str
    """Client key, or empty; given together with the certificate or not at all."""
    etcd_certfile: str
    """Client certificate, or empty."""
    etcd_cafile: str
    """Who may sign the server's certificate; empty: the system's roots."""
    etcd_username: str
    """Empty: no authentication; given together with the password or not at all."""
    etcd_password: str = field(repr=False)
    """Never logged (C7)."""
    iface: tuple[str, ...]
    """Names or addresses of external interfaces, the first usable one wins."""
    public_ip: IPv4Address | None
    """The address that peers send to; None: the external interface's own."""
    public_ipv6: IPv6Address | None
    """The same in dual stack, for IPv6."""
    subnet_file: Path
    """Where subnet.env is written (S1), and our last subnet remembered (E15)."""
    subnet_lease_renew_margin: int
    """Minutes before expiry at which the lease is renewed, 1 to 1439."""
    datapath: Literal["native", "python"]
    """What forwards: FastPath in C or PurePath in Python."""
    driver: Literal["thread", "threads", "loop"]
    """Who calls the pumps."""
    queues: int
    """Of the TUN and of the underlay, 1 to MAX_QUEUES."""
    offload: frozenset[str]
    """What may be used of dataplane.forwarder.OFFLOADS, if the kernel grants it."""
    batch: int
    """Packets that one system call may move, 1 to MAX_BATCH."""
    peer_check: Literal["peer", "strict", "off"]
    """Whose packets are taken from the wire."""
    time_stages: int
    """The native path times its stages in one round of so many; 0: never."""
    ip_masq: bool
    """Masquerade what leaves the overlay (rules/desired.py)."""
    ip_masq_fully_random_disable: bool
    """Without ports drawn at random."""
    iptables_forward_rules: bool | None
    """Let the overlay's packets be forwarded; None: where that can be done, for nobody
    asked for it by name."""
    iptables_resync: int
    """Seconds between two comparisons of the kernel's rules with ours."""
    operator_socket: Path
    """Where `flannelette status` asks."""
    verbosity: int
    """0: INFO; 1 and more: DEBUG."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Read the flags of `flannelette run`, then the variables of those not given.

    Raises ConfigError, goflags.HelpWanted or VersionWanted."""
    given = goflags.from_argv(FLAGS, argv)
    if given.pop("version", False):
        raise VersionWanted  # before the environment is looked at (C3)
    absent = [flag for flag in FLAGS if flag.name not in ("version", *given)]
    said = given | goflags.from_environ(absent, environ, ENVIRONMENT)
    values = goflags.defaults(FLAGS) | said
    for one, other in _TOGETHER:
        if bool(values[one]) != bool(values[other]):
            present, missing = (one, other) if values[one] else (other, one)
            raise ConfigError(f"--{present} is given without --{missing}")
    socket = values["operator-socket"] or operator_socket(values["subnet-file"])
    if len(bytes(socket)) > _SOCKET_PATH_MAX:
        raise ConfigError(
            f"the operator socket's path {str(socket)!r} is longer than "
            f"{_SOCKET_PATH_MAX} bytes: give a shorter --operator-socket"
        )
    return Config(
        store=values["store"],
        etcd_endpoints=values["etcd-endpoints"],
        etcd_prefix=values["etcd-prefix"],
        etcd_keyfile=values["etcd-keyfile"],
        etcd_certfile=values["etcd-certfile"],
        etcd_cafile=values["etcd-cafile"],
        etcd_username=values["etcd-username"],
        etcd_password=values["etcd-password"],
        iface=values["iface"],
        public_ip=values["public-ip"],
        public_ipv6=values["public-ipv6"],
        subnet_file=values["subnet-file"],
        subnet_lease_renew_margin=values["subnet-lease-renew-margin"],
        datapath=values["datapath"],
        driver=values["driver"],
        queues=values["queues"],
        offload=values["offload"],
        batch=values["batch"],
        peer_check=values["peer-check"],
        time_stages=values["time-stages"],
        ip_masq=values["ip-masq"],
        ip_masq_fully_random_disable=values["ip-masq-fully-random-disable"],
        iptables_forward_rules=said.get("iptables-forward-rules"),
        iptables_resync=values["iptables-resync"],
        operator_socket=socket,
        verbosity=values["v"],
    )


def strangers(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings, and are none of ours: flanneld may know them.

    A flag that is not known is refused; so as not to break on a stray variable, these
    are only to be warned of."""
    known = {ENVIRONMENT + flag.name.upper().replace("-", "_") for flag in FLAGS}
    return sorted(
        name
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT) and name not in known and value
    )


def operator_socket(subnet_file: Path) -> Path:
    """Where the operator socket is unless told: beside the subnet file."""
    return subnet_file.parent / SOCKET_NAME


_SOCKET_PATH_MAX = 107
"""sun_path's 108 bytes, less the NUL (unix(7))."""
_TOGETHER = (("etcd-keyfile", "etcd-certfile"), ("etcd-username", "etcd-password"))

_OURS = (
    Flag(
        "store",
        flagvalues.store,
        "`KIND` of store: etcd, local:PATH or static:FILE.toml",
        "etcd",
    ),
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
    Flag(
        "operator-socket",
        flagvalues.path_or_none,
        f"`PATH` of the socket for status; without it {SOCKET_NAME} beside subnet-file",
    ),
)
_FLANNELD = (
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
    Flag(
        "iface",
        flagvalues.iface,
        "`NAME` or address of the external interface",
        repeated=True,
    ),
    Flag("public-ip", flagvalues.unicast, "`ADDRESS` that other nodes send to"),
    Flag("public-ipv6", flagvalues.unicast6, "`ADDRESS` that they send to over IPv6"),
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
    Flag("version", goflags.boolean, "print the version and exit", "false"),
    Flag("v", flagvalues.level, "`LEVEL` of the log: 1 and more say everything", "0"),
)
FLAGS = (*_OURS, *_FLANNELD)


def version() -> str:
    """The installed package's version; "dev" when it runs from its source (C3)."""
    from importlib import metadata

    try:
        return metadata.version("flannelette")
    except metadata.PackageNotFoundError:
        return "dev"


def usage() -> str:
    """What `flannelette run --help` prints."""
    return (
        "Usage: flannelette run [flags]\n\n"
        "Runs the daemon. Each flag can also be given as a variable, such as\n"
        f"{ENVIRONMENT}PUBLIC_IP for --public-ip; the flag goes before the variable.\n"
        + goflags.usage({"flannelette's flags": _OURS, "flanneld's flags": _FLANNELD})
    )
