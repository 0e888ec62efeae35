"""Looking: the facts that the doctor judges by. Thin I/O, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

from flannelette.control import interface
from flannelette.control.backends import choice
from flannelette.control.backends.backend import Backend, Routes, Subnet
from flannelette.control.config import Config
from flannelette.control.doctor import iptables, nft
from flannelette.control.doctor.asking import ask_peers
from flannelette.control.doctor.daemon import find
from flannelette.control.doctor.facts import Facts, Peer, StoreFacts
from flannelette.control.doctor.firewall import Chain, by_name
from flannelette.control.doctor.port import holder
from flannelette.control.errors import (
    ConfigError,
    HostError,
    NetworkConfigError,
    StoreError,
    StoreUnavailable,
    one_line,
)
from flannelette.control.flagvalues import Local
from flannelette.control.interface import External
from flannelette.control.lease import Lease, Snapshot
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.rules import tool
from flannelette.control.statusdocument import StatusDocument
from flannelette.control.store import Store
from flannelette.control.stores import open_store
from flannelette.tun.link import Netlink

STORE_DEADLINE = 6.0
"""Seconds for all that is read there."""


async def look(argv: Sequence[str], environ: Mapping[str, str]) -> Facts:
    """All facts. Raises ConfigError for the flags, and what asks for their help."""
    config, daemon = find(argv, environ)
    facts = Facts(config, daemon)
    if daemon.elsewhere:
        return facts  # what we see here is another machine, so to speak
    facts = replace(facts, store=await _store(config))
    facts = _with_backend(facts)
    netlink = Netlink()
    try:
        facts = await _with_links(facts, netlink)
        if daemon.pid is None:
            held = holder(facts, await netlink.vxlan_ports())
            facts = replace(facts, holder=held)
        peers = _peers(facts)
        addresses = {peer.address for peer in peers}
        addresses |= {s.network_address for those in peers.values() for s in those}
        facts = replace(facts, ways=await netlink.ways_to(addresses))
    finally:
        await netlink.close()
    facts = replace(facts, settings=dict(_settings(facts)))
    facts = await _with_chains(facts)
    return ask_peers(facts, peers)


# ---- the store -----------------------------------------------------------------------


async def _store(config: Config) -> StoreFacts:
    facts = StoreFacts()
    if isinstance(config.store, Local) and not config.store.path.exists():
        return StoreFacts(error=f"there is no file {config.store.path}")
    try:
        async with asyncio.timeout(STORE_DEADLINE), _opened(config) as store:
            try:
                network = NetworkConfig.parse(await store.network_config())
                facts = replace(facts, network=network)
            except NetworkConfigError as error:
                facts = replace(facts, network_error=one_line(error))
            return replace(facts, leases=await _leases(store))
    except (StoreError, ConfigError) as error:
        return replace(facts, error=one_line(error))
    except TimeoutError:
        return replace(facts, error=f"no answer within {STORE_DEADLINE:.0f} s")


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Store]:
    store = open_store(config)
    try:
        yield store
    finally:
        await store.close()


async def _leases(store: Store) -> tuple[Lease, ...]:
    async with aclosing(store.watch()) as events:
        async for event in events:
            if isinstance(event, Snapshot):
                return event.leases
    raise StoreUnavailable("its watch has ended")


def _with_backend(facts: Facts) -> Facts:
    if facts.store.network is None:
        return facts
    try:
        return replace(facts, backend=choice.from_config(facts.store.network))
    except NetworkConfigError as error:
        store = replace(facts.store, network_error=one_line(error))
        return replace(facts, store=store)


# ---- this machine --------------------------------------------------------------------


async def _with_links(facts: Facts, netlink: Netlink) -> Facts:
    config, dual = facts.config, bool(facts.backend and facts.backend.dual_underlay)
    machine = await interface.look(netlink, config, dual=dual)
    facts = replace(facts, interfaces=machine.interfaces)
    if (used := _used_by_daemon(facts)) is not None:
        return replace(facts, external=used)
    try:
        external = interface.select(machine, config, dual=dual)
    except HostError as error:
        return replace(facts, external_error=one_line(error))
    return replace(facts, external=external)


def _used_by_daemon(facts: Facts) -> External | None:
    """The interface that it has chosen, if that still has its address."""
    node = facts.status and facts.status["node"]
    if not node or not node["address"] or not node["public_ip"]:
        return None
    six = node["public_ipv6"] and IPv6Address(node["public_ipv6"])
    for it in facts.interfaces:
        if IPv4Address(node["address"]) in {own.ip for own in it.addresses}:
            here = [own.ip for own in it.addresses6]  # the best first (I5)
            return External(
                it.name,
                it.index,
                it.mtu,
                IPv4Address(node["address"]),
                IPv4Address(node["public_ip"]),
                (six if six in here else next(iter(here), None)) if six else None,
                six or None,
            )
    return None


def _settings(facts: Facts) -> Iterator[tuple[str, int]]:
    """net.* by name, with dots in an interface's name as they are."""
    paths = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
    for device in ("all", facts.device, facts.external_name):
        if device is not None:
            paths.append(f"net/ipv4/conf/{device}/rp_filter")
    for path in paths:
        with suppress(OSError, ValueError):
            yield path.replace("/", "."), int((Path("/proc/sys") / path).read_text())


_FIREWALLS: tuple[tuple[list[str], Callable[[str], list[Chain]]], ...] = (
    (["nft", "-j", "list", "ruleset"], nft.chains),
    (["iptables-save"], lambda text: iptables.chains(text, "iptables")),
    (["ip6tables-save"], lambda text: iptables.chains(text, "ip6tables")),
)


async def _with_chains(facts: Facts) -> Facts:
    """The firewall's rules: nftables', and those of iptables where that is in use."""
    chains: list[Chain] = []
    unchecked = list(facts.unchecked)
    for (name, *arguments), read in _FIREWALLS:
        program = tool.find(name)
        if program is None:
            if name == "nft":
                unchecked.append("firewall rules: there is no program nft")
            continue
        try:
            chains += read(await tool.run([program, *arguments]))
        except (HostError, OSError, ValueError) as error:
            unchecked.append(f"firewall rules of {name}: {one_line(error)}")
    return replace(facts, chains=by_name(chains), unchecked=unchecked)


# ---- peers ---------------------------------------------------------------------------


def _peers(facts: Facts) -> dict[Peer, list[Subnet]]:
    """Those that the daemon knows; or without it, those in the store."""
    pairs = (
        _told(facts.status) if facts.status and facts.started else _from_store(facts)
    )
    peers: dict[Peer, list[Subnet]] = {}
    for peer, subnet in pairs:
        peers.setdefault(peer, []).append(subnet)
    return peers


def _told(status: StatusDocument) -> Iterator[tuple[Peer, Subnet]]:
    for route in status["routes"]:
        yield _peer(route["peer"]), ip_network(route["subnet"])


def _peer(text: str) -> Peer:
    """`192.0.2.2:8285`, `[2001:db8::2]:8472`, or an address alone."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, "0"
    return Peer(ip_address(address), int(port))


def _from_store(facts: Facts) -> Iterator[tuple[Peer, Subnet]]:
    backend, external = facts.backend, facts.external
    if backend is None or external is None:
        return
    for lease in facts.store.leases or ():
        if lease.attrs.public_ip != external.public_ip:
            for subnet, route in _routes(backend, lease).items():
                yield Peer(route.peer, route.port), subnet


def _routes(backend: Backend, lease: Lease) -> Routes:
    try:
        return backend.routes(lease)
    except ValueError:  # another backend's
        return {}
