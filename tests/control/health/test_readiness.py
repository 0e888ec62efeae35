"""Green for what the daemon outlives, red with a reason for what it does not."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from flannelette.control.health.readiness import (
    PATIENCE,
    Cause,
    Facts,
    NotReady,
    Ready,
    judge,
)

HOUR = 3600.0


def reasons(facts: Facts) -> dict[Cause, str]:
    verdict = judge(facts)
    return dict(verdict.reasons) if isinstance(verdict, NotReady) else {}


def test_a_healthy_node_is_ready() -> None:
    assert judge(Facts()) == Ready()
    assert judge(Facts(lease_left=86400.0)) == Ready()


def test_until_it_has_started_there_is_one_reason_z2() -> None:
    """Whatever else holds: nothing is expected to work yet."""
    ill = Facts(started=False, tun_lost=True, lease_revoked=True, rules_error="no nft")
    assert reasons(ill) == {Cause.STARTING: "it starts"}
    waiting = Facts(started=False, waiting_for="no network config")
    assert reasons(waiting) == {Cause.STARTING: "no network config"}


@pytest.mark.parametrize(
    ("facts", "cause", "reason"),
    [
        (
            Facts(tun_lost=True, carrier_error="no /dev/net/tun", pump_ended=True),
            Cause.CARRIER,
            "the TUN is lost: no /dev/net/tun",
        ),
        (Facts(tun_lost=True), Cause.CARRIER, "the TUN is lost"),
        (
            Facts(carrier_error="Operation not permitted"),
            Cause.CARRIER,
            "cannot be repaired: Operation not permitted",
        ),
        (Facts(pump_ended=True), Cause.PUMPS, "a pump has ended"),
        (
            Facts(rules_error="nft is missing"),
            Cause.RULES,
            "traffic rules are not kept: nft is missing",
        ),
        (
            Facts(lease_revoked=True, lease_left=86400.0, lease_error="no answer"),
            Cause.LEASE,
            "the lease was revoked: no answer",
        ),
        (
            Facts(lease_left=-1.0, lease_error="no answer"),
            Cause.LEASE,
            "the lease has expired: no answer",
        ),
        (
            Facts(lease_left=1800.0),
            Cause.LEASE,
            "the lease expires in 30 min 0 s and is not renewed",
        ),
        (
            Facts(store_outage=5400.0, store_error="connection refused"),
            Cause.STORE,
            "the store has been away for 1 h 30 min: connection refused",
        ),
    ],
)
def test_what_makes_it_red(facts: Facts, cause: Cause, reason: str) -> None:
    assert reasons(facts) == {cause: reason}


def test_an_outage_of_the_store_is_none_up_to_the_margin() -> None:
    """And not before."""
    assert judge(Facts(margin=HOUR, store_outage=HOUR, store_error="x")) == Ready()
    assert reasons(Facts(margin=HOUR, store_outage=HOUR + 1)).keys() == {Cause.STORE}
    assert judge(Facts(margin=24 * HOUR, store_outage=HOUR + 1)) == Ready()


@pytest.mark.parametrize(("margin", "patience"), [(HOUR, PATIENCE), (60.0, 30.0)])
def test_a_renewal_may_be_a_little_late(margin: float, patience: float) -> None:
    """E20: it is begun at the margin, and tried again every minute."""
    late = Facts(margin=margin, lease_left=margin - patience + 1, lease_error="x")
    assert judge(late) == Ready()
    too_late = Facts(margin=margin, lease_left=margin - patience)
    assert reasons(too_late).keys() == {Cause.LEASE}


def test_all_reasons_are_told_on_one_line() -> None:
    verdict = judge(Facts(tun_lost=True, rules_error="no nft", store_outage=HOUR + 60))
    assert isinstance(verdict, NotReady)
    assert verdict.reason == (
        "the store has been away for 1 h 1 min; the TUN is lost; "
        "traffic rules are not kept: no nft"
    )


seconds = st.floats(-1e6, 1e6)
texts = st.none() | st.text(max_size=9)


@given(
    st.builds(
        Facts,
        waiting_for=texts,
        margin=st.floats(60, 86340),
        lease_left=st.none() | seconds,
        lease_error=texts,
        store_outage=seconds,
        store_error=texts,
        carrier_error=texts,
        rules_error=texts,
    )
)
def test_whatever_the_facts_red_has_a_reason(facts: Facts) -> None:
    verdict = judge(facts)
    if isinstance(verdict, NotReady):
        assert verdict.reasons
        assert all(verdict.reasons.values())
    else:
        assert facts.started
