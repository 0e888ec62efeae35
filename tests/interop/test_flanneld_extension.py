"""Our node and the real flanneld with extension and alloc, over a real etcd: which
leases they write, and what each tells its commands of the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.gateway import LEASES, Gateway
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.interop.flanneld import needs_flanneld, start_flanneld, start_ours

pytestmark = [needs_namespaces, needs_flanneld]

RECORD = """\
#!/bin/sh
here=$(dirname $0) name=$1.$PUBLIC_IP
{ echo "args $*"; echo "stdin <$(cat)>"
env | grep -E '^(NETWORK|SUBNET|IPV6SUBNET|PUBLIC_IP|PUBLIC_IPV6)=' | sort
} >$here/new.$name && mv $here/new.$name $here/$name
printf ' <%s> & "\\\\" \\n\\n' "$1"
"""
"""Files are named after what is run, and the public IP that it is told."""


@contextmanager
def both(directory: Path, backend: dict[str, Any], ipv6: bool = False) -> Iterator[Lab]:
    """Ours on host 1, flanneld on host 2, both ready."""
    with lab(directory, store="etcd", ipv6=ipv6, backend=backend) as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1)
        start_flanneld(it, 2)
        yield it


def check_leases(it: Lab) -> None:
    """But for addresses, ours is flanneld's byte for byte."""
    values = sorted(value for value, _ in Gateway(it.rig).leases().values())
    ours, theirs = values
    assert b"192.0.2.1" in ours
    told = theirs.replace(b"192.0.2.2", b"192.0.2.1").replace(b"db8::2", b"db8::1")
    assert ours == told


def check_subnet_files(it: Lab) -> None:
    ours, theirs = (
        (it.directory / name / "subnet.env").read_text().splitlines()
        for name in ("h1", "f2")
    )
    same = ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK", "FLANNEL_MTU", "FLANNEL_IPMASQ")
    assert [it for it in ours if it.startswith(same)] == [
        it for it in theirs if it.startswith(same)
    ]


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "dual"])
def test_extension(tmp_path: Path, ipv6: bool) -> None:
    """7.5, L6."""
    record = tmp_path / "record"
    record.write_text(RECORD)
    record.chmod(0o755)
    backend = {
        "Type": "extension",
        "PreStartupCommand": f"{record} pre",
        "PostStartupCommand": f'{record} post "$NETWORK" ${{SUBNET}} $NOTHING',
        "SubnetAddCommand": f"{record} add $PUBLIC_IP/$$ '$SUBNET'",
        "SubnetRemoveCommand": f"{record} remove",
    }

    def said(what: str, number: int) -> list[str]:
        """Less what is empty with ours, and with flanneld something else or nothing."""
        path = tmp_path / f"{what}.192.0.2.{number}"
        until(path.exists)
        text = path.read_text()
        (subnet, subnet6) = subnets[number]
        for one, other in (subnet, "SUBNET"), (subnet6, "SUBNET6"):
            text = text.replace(one, other) if one else text
        text = text.replace(f"192.0.2.{number}", "IP").replace(f"db8::{number}", "IP6")
        empty = ("IPV6SUBNET=", "IPV6SUBNET=::/0", "PUBLIC_IPV6=", "PUBLIC_IPV6=<nil>")
        return [it for it in text.splitlines() if it not in empty]

    with both(tmp_path, backend, ipv6) as it:
        check_leases(it)
        check_subnet_files(it)
        leases = Gateway(it.rig).leases()
        subnets = {}
        for key, (value, _) in leases.items():
            four, _, six = key.partition("&")
            pair = four.replace("-", "/"), six.replace("-", "/")
            subnets[1 if b"192.0.2.1" in value else 2] = pair
            if b"192.0.2.2" in value:
                its_key = key
        assert said("post", 1) == said("post", 2)

        stdin = 'stdin <<pre> & "\\">'
        by_flanneld, by_ours = said("add", 1), said("add", 2)
        assert stdin in by_flanneld
        promised = ["IPV6SUBNET=SUBNET6", "PUBLIC_IPV6=2001:IP6"] if ipv6 else []
        assert sorted(by_ours) == sorted(by_flanneld + promised)

        Gateway(it.rig).delete(LEASES + its_key)
        assert said("remove", 2) == ["args remove", *by_ours[1:]]


def test_alloc(tmp_path: Path) -> None:
    """7.6."""
    with both(tmp_path, {"Type": "alloc"}) as it:
        check_leases(it)
        check_subnet_files(it)
