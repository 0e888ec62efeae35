"""The daemon's settings: flanneld's flags and variables, and a few of our own.

flannel-behaviour.md section 4.1. Everything that can be checked without touching the
machine is checked here, so that a wrong setting ends in one line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from flannelette.control import flagvalues, goflags
from flannelette.control.errors import ConfigError
from flannelette.control.flags import ENVIRONMENT, FLAGS, SOCKET_NAME, WITHOUT_EFFECT


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
    iface_regex: tuple[str, ...]
    """Regular expressions of addresses or names, asked after those (I2, I3)."""
    iface_can_reach: IPv4Address | IPv6Address | None
    """Last, the interface that the kernel would send to this address from (I4)."""
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
    ip_blackhole_route: bool
    """Packets to what nobody holds of our own subnet end here."""
    healthz_ip: IPv4Address | IPv6Address | str
    """Where health and metrics are answered: an address, or a host's name."""
    healthz_port: int
    """0: nowhere."""
    take_over: bool
    """Go on where the daemon at the operator socket is, which ends then."""
    keep_privileges: bool
    """Capabilities that are not needed any more are not dropped."""
    operator_socket: Path
    """Where `flannelette status` asks."""
    verbosity: int
    """0: INFO; 1 and more: DEBUG."""
    without_effect: tuple[str, ...] = ()
    """Flags that are not as they are by default, and that mean nothing here."""
    state_directory: Path | None = None
    """What is there outlives a reboot (remembered.py). systemd says where."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Read the flags of `flannelette run`, then the variables of those not given.

    Raises ConfigError, goflags.HelpWanted or VersionWanted."""
    given = goflags.from_argv(FLAGS, argv)
    if given.pop("version", False):
        raise VersionWanted  # before the environment is looked at (C3)
    absent = [flag for flag in FLAGS if flag.name not in ("version", *given)]
    said = given | goflags.from_environ(absent, environ, ENVIRONMENT)
    unsaid = goflags.defaults(FLAGS)
    values = unsaid | said
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
    if values["kube-subnet-mgr"]:
        raise ConfigError(
            "--kube-subnet-mgr=true: leases in Kubernetes are not supported yet: "
            "without this flag they are in etcd, or where --store says"
        )
    values |= {
        "iptables-forward-rules": said.get("iptables-forward-rules"),
        "operator-socket": socket,
        "state-directory": _state_directory(environ),
        "verbosity": values["v"],
        "without-effect": tuple(
            it for it in WITHOUT_EFFECT if values[it] != unsaid[it]
        ),
    }
    names = (member.name for member in fields(Config))
    return Config(**{name: values[name.replace("_", "-")] for name in names})


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


def _state_directory(environ: Mapping[str, str]) -> Path | None:
    """The first that the unit has (systemd.exec(5) StateDirectory=)."""
    first = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def operator_socket(subnet_file: Path) -> Path:
    """Where the operator socket is unless told: beside the subnet file."""
    return subnet_file.parent / SOCKET_NAME


_SOCKET_PATH_MAX = 107
"""sun_path's 108 bytes, less the NUL (unix(7))."""
_TOGETHER = (("etcd-keyfile", "etcd-certfile"), ("etcd-username", "etcd-password"))


def version() -> str:
    """The installed package's version; "dev" when it runs from its source (C3)."""
    from importlib import metadata

    try:
        return metadata.version("flannelette")
    except metadata.PackageNotFoundError:
        return "dev"
