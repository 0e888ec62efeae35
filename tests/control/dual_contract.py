"""What every subnet store promises of dual stack; part of store_contract.py.

Two things are new there. A lease has two subnets, of which either may be somebody's
under another key; and a key is not its IPv4 subnet, so that two may have the same.
"""

from __future__ import annotations

import asyncio

import pytest

from flannelette.control.errors import LeaseLost, NoFreeSubnet
from flannelette.control.lease import Removed, Subnets
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.storerig import (
    DUAL,
    IPS,
    Entry,
    OpenStore,
    Rig,
    acquire,
    attrs_of,
    dual_attrs_of,
    subnets,
    watching,
)

OURS = subnets("10.5.7.0/24", "fd00:5:0:7::/64")
KEY = b"10.5.7.0-24&fd00:5:0:7::-64"
FEW6 = b"""{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",
 "IPv6SubnetMin": "fd00:5:0:8::", "IPv6SubnetMax": "fd00:5:0:f::"}"""
"""Eight IPv6 subnets, and many of IPv4."""
FEW4 = b"""{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",
 "SubnetLen": 24, "SubnetMin": "10.5.8.0", "SubnetMax": "10.5.15.0"}"""


class DualContract:
    """The promises in a dual-stack network."""

    async def test_a_dual_lease_is_written_as_flannel_writes_it(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E3, L1 to L3, H9: lower case, the longest run of zeros compressed."""
        lease = await acquire(await open_store(IPS[0]), IPS[0], OURS, DUAL)
        assert (lease.subnets, lease.permanent) == (OURS, False)
        assert await rig.get(KEY) == Entry(
            b'{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1",'
            b'"BackendType":"vxlan",'
            b'"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"},'
            b'"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}',
            permanent=False,
        )

    async def test_a_node_gets_both_subnets_and_the_same_again(
        self, open_store: OpenStore
    ) -> None:
        """E14, E16."""
        first = await acquire(await open_store(IPS[0]), IPS[0], config=DUAL)
        assert NetworkConfig.parse(DUAL).contains(*first.subnets)
        assert first.attrs == dual_attrs_of(IPS[0])
        store = await open_store(IPS[0])
        again = await acquire(store, IPS[0], config=DUAL)
        renewed = await store.renew(again)
        taken = await store.reacquire(renewed)
        for lease in (again, renewed, taken):
            assert (lease.subnets, lease.attrs) == (first.subnets, first.attrs)

    @pytest.mark.parametrize(
        ("previous", "reused"),
        [
            pytest.param(("10.5.6.0/24", "fd00:5:0:6::/64"), True, id="free"),
            pytest.param(("10.5.6.0/24", "fd00:5:0:9::/64"), False, id="v6 held"),
            pytest.param(("10.5.9.0/24", "fd00:5:0:6::/64"), False, id="v4 held"),
            pytest.param(("10.5.8.0/24", "fd00:5:0:6::/64"), False, id="v4 of v4"),
            pytest.param(("10.5.6.0/24", "fd00:6:0:6::/64"), False, id="v6 outside"),
            pytest.param(("10.5.6.0/24", "fd00:5::/64"), False, id="v6 below min"),
            pytest.param(("10.5.6.0/24", "fd00:5:0:6::/80"), False, id="v6 longer"),
            pytest.param(("10.5.6.0/24", None), False, id="v4 alone"),
        ],
    )
    async def test_previous_subnets(
        self,
        rig: Rig,
        open_store: OpenStore,
        previous: tuple[str, str | None],
        reused: bool,
    ) -> None:
        """E15."""
        await rig.put(b"10.5.9.0-24&fd00:5:0:9::-64", dual_attrs_of(IPS[1]).encode())
        await rig.put(b"10.5.8.0-24", attrs_of(IPS[2]).encode())
        before = subnets(*previous)
        lease = await acquire(await open_store(IPS[0]), IPS[0], before, DUAL)
        assert (lease.subnets == before) is reused
        assert NetworkConfig.parse(DUAL).contains(*lease.subnets)
        others = subnets("10.5.9.0/24", "fd00:5:0:9::/64"), subnets("10.5.8.0/24")
        assert not any(lease.subnets.overlaps(other) for other in others)

    async def test_an_ipv4_lease_is_replaced_in_a_dual_network(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E14: EnableIPv6 came later."""
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[0]).encode(), ttl=3600)
        lease = await acquire(await open_store(IPS[0]), IPS[0], config=DUAL)
        assert lease.subnet6 is not None
        assert await rig.get(b"10.5.9.0-24") is None

    async def test_an_ipv4_reservation_is_left_alone_in_a_dual_network(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[0]).encode())
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], config=DUAL)
        assert lease.subnet6 is not None
        assert await rig.get(b"10.5.9.0-24") is not None
        await rig.delete(lease.key.encode())
        assert (await store.reacquire(lease)).subnets == lease.subnets

    async def test_a_dual_reservation_is_used_and_stays_one(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        await rig.put(KEY, dual_attrs_of(IPS[0]).encode())
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], config=DUAL)
        assert (lease.subnets, lease.permanent) == (OURS, True)
        assert (await store.renew(lease)).permanent
        assert await rig.get(KEY) == Entry(dual_attrs_of(IPS[0]).encode(), True)

    async def test_a_network_without_ipv6_subnets_is_full(
        self, open_store: OpenStore
    ) -> None:
        """E10, E11, E16: three subnets of /126 beside the skipped first one."""
        small = (
            b'{"Network": "10.5.0.0/16", "EnableIPv6": true, '
            b'"IPv6Network": "fd00:5::/124"}'
        )
        leases = [
            await acquire(await open_store(ip), ip, config=small) for ip in IPS[:3]
        ]
        assert {str(lease.subnet6) for lease in leases} == {
            "fd00:5::4/126",
            "fd00:5::8/126",
            "fd00:5::c/126",
        }
        with pytest.raises(NoFreeSubnet, match="every /126 of fd00:5::/124"):
            await acquire(await open_store(IPS[3]), IPS[3], config=small)

    async def test_an_entry_that_is_no_lease_occupies_both_its_subnets(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """H7, E13."""
        await rig.put(KEY, b"not a lease")
        for number, ip, previous in (
            (1, IPS[0], subnets("10.5.7.0/24", "fd00:5:0:1::/64")),
            (2, IPS[1], subnets("10.5.2.0/24", "fd00:5:0:7::/64")),
        ):
            lease = await acquire(await open_store(ip), ip, previous, DUAL)
            assert not lease.subnets.overlaps(OURS), number

    @pytest.mark.parametrize("config", [FEW4, FEW6], ids=["v4", "v6"])
    async def test_many_dual_nodes_at_once_all_differ(
        self, open_store: OpenStore, config: bytes
    ) -> None:
        """H7: eight nodes want the only eight subnets of one IP version. The keys of
        two that draw the same one of them differ all the same."""
        stores = [await open_store(ip) for ip in IPS]
        leases = await asyncio.gather(
            *(acquire(s, ip, config=config) for s, ip in zip(stores, IPS, strict=True))
        )
        assert len({lease.subnet for lease in leases}) == len(IPS)
        assert len({lease.subnet6 for lease in leases}) == len(IPS)

    # Renew and reacquire.

    @pytest.mark.parametrize("how", ["deleted", "expired"])
    async def test_a_revoked_dual_lease_is_noticed_and_taken_again(
        self, rig: Rig, open_store: OpenStore, how: str
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], OURS, DUAL)
        end = rig.delete if how == "deleted" else rig.expire
        await end(KEY)
        with pytest.raises(LeaseLost, match="fd00:5:0:7::/64"):
            await store.renew(lease)
        assert (await store.reacquire(lease)).subnets == OURS
        assert await rig.get(KEY) == Entry(lease.attrs.encode(), permanent=False)

    @pytest.mark.parametrize(
        "theirs",
        [
            b"10.5.7.0-24&fd00:5:0:9::-64",
            b"10.5.9.0-24&fd00:5:0:7::-64",
            b"10.5.7.0-24",
            b"10.5.7.128-25",
            b"10.5.9.0-24&fd00:5::-48",
        ],
    )
    async def test_reacquire_loses_to_a_lease_that_has_some_of_ours(
        self, rig: Rig, open_store: OpenStore, theirs: bytes
    ) -> None:
        """H7. Their key is another one, so ours is absent."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], OURS, DUAL)
        await rig.delete(KEY)
        await rig.put(theirs, dual_attrs_of(IPS[1]).encode())
        with pytest.raises(LeaseLost, match=IPS[1]):
            await store.reacquire(lease)
        await rig.put(theirs, b"garbage")
        with pytest.raises(LeaseLost, match="no lease"):
            await store.reacquire(lease)
        assert await rig.get(KEY) is None

    # Watch.

    async def test_changes_of_dual_leases_name_both_subnets(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E26: a deletion has the key alone."""
        store = await open_store(IPS[0])
        async with watching(store) as watcher:
            await watcher.snapshot()
            await rig.put(KEY, dual_attrs_of(IPS[1]).encode(), ttl=3600)
            await rig.delete(KEY)
            await rig.put(KEY, dual_attrs_of(IPS[2]).encode(), ttl=3600)
            added = await watcher.added()
            assert (added.subnets, added.attrs) == (OURS, dual_attrs_of(IPS[1]))
            assert await watcher.next() == Removed(*OURS)
            assert (await watcher.added()).attrs == dual_attrs_of(IPS[2])
            async with watching(store) as late:
                (lease,) = (await late.snapshot()).leases
                assert (lease.subnets, lease.attrs) == (OURS, dual_attrs_of(IPS[2]))
            await rig.expire(KEY)
            await watcher.until([])
            assert watcher.leases == {}

    async def test_two_keys_with_one_ipv4_subnet_are_two_leases(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """Written by hand, or while EnableIPv6 changed."""
        store = await open_store(IPS[0])
        four = Subnets(OURS.v4)
        async with watching(store) as early:
            await early.snapshot()
            await rig.put(b"10.5.7.0-24", attrs_of(IPS[1]).encode())
            await rig.put(KEY, dual_attrs_of(IPS[2]).encode())
            both = {four: attrs_of(IPS[1]), OURS: dual_attrs_of(IPS[2])}
            async with watching(store) as late:
                await late.snapshot()
                assert late.leases == both
            await early.added()
            await early.added()
            assert early.leases == both
            for own in (IPS[0], IPS[3]):
                lease = await acquire(await open_store(own), own, OURS, DUAL)
                assert not lease.subnets.overlaps(OURS)
                await early.added()
            await rig.delete(b"10.5.7.0-24")
            assert await early.next() == Removed(OURS.v4)
            await rig.delete(KEY)
            assert await early.next() == Removed(*OURS)
