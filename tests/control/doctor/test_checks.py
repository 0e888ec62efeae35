"""What is found where one fact of a healthy node is another."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from flannelette.control import config, statusdocument
from flannelette.control.doctor.checks import diagnose
from flannelette.control.doctor.facts import Daemon, Facts, Holder, Peer, PeerFacts
from flannelette.control.interface import External
from flannelette.dataplane.asking import Answer
from flannelette.tun.interfaces import Interface
from tests.helpers.statusdocuments import document

ADDRESS = IPv4Address("192.0.2.1")
ETH0 = Interface(2, "eth0", 1500, True, (IPv4Interface("192.0.2.1/24"),))
TUN = Interface(3, "flannel0", 1472, True, (IPv4Interface("10.5.1.0/32"),))
SUBNET = IPv4Network("10.5.2.0/24")
WELL = PeerFacts(
    Peer(IPv4Address("192.0.2.2"), 8285),
    (SUBNET,),
    small=Answer(0.1, known=True),
    full=Answer(0.1, known=True),
    overlay={SUBNET: Answer(0.1)},
    overlay_full=Answer(0.1),
    needs=1500,
)


def daemon(**changes: Any) -> Daemon:
    return Daemon(statusdocument.parse(document(**changes)), pid=7)


HEALTHY = Facts(
    config.parse([], {}),
    daemon(),
    external=External("eth0", 2, 1500, ADDRESS, ADDRESS),
    interfaces=(ETH0, TUN),
    peers=(WELL,),
)
NODE = document()["node"]
LEASE = document()["lease"]
WAITING = {"started": False, "ready": False, "last_error": "the store does not answer"}


def test_nothing_is_wrong() -> None:
    assert diagnose(HEALTHY) == []


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("daemon-down", {"daemon": Daemon(None, "connection refused")}),
        ("daemon-silent", {"daemon": Daemon(None, "no answer", pid=7)}),
        ("not-permitted", {"daemon": Daemon(None, "s: Permission denied")}),
        ("daemon-waiting", {"daemon": daemon(**WAITING)}),
        ("daemon-failing", {"daemon": daemon(last_error="no permission")}),
        ("offloads-refused", {"daemon": daemon(node=NODE | {"offloads": []})}),
        ("external-missing", {"external": None, "external_error": "no route"}),
        ("external-down", {"interfaces": (replace(ETH0, up=False), TUN)}),
        ("lease-expired", {"daemon": daemon(lease=LEASE | {"expires_in": -1.0})}),
        (
            "peer-unreachable",
            {"peers": [PeerFacts(WELL.peer, (), OSError(errno.EHOSTUNREACH, "no"))]},
        ),
        (
            "overlay-silent",
            {"peers": [replace(WELL, overlay={SUBNET: None}, overlay_full=None)]},
        ),
    ],
)
def test_one_thing_is_wrong(check: str, changes: dict[str, Any]) -> None:
    facts = replace(HEALTHY, **changes)
    assert [it.check for it in diagnose(facts)] == [check]


def test_who_has_the_port_goes_first() -> None:
    """Of no concern to a daemon that has started."""
    taken = replace(HEALTHY, holder=Holder("flanneld (pid 7)", "systemctl stop it"))
    assert diagnose(taken) == []
    down = replace(taken, daemon=Daemon(None, "connection refused"))
    holder, daemon = diagnose(down)
    assert (holder.check, holder.cure.command) == ("port-taken", "systemctl stop it")
    assert "flanneld (pid 7)" in holder.cause
    assert daemon.check == "daemon-down"


def test_a_daemon_that_waits_is_not_blamed_for_what_it_waits_for() -> None:
    facts = replace(HEALTHY, daemon=daemon(**WAITING), interfaces=())
    missing = replace(facts, external=None, external_error="no route")
    assert [it.check for it in diagnose(missing)] == ["external-missing"]


def test_who_is_silent_is_not_blamed_while_an_error_of_ours_explains_it() -> None:
    gone = replace(WELL, small=None, full=None, overlay={SUBNET: None})
    alone = replace(HEALTHY, peers=[gone])
    assert [it.check for it in diagnose(alone)] == ["peer-gone"]
    down = replace(alone, interfaces=(replace(ETH0, up=False), TUN))
    assert [it.check for it in diagnose(down)] == ["external-down"]
