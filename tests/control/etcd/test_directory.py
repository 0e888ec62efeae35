"""LeaseDirectory: what entries in etcd mean, whatever bytes they are."""

from __future__ import annotations

from hypothesis import given, strategies as st

from flannelette.control.etcd.channel import Deleted, Entry, Listing
from flannelette.control.etcd.watch import LeaseDirectory
from flannelette.control.lease import Added, Removed
from tests.helpers.etcdplace import VALUE

FIRST = b"/p/subnets/"

keys = st.one_of(
    st.binary(max_size=40),
    st.text("0123456789.-&:abcdef/", max_size=30).map(str.encode),
    st.sampled_from(
        [b"10.5.1.0-24", b"10.5.1.0-024", b"10.5.1.1-24", b"10.0.0.0-8", b"10.0.0.0-08"]
    ),
)
values = st.one_of(st.binary(max_size=60), st.just(VALUE))


@given(st.lists(st.tuples(keys, values, st.integers(0, 3)), max_size=8))
def test_any_entries_are_read(entries: list[tuple[bytes, bytes, int]]) -> None:
    """H1: hostile bytes are skipped. A lease has the key that we would write."""
    directory = LeaseDirectory(b"/p/subnets")
    listing = Listing(
        9,
        tuple(Entry(FIRST + key, value, 5, lease) for key, value, lease in entries),
    )
    leases, blocked = directory.leases(listing)
    written = {FIRST + key: value for key, value, _ in entries}
    for lease in leases:
        assert directory.key(lease) in written
    assert len(leases) + len(blocked) <= len(entries)
    assert (directory.skipped.count == 0) == (len(leases) == len(entries))
    for entry in listing.entries:
        event = directory.event(entry)
        assert event is None or isinstance(event, Added)
        gone = directory.event(Deleted(entry.key, 6))
        assert isinstance(gone, Removed | None)


entries_ = st.lists(
    st.builds(
        lambda key, value, revision, lease: Entry(FIRST + key, value, revision, lease),
        st.sampled_from([b"10.5.1.0-24", b"10.5.2.0-24", b"none"]),
        st.sampled_from([VALUE, b"{}"]),
        st.integers(5, 6),
        st.integers(0, 1),
    ),
    unique_by=lambda entry: entry.key,
)


@given(entries_, entries_)
def test_a_listing_that_comes_again_soon_is_read_as_the_first(
    before: list[Entry], after: list[Entry]
) -> None:
    first, second = Listing(9, tuple(before)), Listing(9, tuple(after))
    directory = LeaseDirectory(b"/p/subnets")
    leases, _ = directory.leases(first, again_soon=True)
    found = directory.leases(second)
    assert found == LeaseDirectory(b"/p/subnets").leases(second)
    same = {entry.key for entry in before if entry in after}
    kept = {id(lease) for lease in leases if directory.key(lease) in same}
    assert kept <= {id(lease) for lease in found[0]}
    # And only once: leases are many.
    third, _ = directory.leases(second)
    assert not kept & {id(lease) for lease in third}
