"""An etcd in trouble, while two real daemons forward real packets all the time.

In each case no packet is lost, what has changed meanwhile arrives, and the log says
what happened once: every line that is no information is accounted for.
"""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from flannelette.benchmarks import cluster
from tests.helpers.authority import Authority
from tests.helpers.etcdfaults import Troubled, troubled
from tests.helpers.faketime import Clock, needs_faketime
from tests.helpers.gateway import PREFIX
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

BOTH = (1, 2)
NOT_WATCHED = "etcd is not watched, trying again: error="
STILL = "etcd is still not watched: error="
REVOKED = "our lease was revoked"
WAITING = "waiting for the store: to='take the lease again' error="
BACK = "etcd is back: "
DAY = 24 * 3600


def test_servers_that_die(tmp_path: Path) -> None:
    """One of three is dead from the beginning; then the leader dies, which is the one
    that the daemons have turned to; then all do."""
    with troubled(tmp_path, servers=3, dead=True) as it:
        first, second, third = it.servers
        for number in BOTH:
            dead = f"an etcd server does not answer: error=192.0.2.1:{first.port}: "
            it.all_said(number, dead)
        first.start()
        it.add_node(210)
        it.until_known(210)

        it.lead(second)
        second.stop()
        it.pulse.goes_on()
        third.wait()
        it.add_node(211)
        it.until_known(210, 211)
        # The third may have taken the watch at once, or only when it had a leader.
        for number in BOTH:
            it.until_said((BACK, "the watch of etcd was begun again"), number)
            news = [line for line in it.news(number) if NOT_WATCHED in line]
            it.all_said(number, *news[:1])
        second.start()

        for server in it.servers:
            server.stop()
        it.until_said(NOT_WATCHED)
        it.pulse.goes_on()
        for server in it.servers:
            server.launch()
        third.wait()
        it.add_node(212)
        it.until_known(210, 211, 212)
        it.until_said(BACK)
        for number in BOTH:
            it.all_said(number, NOT_WATCHED)
            assert it.store(number)["resyncs"] == 0


def test_a_compaction_during_a_partition(tmp_path: Path) -> None:
    """What host 2 has missed is history that etcd has forgotten: the snapshot tells,
    also of what is there no more."""
    with troubled(tmp_path) as it:
        it.add_node(210)
        it.until_known(210)
        with it.partition(2):
            it.add_node(211)
            it.remove_node(210)
            it.etcd.compact()
            until(lambda: it.nodes(1) == {211})
            until(lambda: not it.store(2)["connected"], 30)
            assert it.nodes(2) == {210}, "silence does not mean that they are gone"
            it.pulse.goes_on()
        it.until_known(211)
        it.add_node(212)
        it.until_known(211, 212)
        news = it.news(2, problems=False)
        assert sum("the leases are listed anew" in line for line in news) == 1
        assert it.store(2)["resyncs"] == 1
        it.all_said(1)
        it.all_said(2, *[line for line in it.news(2) if NOT_WATCHED in line][:1])


def test_users_that_may_do_no_more(tmp_path: Path) -> None:
    """Their role has lost its permission, which shows when etcd restarts."""
    with troubled(tmp_path, users=True) as it:
        it.add_node(210)
        it.until_known(210)
        it.etcd.forbid("flannel", f"{PREFIX}/")
        (server,) = it.servers
        server.stop()
        it.until_said(NOT_WATCHED)
        server.start()
        it.until_said(STILL)
        it.pulse.goes_on()
        it.etcd.log_in("root", "root")
        it.remove_node(210)
        it.add_node(211)
        it.etcd.permit("flannel", f"{PREFIX}/")
        it.until_known(211)
        for number in BOTH:
            it.all_said(number, NOT_WATCHED, "permission denied")


@needs_faketime
def test_a_full_etcd_and_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that cannot be taken again keeps nobody from following the others; and
    whoever sets the daemons' clock neither ends a lease nor makes one last."""
    clock = Clock(tmp_path / "clock")
    monkeypatch.setattr(cluster, "FLANNELETTE", clock.command(cluster.FLANNELETTE))
    full = {"memberID": 0, "alarm": "NOSPACE"}
    with troubled(tmp_path) as it:
        clock.set(-400 * DAY)
        assert is_fresh(it, 1)
        it.add_node(210)
        it.until_known(210)
        key = it.key(1)
        with it.pulse.interrupted():  # for host 2 there is no host 1
            it.etcd.call("maintenance/alarm", action="ACTIVATE", **full)
            it.revoke(1)
            it.until_said(WAITING, 1)
            assert "space exceeded" in it.lab.status(1)["last_error"]
            it.remove_node(210)
            it.until_known()
            assert key not in it.etcd.leases(), "it is still being waited for"
            it.etcd.call("maintenance/alarm", action="DEACTIVATE", **full)
            it.until_said("lease taken again", 1)
        assert key in it.etcd.leases()
        assert it.lab.status(1)["last_error"] is None
        assert is_fresh(it, 1)
        assert abs(told_at(it, 1, "lease taken again") + 400 * DAY) < DAY
        clock.set(400 * DAY)
        it.add_node(211)
        it.until_known(211)
        it.pulse.goes_on()
        for number in BOTH:
            told = told_at(it, number, "route: subnet=10.5.211.0")
            assert abs(told - 400 * DAY) < DAY
            assert is_fresh(it, number)
            assert "lease renewed" not in it.lab.log(number)
        it.all_said(1, REVOKED, WAITING)
        it.all_said(2)
        with it.pulse.interrupted():
            it.revoke(1)
            it.until_said("lease taken again", 1)
        assert is_fresh(it, 1)
        it.all_said(1, REVOKED)
        it.all_said(2)


def told_at(it: Troubled, number: int, text: str) -> float:
    """How far a daemon's time of day was from ours when it said so, in seconds."""
    line = next(line for line in it.lab.log(number).splitlines() if text in line)
    _, day, clock, *_ = line.split()
    told = datetime.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S,%f")
    return told.timestamp() - time.time()


def is_fresh(it: Troubled, number: int) -> bool:
    """Was a host's lease written just now?"""
    left: float = it.lab.status(number)["lease"]["expires_in"]
    return DAY - 600 < left <= DAY


def test_certificates_that_end(tmp_path: Path) -> None:
    """The server's and the daemons'; new ones are found in the files."""
    authority = Authority(tmp_path, "192.0.2.1")
    expired = "CERTIFICATE_VERIFY_FAILED: certificate has expired"
    with troubled(tmp_path, authority=authority) as it:
        (server,) = it.servers
        authority.issue_client()
        it.lab.cluster.daemons[1].process.send_signal(signal.SIGHUP)
        it.until_said("the certificates have changed", 1)
        authority.issue_server(seconds=-1)
        authority.issue_client(seconds=-1)
        server.stop()
        it.until_said(NOT_WATCHED)
        server.start()
        it.until_said(expired)
        authority.issue_server()
        it.until_said("our client certificate ran out at ")
        it.pulse.goes_on()
        authority.issue_client()
        it.add_node(210)
        it.until_known(210)
        for number in BOTH:
            it.all_said(number, NOT_WATCHED, expired, "our client certificate ran out")
