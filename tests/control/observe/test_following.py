"""Events to followed packets: which belong together, in which order, and their end."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, strategies as st

from flannelette.control.observe.events import Event
from flannelette.control.observe.following import PATIENCE, Followed, Follower, Verdict
from flannelette.dataplane.forwarder import Direction, Drop, EventKind
from tests.helpers.eventrecords import event, rx, tx

READ, ROUTED, WRAPPED = EventKind.READ, EventKind.ROUTED, EventKind.WRAPPED
SENT, RECEIVED, MERGED = EventKind.SENT, EventKind.RECEIVED, EventKind.MERGED
CHECKED, UNWRAPPED = EventKind.CHECKED, EventKind.UNWRAPPED
WRITTEN, DROPPED = EventKind.WRITTEN, EventKind.DROPPED


def followed(events: list[Event], count: int = 0) -> list[Followed]:
    """All, and those that have not ended last."""
    follower = Follower(count)
    return [*follower.feed(events), *follower.finish()]


def kinds(one: Followed) -> list[EventKind]:
    return [event.kind for event in one.events]


def test_packets_of_both_directions_are_followed_to_their_end() -> None:
    follower = Follower()
    first, second = tx(b"one", 7), rx(b"two", 7)
    ended = list(follower.feed(first + second))
    assert [one.events for one in ended] == [first, second]
    assert [one.ordinal for one in ended] == [1, 2]
    assert [one.verdict for one in ended] == [Verdict.SENT, Verdict.WRITTEN]
    assert list(follower.finish()) == []


def test_queues_have_numbers_of_their_own() -> None:
    first = tx(b"one", 7)
    second = [each._replace(queue=1) for each in first]
    mixed = [each for pair in zip(first, second, strict=True) for each in pair]
    assert [one.events for one in followed(mixed)] == [first, second]


def test_a_frame_ends_with_the_last_of_its_packets() -> None:
    begin = [event(READ, 10), event(ROUTED, 10), event(WRAPPED, 10, packets=3)]
    follower = Follower()
    assert list(follower.feed([*begin, event(SENT, 10), event(SENT, 11)])) == []
    (one,) = follower.feed([event(SENT, 12)])
    assert (one.verdict, one.packets) == (Verdict.SENT, 3)
    assert kinds(one) == [READ, ROUTED, WRAPPED, SENT, SENT, SENT]


def test_numbers_go_round_within_a_frame() -> None:
    top = (1 << 32) - 1
    begin = [event(READ, top), event(WRAPPED, top, packets=2)]
    (one,) = followed([*begin, event(SENT, top), event(SENT, 0)])
    assert (one.verdict, one.number) == (Verdict.SENT, top)


def test_a_frame_of_which_some_packets_are_not_sent_is_dropped() -> None:
    begin = [event(READ, 1), event(WRAPPED, 1, packets=3), event(SENT, 1)]
    lost = event(DROPPED, 2, packets=2, drop=Drop.SEND_FAILED)
    (one,) = followed([*begin, lost])
    assert one.verdict == Verdict.DROPPED


@pytest.mark.parametrize("packets", [1, 44, (1 << 32) - 1])
def test_a_frame_that_is_dropped_before_it_is_wrapped_ends_at_once(
    packets: int,
) -> None:
    follower = Follower()
    (one,) = follower.feed([event(READ, 1), event(DROPPED, 1, packets=packets)])
    assert one.verdict == Verdict.DROPPED
    (again,) = follower.feed([event(READ, 2), event(DROPPED, 2)])
    assert again.ordinal == 2


def test_a_dropped_datagram_ends_at_once() -> None:
    drop = event(DROPPED, 1, direction=Direction.RX, drop=Drop.UNKNOWN_PEER)
    (one,) = followed([event(RECEIVED, 1), drop])
    assert one.verdict == Verdict.DROPPED


@pytest.mark.parametrize("kind", [WRITTEN, DROPPED])
def test_merged_packets_end_with_their_frame(kind: EventKind) -> None:
    first, *others = (rx(b"data", number)[:3] for number in (5, 6, 8))
    merged = [[*each, event(MERGED, each[0].number, into=5)] for each in others]
    end = event(kind, 5, packets=3, direction=Direction.RX)
    follower = Follower()
    assert list(follower.feed(chain(first, *merged))) == []
    found = list(follower.feed([end]))
    assert [one.number for one in found] == [5, 6, 8]
    assert [one.into for one in found] == [None, found[0], found[0]]
    assert {one.verdict for one in found} == {Verdict(kind.name.lower())}
    assert all(one.events[-1] == end for one in found)


def test_a_frame_that_the_kernel_refused_is_written_packet_by_packet() -> None:
    first, second = rx(b"data", 5)[:3], rx(b"data", 6)[:3]
    begin = [*first, *second, event(MERGED, 6, into=5), event(WRITTEN, 5)]
    follower = Follower()
    assert [one.number for one in follower.feed(begin)] == [5]
    lost = event(DROPPED, 6, direction=Direction.RX, drop=Drop.WRITE_FAILED)
    (one,) = follower.feed([lost])
    assert (one.number, one.verdict) == (6, Verdict.DROPPED)


def superpacket(number: int, packets: int) -> list[Event]:
    """A datagram of a kernel's that holds one."""
    begin = [event(RECEIVED, number), event(CHECKED, number)]
    return [*begin, event(UNWRAPPED, number, packets=packets)]


def test_a_superpacket_that_is_written_whole_ends_at_once() -> None:
    follower = Follower()
    assert list(follower.feed(superpacket(5, 3))) == []
    (one,) = follower.feed([event(WRITTEN, 5, packets=3)])
    assert (one.verdict, kinds(one)[-1]) == (Verdict.WRITTEN, WRITTEN)


