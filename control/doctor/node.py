"""Checks of this node: its daemon, its settings, its devices and routes. Pure.

Each is a function over the facts that finds one kind of thing; checks.py lists
them all, the most likely cause first.
"""

from __future__ import annotations

from collections.abc import Iterator

from flannelette.control.backends.backend import Subnet
from flannelette.control.doctor.facts import (
    Cure,
    Facts,
    Finding,
    Findings,
    Severity,
)
from flannelette.control.statusdocument import StatusDocument
from flannelette.dataplane.underlay import (
    UDP_OVERHEAD,
    VXLAN_OVERHEAD,
    VXLAN_OVERHEAD6,
)
from flannelette.tun.routes import Way

_STRICT = 1
_LOOSE = 2
_NO_DEVICE = ("host-gw", "alloc", "extension")
"""Backends without a device that packets enter the overlay by."""
_MERGES = {"tso": "merge_tcp", "gso": "gso", "gro": "gro"}
"""What status calls an offload that --offload may allow. Not uso: kernels before
Linux 6.2 lack it, and are well."""


# ---- the daemon ----------------------------------------------------------------------


def daemon(facts: Facts) -> Findings:
    it = facts.daemon
    if it.elsewhere:
        yield Finding(
            "daemon-elsewhere",
            f"the daemon (pid {it.pid}) has another network namespace than this doctor",
            "what can be seen from here is not its network",
            Cure(f"nsenter -t {it.pid} -n flannelette doctor"),
        )
    elif it.stopped:
        yield Finding(
            "daemon-stopped",
            f"the daemon (pid {it.pid}) is stopped, and forwards nothing",
            "it was sent SIGSTOP, or a debugger holds it",
            Cure(f"kill -CONT {it.pid}"),
        )
    elif it.status is None and it.error and it.error.endswith("Permission denied"):
        yield Finding(
            "not-permitted",
            "the daemon may not be asked",
            f"only its own user may: {it.error}",
            Cure("sudo flannelette doctor"),
        )
    elif it.status is None:
        gone = it.pid is None
        if gone and facts.holder is not None:
            yield Finding(
                "port-taken",
                f"UDP port {facts.port} is taken: no daemon can start here",
                f"it is held by {facts.holder.who}",
                Cure(facts.holder.stop),
            )
        yield Finding(
            "daemon-down" if gone else "daemon-silent",
            "no daemon runs here" if gone else f"the daemon (pid {it.pid}) is silent",
            it.error or "it does not answer",
            Cure(it.restart),
        )


def waiting(facts: Facts) -> Findings:
    """A daemon that lacks something for its start; other checks may know what."""
    status = facts.status
    if status is not None and not status["started"]:
        yield Finding(
            "daemon-waiting",
            "the daemon is not ready: it does not forward yet",
            status["last_error"] or "it has just started",
            Cure("flannelette status"),
        )


def failing(facts: Facts) -> Findings:
    status = facts.status
    if status is not None and status["started"] and status["last_error"]:
        yield Finding(
            "daemon-failing",
            "the daemon cannot repair what it needs of the kernel",
            status["last_error"],
            Cure(facts.daemon.restart),
        )


def offloads(facts: Facts) -> Findings:
    status, allowed = facts.status, facts.config.offload
    if status is None or not status["started"]:
        return
    if status["node"]["datapath"] != "native":
        return
    restart = facts.daemon.restart
    lacking = sorted(
        name
        for name, used in _MERGES.items()
        if name in allowed and used not in status["node"]["offloads"]
    )
    if not allowed:
        yield Finding(
            "offloads-off",
            "all offloads are switched off: packets move one by one, slowly",
            "the daemon was started with --offload=none",
            Cure(restart.replace("--offload=none", "--offload=auto")),
            Severity.WARNING,
        )
    elif lacking:
        yield Finding(
            "offloads-refused",
            f"the kernel does not do {', '.join(lacking)}: forwarding is slow",
            "it never did, or refused once, and was not asked again",
            Cure(restart),
            Severity.WARNING,
        )


# ---- interfaces ----------------------------------------------------------------------


def external(facts: Facts) -> Findings:
    if facts.external_error is not None:
        yield Finding(
            "external-missing",
            "there is no interface to send by",
            facts.external_error,
            Cure("ip -brief address"),
        )
        return
    it = facts.interface(facts.external_name)
    if it is not None and not it.up:
        yield Finding(
            "external-down",
            f"{it.name} is down: nothing leaves this node",
            "somebody has switched it off",
            Cure(f"ip link set {it.name} up"),
        )
    told = facts.status and facts.status["node"]["address"]
    if told and facts.external and told != str(facts.external.address):
        yield Finding(
            "external-changed",
            f"the daemon sends from {told}, but this node has "
            f"{facts.external.address} now",
            "the address was changed after the daemon's start",
            Cure(facts.daemon.restart),
        )


def external_mtu(facts: Facts) -> Findings:
    it = facts.interface(facts.external_name)
    mtu, mtu6 = facts.mtus
    if it is None or not facts.started or facts.backend_type not in ("udp", "vxlan"):
        return
    vxlan = facts.backend_type == "vxlan"
    needed = mtu + (VXLAN_OVERHEAD if vxlan else UDP_OVERHEAD)
    if vxlan and mtu6:
        needed = max(needed, mtu6 + VXLAN_OVERHEAD6)
    if it.mtu < needed:
        yield Finding(
            "external-mtu",
            f"{it.name} takes {it.mtu} bytes; the overlay's packets need {needed}",
            f"the MTU of {it.name} was lowered after the daemon's start",
            Cure(f"ip link set {it.name} mtu {needed}"),
        )


