"""Our node and the real flanneld with host-gw, in dual stack, over a real etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.gateway import Gateway
from tests.helpers.lab import Lab
from tests.helpers.ns import needs_namespaces
from tests.helpers.overlays import check_all, check_some
from tests.interop.flanneld import (
    Flanneld,
    beside_flanneld,
    needs_flanneld,
    start_flanneld,
    start_ours,
)

pytestmark = [needs_namespaces, needs_flanneld]


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[tuple[Lab, Flanneld]]:
    """Ours on host 1, flanneld on host 2; a pod on each."""
    backend = {"Type": "host-gw"}
    with beside_flanneld(tmp_path, ipv6=True, backend=backend) as both:
        yield both


def routes(it: Lab, number: int) -> str:
    """Of both IP versions, through the wire."""
    shown = ""
    for version in "46":
        command = ["ip", f"-{version}", "route", "show", "dev", "eth0"]
        shown += it.rig.run(it.rig.host(number), command).stdout
    return shown


def test_all_of_it_both_ways(mixed: tuple[Lab, Flanneld]) -> None:
    it, flanneld = mixed
    check_all(it, 1, 2)
    assert it.status(1)["node"]["device"] is None
    assert f"{flanneld.subnet} via 192.0.2.2 " in routes(it, 1)
    assert f"{flanneld.subnet6} via 2001:db8::2 " in routes(it, 1)


def test_leases_and_subnet_env_are_what_flanneld_writes(
    mixed: tuple[Lab, Flanneld],
) -> None:
    it, flanneld = mixed
    lease = it.status(1)["lease"]
    both = [lease["subnet"], lease["subnet6"]]
    theirs = [str(flanneld.subnet), str(flanneld.subnet6)]
    values = Gateway(it.rig).leases()
    ours, its = (values["&".join(pair).replace("/", "-")][0] for pair in (both, theirs))
    told = its.replace(b"192.0.2.2", b"192.0.2.1").replace(b"db8::2", b"db8::1")
    assert ours == told
    env = flanneld.subnet_file.read_text()
    for one, other in zip(both, theirs, strict=True):
        base, other_base = one.partition("/")[0], other.partition("/")[0]
        env = env.replace(other_base.rstrip("0"), base.rstrip("0"))
    assert (it.directory / "h1" / "subnet.env").read_text() == env


def test_restarts_of_either_side(mixed: tuple[Lab, Flanneld]) -> None:
    """What is carried goes on meanwhile (C8); leases and routes stay."""
    it, flanneld = mixed
    check_some(it, 1, 2)
    before = routes(it, 1), routes(it, 2), Gateway(it.rig).leases().keys()
    it.rig.stop(it.cluster.daemons[1].process)
    check_some(it, 1, 2)
    start_ours(it, 1)
    it.rig.stop(flanneld.process)
    flanneld.subnet_file.unlink()
    check_some(it, 1, 2)
    start_flanneld(it, 2)
    check_some(it, 1, 2)
    assert before == (routes(it, 1), routes(it, 2), Gateway(it.rig).leases().keys())
