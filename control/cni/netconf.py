"""What the CNI plugin is told, and what it tells its delegate: all of it pure.

flannel-behaviour.md N1, N3 to N5; CNI 1.1, section 1. The text is read as Go reads it
(gojson.py), for that is how flannel's plugin reads its configuration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from ipaddress import ip_network
from re import ASCII, fullmatch
from typing import Any, NamedTuple

from flannelette.control import gojson
from flannelette.control.cni.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    UNDECODABLE,
    CniError,
)
from flannelette.control.cni.subnet import NodeSubnet

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""GC's list: the name that runtimes use, and the one that CNI 1.1 first printed."""

_SINCE = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}
_NEEDS = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "STATUS": ("CNI_PATH",),
    "GC": ("CNI_PATH",),
    "VERSION": (),
}
_IDENTIFIER = "[A-Za-z0-9][A-Za-z0-9_.-]*"
_IFNAME = r"[^/:\s]+"
_IFNAME_MAX = 15  # bytes
_NETCONF = "failed to load flannel netconf file"
_KINDS = {"a string": str, "an object": dict, "an array": list}
_MEMBERS = {
    "name": "a string",
    "subnetFile": "a string",
    "dataDir": "a string",
    "delegate": "an object",
    "ipam": "an object",
    "runtimeConfig": "an object",
    "prevResult": "an object",
    **dict.fromkeys(ATTACHMENTS, "an array"),
}


class Attachment(NamedTuple):
    """A container's interface: what an operation is about."""

    container: str
    ifname: str


class Network(NamedTuple):
    """The network configuration (N1)."""

    version: str  # "" if none is given, which means 0.1.0
    name: str
    subnet_file: str
    data_dir: str
    delegate: dict[str, Any]
    ipam: dict[str, Any]
    runtime_config: dict[str, Any] | None
    previous: dict[str, Any] | None
    attachments: list[Any] | None
    """GC's list of the valid ones, not checked yet."""


# ---- the environment -----------------------------------------------------------------


def command(environ: Mapping[str, str]) -> str:
    """The operation that the runtime wants. Raises CniError."""
    wanted = environ.get("CNI_COMMAND", "")
    if not wanted:
        raise CniError(
            INVALID_ENVIRONMENT,
            "required env variables [CNI_COMMAND] missing",
            "this is a CNI plugin: container runtimes start it",
        )
    if wanted not in _NEEDS:
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {wanted}")
    missing = [name for name in _NEEDS[wanted] if not environ.get(name)]
    if missing:
        names = ",".join(missing)
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{names}] missing")
    return wanted


def attachment(environ: Mapping[str, str]) -> Attachment:
    """What ADD, DEL or CHECK is about. Raises CniError for names that no container and
    no interface can have; what it returns may be part of a file's name."""
    container, ifname = environ["CNI_CONTAINERID"], environ["CNI_IFNAME"]
    if not fullmatch(_IDENTIFIER, container, ASCII):
        raise CniError(INVALID_ENVIRONMENT, f"invalid container ID: {container!r}")
    short = len(os.fsencode(ifname)) <= _IFNAME_MAX
    if not short or not fullmatch(_IFNAME, ifname) or ifname in (".", ".."):
        raise CniError(INVALID_ENVIRONMENT, f"invalid interface name: {ifname!r}")
    return Attachment(container, ifname)


# ---- the network configuration -------------------------------------------------------


def decode(text: bytes) -> dict[str, Any]:
    """The members of the configuration. Raises CniError."""
    try:
        return gojson.loads_object(text)
    except gojson.GoJSONError as error:
        raise CniError(UNDECODABLE, _NETCONF, str(error)) from None


def version(members: dict[str, Any]) -> str:
    """The version of the protocol that the runtime speaks; "" if it does not say.
    Raises CniError if it is none of ours."""
    found = gojson.fold(members, ["cniVersion"]).get("cniVersion", "")
    if not isinstance(found, str) or (found and found not in VERSIONS):
        raise CniError(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {found!r}, plugin supports {', '.join(VERSIONS)}",
        )
    return found


def network(members: dict[str, Any], command: str) -> Network:
    """Check what the command needs to know. Raises CniError."""
    spoken = version(members)
    if VERSIONS.index(spoken or "0.1.0") < VERSIONS.index(_SINCE.get(command, "0.1.0")):
        raise CniError(INCOMPATIBLE_VERSION, f"config version does not allow {command}")
    known = gojson.fold(members, _MEMBERS)
    for name, value in known.items():
        if not isinstance(value, _KINDS[_MEMBERS[name]]):
            raise _wrong(f"{name} must be {_MEMBERS[name]}")
    name = known.get("name", "")
    if not fullmatch(_IDENTIFIER, name, ASCII):
        raise _wrong(f"invalid network name: {name!r}" if name else "no network name")
    return Network(
        spoken,
        name,
        _path(known, "subnetFile", "/run/flannel/subnet.env"),
        _path(known, "dataDir", "/var/lib/cni/flannel"),
        known.get("delegate", {}),
        known.get("ipam", {}),
        known.get("runtimeConfig"),
        known.get("prevResult"),
        next((known[name] for name in ATTACHMENTS if name in known), None),
    )