def device(facts: Facts) -> Findings:
    """The TUN, or the kernel's VXLAN device, as the daemon wants it (U4)."""
    status = facts.status
    if status is None or not status["started"] or facts.backend_type in _NO_DEVICE:
        return
    name = status["node"]["device"]
    it = facts.interface(name)
    if name is None or it is None:
        yield Finding(
            "device-missing",
            f"{name or 'the TUN'} is gone: no packet enters the overlay",
            "somebody has removed it; the daemon makes another within 10 s"
            + (f", unless: {status['last_error']}" if status["last_error"] else ""),
            Cure(facts.daemon.restart),
        )
        return
    repaired = "somebody has changed it; the daemon changes it back every 10 s"
    if not it.up:
        yield Finding(
            "device-down",
            f"{name} is down: no packet enters the overlay",
            repaired,
            Cure(f"ip link set {name} up"),
        )
    mtu = status["node"]["mtu"]
    if mtu and it.mtu != mtu:
        yield Finding(
            "device-mtu",
            f"{name} has the MTU {it.mtu}, not {mtu}",
            repaired,
            Cure(f"ip link set {name} mtu {mtu}"),
        )
    wanted = _base(status)
    there = {str(address) for address in it.addresses}
    if wanted is not None and wanted not in there:
        yield Finding(
            "device-address",
            f"{name} lacks its address {wanted}",
            repaired,
            Cure(f"ip address add {wanted} dev {name}"),
        )


def _base(status: StatusDocument) -> str | None:
    """The lease's first address, which is the device's own."""
    lease = status["lease"]
    return lease and f"{lease['subnet'].partition('/')[0]}/32"


# ---- routes and settings -------------------------------------------------------------


def routes(facts: Facts) -> Findings:
    """Do packets for the peers' subnets enter the overlay?"""
    status, name = facts.status, facts.device
    if status is None or facts.interface(name) is None:
        return
    said: set[Way | None] = set()
    for subnet, way in _ways(facts):
        if way is not None and way.interface == name:
            continue
        if way is not None and way.prefix.prefixlen == 0:
            way = None  # the default route takes what has no other
        if way in said:
            continue
        said.add(way)
        if way is None:
            network = facts.network_of(subnet.version) or subnet
            yield Finding(
                "route-missing",
                f"there is no route to {subnet} through {name}",
                "somebody has removed it; the daemon adds it every 10 s",
                Cure(f"ip route add {network} dev {name}"),
            )
            continue
        via = f" via {way.gateway}" if way.gateway else ""
        route = f"{way.prefix}{via} dev {way.interface}"
        yield Finding(
            "route-elsewhere",
            f"packets for {subnet} leave by {way.interface}, not by {name}",
            f"another route goes before ours: {route}",
            Cure(f"ip route del {route}"),
        )


def _ways(facts: Facts) -> Iterator[tuple[Subnet, Way | None]]:
    """The kernel's way to each subnet that is to be reached through our device."""
    status = facts.status
    if status is None:
        return
    direct = {route["subnet"] for route in status["routes"] if route["direct"]}
    kernel = status["node"]["datapath"] == "kernel"
    for it in facts.peers:
        for subnet in it.subnets:
            # The kernel's VXLAN has one device for each IP version.
            if str(subnet) in direct or (kernel and subnet.version == 6):
                continue
            if subnet.network_address in facts.ways:
                yield subnet, facts.ways[subnet.network_address]


def forwarding(facts: Facts) -> Findings:
    lease = facts.status and facts.status["lease"]
    names = [("IPv4", "net.ipv4.ip_forward")]
    if lease and lease["subnet6"]:
        names.append(("IPv6", "net.ipv6.conf.all.forwarding"))
    for version, name in names:
        if facts.settings.get(name) == 0:
            yield Finding(
                "forwarding-off",
                f"this node forwards no {version}: its pods reach nobody",
                f"{name} is 0",
                Cure(f"sysctl -w {name}=1"),
            )


def reverse_path(facts: Facts) -> Findings:
    """A strict filter drops what the kernel would answer by another interface."""
    name = facts.device
    if name and _is_strict(facts, name):
        for subnet, way in _ways(facts):
            if subnet.version == 4 and way is not None and way.interface != name:
                yield _filtered(name, str(subnet), way)
                break
    out = facts.external_name
    if out and _is_strict(facts, out):
        for it in facts.peers:
            way = facts.ways.get(it.peer.address)
            if it.peer.address.version == 4 and way and way.interface != out:
                yield _filtered(out, str(it.peer.address), way)
                break


def _is_strict(facts: Facts, name: str) -> bool:
    """The larger of the two counts (ip-sysctl)."""
    key = "net.ipv4.conf.{}.rp_filter"
    values = [facts.settings.get(key.format(each), 0) for each in ("all", name)]
    return max(values) == _STRICT


def _filtered(name: str, source: str, way: Way) -> Finding:
    return Finding(
        "reverse-path",
        f"what comes from {source} by {name} is dropped",
        f"rp_filter is strict there, and the way back is by {way.interface}",
        Cure(f"sysctl -w net.ipv4.conf.{name}.rp_filter={_LOOSE}"),
    )
