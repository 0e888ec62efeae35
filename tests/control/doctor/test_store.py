"""What the store says, judged."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from flannelette.control import config, statusdocument
from flannelette.control.doctor import store
from flannelette.control.doctor.facts import Daemon, Facts, StoreFacts
from flannelette.control.lease import Lease, LeaseAttrs
from tests.helpers.statusdocuments import document

THEIRS = Lease(IPv4Network("10.5.9.0/24"), LeaseAttrs(IPv4Address("192.0.2.9")))


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("our own MAC", ["lease-ignored"]),
        ("outside the network", ["lease-ignored"]),
        ("our own subnet", []),  # told as two leases that share addresses
        ("our own public IP", []),
    ],
)
def test_an_ignored_lease_is_told_once(reason: str, found: list[str]) -> None:
    ignored = [{"subnet": str(THEIRS.subnets), "reason": reason}]
    daemon = Daemon(statusdocument.parse(document(ignored=ignored)))
    facts = Facts(config.parse([], {}), daemon, StoreFacts(leases=(THEIRS,)))
    assert [it.check for it in store.ignored(facts)] == found