def _path(known: dict[str, Any], name: str, default: str) -> str:
    path = str(known.get(name) or default)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _wrong(f"{name} is no path: {path!r}") from None
    if "\0" in path:
        raise _wrong(f"{name} is no path: {path!r}")
    return path


def valid_attachments(network: Network) -> frozenset[Attachment]:
    """GC's list. Raises CniError, also when there is none: that is no empty list, which
    would mean that every attachment is stale."""
    if network.attachments is None:
        raise _wrong(f"no {ATTACHMENTS[0]}")
    found = set()
    for item in network.attachments:
        members = item if isinstance(item, dict) else {}
        known = gojson.fold(members, ("containerID", "ifname"))
        one = Attachment(known.get("containerID", ""), known.get("ifname", ""))
        if not all(text and isinstance(text, str) for text in one):
            raise _wrong(f"{ATTACHMENTS[0]} has an entry that is none: {item!r}")
        found.add(one)
    return frozenset(found)


def _wrong(what: str) -> CniError:
    return CniError(INVALID_CONFIG, f"{_NETCONF}: {what}")


# ---- the delegate's configuration ----------------------------------------------------


def delegate(network: Network, node: NodeSubnet) -> dict[str, Any]:
    """The configuration for the plugin that does the work (N3 to N5).

    Raises CniError for what the user may not say there."""
    wanted = network.delegate
    for name in ("name", "ipam"):
        if name in wanted:
            raise _wrong(f"delegate must not have a member {name}: it is set here")
    plugin = wanted.get("type", "bridge")
    if not isinstance(plugin, str):
        raise _wrong("delegate's type must be a string")
    config: dict[str, Any] = {
        "type": plugin,
        "ipMasq": not node.ipmasq,  # one of the two masquerades, not both
        "mtu": node.mtu,
    }
    if plugin == "bridge":
        config["isGateway"] = True
    config |= wanted
    config["name"] = network.name
    if network.version:
        config["cniVersion"] = network.version
    if network.runtime_config is not None:
        config["runtimeConfig"] = network.runtime_config
    config["ipam"] = _ipam(network, node)
    return config


def _ipam(network: Network, node: NodeSubnet) -> dict[str, Any]:
    """Addresses from the node's subnets, and routes to the cluster (N5)."""
    ipam = {"type": "host-local", **network.ipam}
    routes = ipam.get("routes")
    if routes is None:
        routes = []
    if not isinstance(ipam["type"], str):
        raise _wrong("ipam's type must be a string")
    if not isinstance(routes, list):
        raise _wrong("ipam's routes must be an array")
    ipam["ranges"] = [[{"subnet": str(subnet)}] for subnet in node.subnets]
    ipam["routes"] = [*routes, *({"dst": str(it)} for it in node.networks)]
    return ipam


def strangers(config: Mapping[str, Any], node: NodeSubnet) -> list[str]:
    """The subnets of a delegate's configuration that are not the node's any more."""
    ipam = config.get("ipam")
    ranges = ipam.get("ranges") if isinstance(ipam, dict) else None
    subnets = [
        one.get("subnet")
        for alternatives in (ranges if isinstance(ranges, list) else [])
        for one in _objects(alternatives)
    ]
    return [it for it in subnets if isinstance(it, str) and not _among(it, node)]


def _among(subnet: str, node: NodeSubnet) -> bool:
    try:
        return ip_network(subnet) in node.subnets
    except ValueError:
        return False


def resolved(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result in which a route that has no gateway has that of an address: CNI 1.1,
    "Success". Those we ask for have none (N5), and CHECK of bridge 1.1.1 finds a route
    only by its gateway."""
    gateways: dict[bool, str] = {}  # of IPv6, and not
    for one in _objects(result.get("ips")):
        gateway = one.get("gateway")
        if isinstance(gateway, str):
            gateways.setdefault(":" in gateway, gateway)
    routes = []
    for route in _objects(result.get("routes")):
        gateway = gateways.get(":" in str(route.get("dst")))
        unset = gateway is not None and set(route) == {"dst"}
        routes.append({**route, "gw": gateway} if unset else route)
    return {**result, "routes": routes}


def _objects(value: object) -> list[dict[str, Any]]:
    """Those of an array."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]


def encode(config: Mapping[str, Any]) -> bytes:
    """As JSON, which a number beyond a double, or too deep a nest, cannot become.
    Raises CniError."""
    try:
        return json.dumps(config, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _wrong(str(error)) from None