@pytest.mark.parametrize("last", [WRITTEN, DROPPED])
def test_a_superpacket_may_be_written_packet_by_packet(last: EventKind) -> None:
    """Where the TUN takes none, or its kernel has refused it."""
    top = (1 << 32) - 1
    follower = Follower()
    begin = [*superpacket(top, 3), event(WRITTEN, top), event(WRITTEN, 0)]
    assert list(follower.feed(begin)) == []
    (one,) = follower.feed([event(last, 1, direction=Direction.RX)])
    assert (one.verdict, one.number) == (Verdict(last.name.lower()), top)
    assert kinds(one) == [RECEIVED, CHECKED, UNWRAPPED, WRITTEN, WRITTEN, last]
    (again,) = follower.feed(rx(b"data", 2))
    assert again.ordinal == 2


def test_a_packet_merged_into_an_unfollowed_one_ends_there() -> None:
    (one,) = followed([*rx(b"data", 6)[:3], event(MERGED, 6, into=5)])
    assert (one.verdict, one.into) == (Verdict.MERGED, None)
    (one,) = followed([*rx(b"data", 6)[:3], event(MERGED, 6, into=6)])
    assert (one.verdict, one.into) == (Verdict.MERGED, None)


def test_only_so_many_are_followed() -> None:
    follower = Follower(2)
    events = [each for number in range(5) for each in tx(b"data", number)]
    found = list(follower.feed(events[:10]))
    assert len(found) == 2
    assert follower.done
    assert list(follower.feed(events[10:])) == []


def test_not_done_before_the_last_has_ended() -> None:
    follower = Follower(1)
    begin, end = tx(b"data")[:2], tx(b"data")[2:]
    assert not follower.done
    assert list(follower.feed(begin)) == []
    assert not follower.done
    assert len(list(follower.feed(end))) == 1
    assert follower.done


def test_without_a_count_it_is_never_done() -> None:
    follower = Follower()
    list(follower.feed(tx(b"data")))
    assert not follower.done


def test_packets_go_out_in_the_order_in_which_they_came() -> None:
    follower = Follower()
    slow, quick = tx(b"slow", 1), tx(b"quick", 2)
    assert list(follower.feed([*slow[:2], *quick])) == []
    assert [one.number for one in follower.feed(slow[2:])] == [1, 2]


def test_a_packet_may_begin_in_its_middle() -> None:
    """What came before was lost, or before the watching."""
    (one,) = followed(tx(b"data")[1:])
    assert (one.verdict, kinds(one)) == (Verdict.SENT, [ROUTED, WRAPPED, SENT])


def test_the_rest_of_a_packet_may_be_lost() -> None:
    follower = Follower()
    begin = tx(b"data", 1)[:2]
    late = begin[1].time + PATIENCE
    assert list(follower.feed(begin)) == []
    on_time = [each._replace(time=late) for each in tx(b"data", 2)]
    assert list(follower.feed(on_time)) == []
    too_late = [each._replace(time=late + 1) for each in tx(b"data", 3)]
    found = list(follower.feed(too_late))
    assert [one.number for one in found] == [1, 2, 3]
    assert found[0].verdict == Verdict.UNFINISHED


def test_a_packet_is_given_up_also_when_nothing_else_comes() -> None:
    follower = Follower()
    begin = tx(b"data")[:2]
    assert list(follower.feed(begin, begin[1].time + 10 * PATIENCE)) == []
    assert list(follower.feed([], begin[1].time + PATIENCE)) == []
    (one,) = follower.feed([], begin[1].time + PATIENCE + 1)
    assert one.verdict == Verdict.UNFINISHED


@pytest.mark.parametrize("kind", [SENT, DROPPED, WRITTEN])
def test_a_filter_may_tell_of_some_packets_of_a_frame(kind: EventKind) -> None:
    follower = Follower()
    begin = [event(READ, 1), event(WRAPPED, 1, packets=3), event(kind, 3)]
    if kind == WRITTEN:
        begin = [*superpacket(1, 3), event(WRITTEN, 3)]
    assert list(follower.feed(begin)) == []
    (one,) = follower.feed([], begin[0].time + PATIENCE + 1)
    assert one.verdict == Verdict(kind.name.lower())


def test_the_end_of_watching_leaves_packets_unfinished() -> None:
    follower = Follower()
    assert list(follower.feed(tx(b"data")[:2])) == []
    (one,) = follower.finish()
    assert one.verdict == Verdict.UNFINISHED


def test_a_number_that_comes_again_is_another_packet() -> None:
    found = followed([*tx(b"old", 1)[:2], *tx(b"new", 1)])
    assert [one.verdict for one in found] == [Verdict.UNFINISHED, Verdict.SENT]


SMALL = st.integers(0, 3)


@given(
    st.lists(
        st.builds(
            lambda kind, number, more, direction, packets: event(
                kind, number, direction=direction, packets=packets, **more
            ),
            st.sampled_from(EventKind),
            SMALL,
            st.fixed_dictionaries({"into": SMALL, "after": st.integers(0, 3_000_000)}),
            st.sampled_from(Direction),
            SMALL,
        ),
        max_size=40,
    ),
    st.integers(0, 3),
)
def test_any_events_give_each_packet_once_and_in_order(
    events: list[Event], count: int
) -> None:
    found = followed(sorted(events, key=lambda each: each.time), count)
    assert [one.ordinal for one in found] == list(range(1, len(found) + 1))
    assert not count or len(found) <= count
    for one in found:
        assert one.verdict is not None
        assert {each.direction for each in one.events} == {one.direction}
    if not count:
        own = [each for one in found for each in one.events if one.into is None]
        assert {id(each) for each in own} <= {id(each) for each in events}
        heard = {id(each) for one in found for each in one.events}
        assert heard == {id(each) for each in events}
