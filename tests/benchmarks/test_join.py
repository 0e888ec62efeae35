"""The join: what counts as reached, and a real one to a few peers."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from flannelette.benchmarks import join
from flannelette.benchmarks.netns import RigError
from flannelette.control.backends import choice
from flannelette.control.backends.vxlan import vtep_mac
from flannelette.control.lease import Snapshot
from flannelette.control.localstore import LocalStore
from flannelette.control.netconfig import NetworkConfig
from flannelette.encap import vxlan
from tests.helpers.ns import needs_namespaces

OURS = 0x020000FFFFFF


@pytest.mark.parametrize("backend", ["udp", "vxlan"])
async def test_the_store_is_as_nodes_of_that_backend_would_leave_it(
    backend: str, tmp_path: Path
) -> None:
    peers = join.make_peers(backend, 1000)
    join.fill(tmp_path / "store", backend, peers)
    store = LocalStore(tmp_path / "store")
    config = NetworkConfig.parse(await store.network_config())
    watch = store.watch()
    snapshot = await anext(watch)
    await watch.aclose()
    skipped = store.status().skipped
    await store.close()

    assert isinstance(snapshot, Snapshot)
    leases = {lease.subnet: lease for lease in snapshot.leases}
    assert len(leases) == 1000
    assert skipped == 0
    spoken = choice.from_config(config)
    assert (spoken.type, spoken.port) == (backend, join.PORTS[backend])
    assert len({peer.public for peer in peers} & set(join.PUBLIC)) == 1000
    assert len({peer.mac for peer in peers}) == 1000
    for peer in peers:
        lease = leases[peer.lease.subnet]
        assert lease.permanent
        assert lease.subnet.subnet_of(config.network)
        assert (lease.attrs, lease.expires) == (peer.lease.attrs, None)
        [(subnet, route)] = spoken.routes(lease).items()
        assert subnet == peer.lease.subnet
        assert peer.pod in peer.lease.subnet
        assert route.peer == peer.public
        assert route.mac == (peer.mac if backend == "vxlan" else 0)
    if backend == "vxlan":
        macs = {vtep_mac(it.attrs.backend_data) for it in leases.values()}
        assert macs == {peer.mac for peer in peers}


def datagram(to: IPv4Address, mac: int | None) -> bytes:
    packet = bytes(16) + to.packed
    return packet if mac is None else vxlan.wrap(packet, 1, mac, OURS, 4)


def test_only_what_the_peer_has_to_get_counts() -> None:
    [udp, other] = join.make_peers("udp", 2)
    join.check(datagram(udp.pod, None), udp)
    with pytest.raises(RigError, match=r"198\.18\.0\.1 got a packet for another sub"):
        join.check(datagram(other.pod, None), udp)
    [peer, other] = join.make_peers("vxlan", 2)
    join.check(datagram(peer.pod, peer.mac), peer)
    with pytest.raises(RigError, match=r"198\.18\.0\.1 got a packet for another sub"):
        join.check(datagram(other.pod, peer.mac), peer)
    with pytest.raises(RigError, match=r"198\.18\.0\.1 got a datagram for another MAC"):
        join.check(datagram(peer.pod, other.mac), peer)


@needs_namespaces
@pytest.mark.parametrize("backend", ["udp", "vxlan"])
def test_a_join(backend: str, tmp_path: Path) -> None:
    started = time.time()
    found = join.seconds(backend, tmp_path / "j", peers=300)
    taken = join.lease_taken(tmp_path / "j" / "store.sqlite")
    # The lease comes after the start, and the packets after the lease.
    assert started < taken < taken + found < time.time()


@needs_namespaces
def test_a_peer_that_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's lease has another backend's type, so no packet goes there."""
    [one, two] = join.make_peers("vxlan", 2)
    attrs = replace(two.lease.attrs, backend_type="host-gw")
    strange = replace(two, lease=replace(two.lease, attrs=attrs))
    monkeypatch.setattr(join, "make_peers", lambda *_: [one, strange])
    monkeypatch.setattr(join, "JOIN_SECONDS", 3.0)
    with pytest.raises(RigError, match="of 2 peers were not reached in time"):
        join.seconds("vxlan", tmp_path / "j")
