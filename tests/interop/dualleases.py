"""What test_dualleases.py runs, in a network namespace of its own: our etcd store and a
real flanneld in one dual-stack cluster. Ends with an AssertionError if they disagree.

    unshare --net python -m tests.interop.dualleases DIRECTORY
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from flannelette.control import subnetfile
from flannelette.control.etcd.store import EtcdStore
from flannelette.control.lease import Lease, LeaseAttrs, Removed, Snapshot
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.etcd import Etcd, running_etcd
from tests.helpers.freshnet import ip, shown
from tests.helpers.storerig import eventually, subnets
from tests.interop.flanneld import BINARY

CONFIG = b"""{"Network": "10.5.0.0/16", "EnableIPv6": true,
 "IPv6Network": "fd00:5::/48", "Backend": {"Type": "host-gw"}}"""
THEIRS = subnets("10.5.77.0/24", "fd00:5:0:77::/64")
OURS = subnets("10.5.9.0/24", "fd00:5:0:9::/64")
ROUTES = {"10.5.9.0/24": "192.0.2.2", "fd00:5:0:9::/64": "2001:db8::2"}


@contextmanager
def flanneld(etcd: Etcd, subnet_file: Path) -> Iterator[None]:
    command = [
        str(BINARY),
        f"--etcd-endpoints={etcd.url}",
        "--iface=wire",
        f"--subnet-file={subnet_file}",
        "--iptables-forward-rules=false",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


def routes() -> dict[str, str]:
    """The gateways of flanneld's routes."""
    both = shown("-4 route show dev wire") + shown("-6 route show dev wire")
    return {it["dst"]: it["gateway"] for it in both if "gateway" in it}


async def scenario(directory: Path) -> None:
    subnet_file = directory / "subnet.env"
    network = NetworkConfig.parse(CONFIG)
    before = Lease(THEIRS.v4, LeaseAttrs(IPv4Address("192.0.2.1")), THEIRS.v6)
    subnetfile.write(subnet_file, network, before, 1400)
    ours = LeaseAttrs(
        IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2"), "host-gw", raw_ipv6=True
    )
    with running_etcd(directory) as etcd:
        store = EtcdStore(etcd.settings())
        async with etcd.client() as client:
            await client.put("/coreos.com/network/config", CONFIG)
            with flanneld(etcd, subnet_file):
                # S1, S3, E15: it writes its file anew, with what ours remembered.
                await eventually(
                    lambda: b"FLANNEL_MTU=1500" in subnet_file.read_bytes()
                )
                assert subnetfile.previous_subnets(subnet_file) == THEIRS
                lease = await store.acquire(ours, network, OURS)
                assert lease.subnets == OURS
                async with aclosing(store.watch()) as events:
                    snapshot = await anext(events)
                    assert isinstance(snapshot, Snapshot)
                    (theirs,) = (it for it in snapshot.leases if it.subnets == THEIRS)
                    assert theirs.attrs == LeaseAttrs(
                        IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"), "host-gw"
                    )
                    # E3, H1, L4: our key and our member RawIPv6 do it no harm.
                    await eventually(lambda: routes() == ROUTES)
                    await store.renew(lease)
                    await anext(events)
                    await client.delete(f"/coreos.com/network/subnets/{lease.key}")
                    assert await anext(events) == Removed(*OURS)
                    await eventually(lambda: routes() == {})
        assert store.status().skipped == 0
        await store.close()


def main(directory: str) -> None:
    ip(
        "link set lo up",
        "link add wire type veth peer name other",
        "link set other up",
        "link set wire up",
        "addr add 192.0.2.1/24 dev wire",
        "addr add 2001:db8::1/64 dev wire nodad",
    )
    asyncio.run(scenario(Path(directory)))
    print("they agree")


if __name__ == "__main__":
    main(*sys.argv[1:])
