"""What every subnet store promises of leases; part of store_contract.py.

They are acquired, renewed and taken again, in a network of IPv4 alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from flannelette.control.errors import LeaseLost, NetworkConfigError, NoFreeSubnet
from flannelette.control.lease import LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from tests.helpers.storerig import (
    CONFIG,
    IPS,
    Entry,
    OpenStore,
    Rig,
    acquire,
    attrs_of,
    network,
)


class LeaseContract:
    """The promises of the network configuration and of our own lease."""

    # The network configuration.

    async def test_no_config_is_an_error(self, open_store: OpenStore) -> None:
        """T33."""
        store = await open_store(IPS[0])
        with pytest.raises(NetworkConfigError):
            await store.network_config()

    @pytest.mark.parametrize("text", [CONFIG, b"{ not JSON", b'{"Network": "\xff"}'])
    async def test_config_is_read_back_verbatim(
        self, rig: Rig, open_store: OpenStore, text: bytes
    ) -> None:
        """T33. What it means is the caller's to judge."""
        await rig.write_config(text)
        assert await (await open_store(IPS[0])).network_config() == text

    # Acquire.

    async def test_an_acquired_lease_is_written_as_flannel_writes_it(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E3, L1 to L3, T33."""
        store = await open_store(IPS[0])
        attrs = LeaseAttrs(IPv4Address("1.2.3.4"))
        config = NetworkConfig.parse(CONFIG)
        lease = await store.acquire(attrs, config, Subnets(network("10.5.7.0/24")))
        assert (lease.key, lease.permanent) == ("10.5.7.0-24", False)
        assert await rig.get(b"10.5.7.0-24") == Entry(
            b'{"PublicIP":"1.2.3.4","PublicIPv6":null}', permanent=False
        )

    @pytest.mark.parametrize(
        ("previous", "reused"),
        [
            pytest.param("10.5.6.0/24", True, id="free"),
            pytest.param("10.5.9.0/24", False, id="held by another"),
            pytest.param("10.4.1.0/24", False, id="outside the network"),
            pytest.param("10.5.0.0/24", False, id="below SubnetMin"),
            pytest.param("10.5.6.0/25", False, id="of another length"),
        ],
    )
    async def test_previous_subnet(
        self,
        rig: Rig,
        open_store: OpenStore,
        configured: None,
        previous: str,
        reused: bool,
    ) -> None:
        """E15, T31."""
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[1]).encode())
        lease = await acquire(await open_store(IPS[0]), IPS[0], previous)
        assert (lease.subnet == network(previous)) is reused
        assert lease.subnet != network("10.5.9.0/24")
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)

    async def test_our_lease_is_found_again_with_new_attributes(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E14: reuse writes what we are now, and our own lease beats `previous`."""
        old = replace(attrs_of(IPS[0]), backend_data=None)
        await rig.put(b"10.5.9.0-24", old.encode(), ttl=3600)
        lease = await acquire(await open_store(IPS[0]), IPS[0], "10.5.6.0/24")
        assert lease.subnet == network("10.5.9.0/24")
        assert await rig.get(b"10.5.9.0-24") == Entry(
            attrs_of(IPS[0]).encode(), permanent=False
        )

    async def test_a_lease_of_another_network_is_replaced(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E14, T31: the config changed to another Network."""
        await rig.put(b"10.3.9.0-24", attrs_of(IPS[0]).encode(), ttl=3600)
        await rig.write_config(CONFIG)
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)
        assert await rig.get(b"10.3.9.0-24") is None

    async def test_a_dual_stack_lease_is_replaced_in_an_ipv4_network(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """H2, E14: to write such a key again would crash real peers."""
        key = b"10.5.9.0-24&fd00:1::-64"
        await rig.put(key, attrs_of(IPS[0]).encode(), ttl=3600)
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert lease.subnet6 is None
        assert await rig.get(key) is None

    async def test_a_reservation_is_used_and_stays_one(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E21: flanneld turns it into a lease of 24 hours; we keep it."""
        await rig.put(b"10.5.9.0-24", attrs_of(IPS[0]).encode())
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        assert lease.subnet == network("10.5.9.0/24")
        assert (lease.permanent, lease.expires) == (True, None)
        for held in (await store.renew(lease), await store.reacquire(lease)):
            assert (held.permanent, held.expires) == (True, None)
        assert await rig.get(b"10.5.9.0-24") == Entry(
            attrs_of(IPS[0]).encode(), permanent=True
        )

    async def test_a_reservation_that_no_longer_fits_is_left_alone(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        await rig.put(b"10.3.9.0-24", attrs_of(IPS[0]).encode())
        lease = await acquire(await open_store(IPS[0]), IPS[0])
        assert NetworkConfig.parse(CONFIG).contains(lease.subnet)
        assert await rig.get(b"10.3.9.0-24") is not None

    async def test_an_exhausted_network(self, rig: Rig, open_store: OpenStore) -> None:
        """E16. A /28 has three subnets of /30 beside the skipped first one."""
        small = b'{"Network": "10.5.0.0/28"}'
        await rig.write_config(small)
        leases = [
            await acquire(await open_store(ip), ip, config=small) for ip in IPS[:3]
        ]
        assert {str(lease.subnet) for lease in leases} == {
            "10.5.0.4/30",
            "10.5.0.8/30",
            "10.5.0.12/30",
        }
        with pytest.raises(NoFreeSubnet):
            await acquire(await open_store(IPS[3]), IPS[3], config=small)

    async def test_an_entry_that_is_no_lease_still_occupies_its_subnet(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """H7: its key is there, so it can be somebody's. flanneld forgets it (E13)."""
        small = b'{"Network": "10.5.0.0/28"}'
        await rig.write_config(small)
        await rig.put(b"10.5.0.4-30", b"not a lease")
        await rig.put(b"10.5.0.8-30", b"{}")
        lease = await acquire(
            await open_store(IPS[0]), IPS[0], "10.5.0.4/30", config=small
        )
        assert lease.subnet == network("10.5.0.12/30")
        with pytest.raises(NoFreeSubnet):
            await acquire(await open_store(IPS[1]), IPS[1], config=small)
        assert await rig.get(b"10.5.0.4-30") == Entry(b"not a lease", permanent=True)

    async def test_many_nodes_at_once_all_differ(
        self, rig: Rig, open_store: OpenStore
    ) -> None:
        """E17, E18: eight nodes want the only eight subnets; lost races start over.

        A node loses a race only because another won one: seven times at most."""
        exact = (
            b'{"Network": "10.5.0.0/16", "SubnetLen": 24, '
            b'"SubnetMin": "10.5.8.0", "SubnetMax": "10.5.15.0"}'
        )
        await rig.write_config(exact)
        stores = [await open_store(ip) for ip in IPS]
        leases = await asyncio.gather(
            *(acquire(s, ip, config=exact) for s, ip in zip(stores, IPS, strict=True))
        )
        assert {lease.subnet for lease in leases} == {
            network(f"10.5.{n}.0/24") for n in range(8, 16)
        }

    # Renew and reacquire.

    async def test_renew_extends_and_keeps_the_value(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """E20, T32."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        before = await rig.get(lease.key.encode())
        renewed = await store.renew(lease)
        assert lease.expires is not None
        assert renewed.expires is not None
        assert renewed.expires >= lease.expires
        assert renewed.revision != lease.revision
        assert await rig.get(lease.key.encode()) == before

    async def test_renew_notices_another_writer(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """flanneld's renewal overwrites (H7), ours compares."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        theirs = attrs_of(IPS[1]).encode()
        await rig.put(lease.key.encode(), theirs, ttl=3600)
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await store.reacquire(lease)
        assert await rig.get(lease.key.encode()) == Entry(theirs, permanent=False)

    @pytest.mark.parametrize("how", ["deleted", "expired"])
    async def test_a_revoked_lease_is_noticed_and_taken_again(
        self, rig: Rig, open_store: OpenStore, configured: None, how: str
    ) -> None:
        """Where flanneld shuts down (E33)."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        end = rig.delete if how == "deleted" else rig.expire
        await end(lease.key.encode())
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        assert await rig.get(lease.key.encode()) is None
        again = await store.reacquire(lease)
        assert again.subnet == lease.subnet
        assert await rig.get(lease.key.encode()) == Entry(
            lease.attrs.encode(), permanent=False
        )
        await store.renew(again)

    async def test_an_operator_turns_our_lease_into_a_reservation(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        await rig.put(lease.key.encode(), lease.attrs.encode())
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        assert (await store.reacquire(lease)).permanent
        assert await rig.get(lease.key.encode()) == Entry(
            lease.attrs.encode(), permanent=True
        )

    async def test_reacquire_loses_to_the_node_that_has_it_by_now(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0])
        await rig.delete(lease.key.encode())
        other = await open_store(IPS[1])
        theirs = await acquire(other, IPS[1], previous=str(lease.subnet))
        assert theirs.subnet == lease.subnet
        with pytest.raises(LeaseLost):
            await store.reacquire(lease)
        await other.renew(theirs)

    async def test_reacquire_loses_to_a_lease_inside_ours(
        self, rig: Rig, open_store: OpenStore, configured: None
    ) -> None:
        """H7: its key is another one."""
        store = await open_store(IPS[0])
        lease = await acquire(store, IPS[0], previous="10.5.9.0/24")
        await rig.delete(b"10.5.9.0-24")
        await rig.put(b"10.5.9.128-25", attrs_of(IPS[1]).encode())
        with pytest.raises(LeaseLost, match=IPS[1]):
            await store.reacquire(lease)
        await rig.put(b"10.5.9.128-25", b"garbage")
        with pytest.raises(LeaseLost, match="no lease"):
            await store.reacquire(lease)
        assert await rig.get(b"10.5.9.0-24") is None
