"""A node with several queues beside flanneld: to the wire there is no difference."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.helpers.lab import DEADLINE, lab
from tests.helpers.ns import needs_namespaces, until
from tests.helpers.tcp import send_file
from tests.interop.flanneld import needs_flanneld, start_flanneld, start_ours

pytestmark = [needs_namespaces, needs_flanneld]


def test_ping_and_tcp_with_flanneld(tmp_path: Path) -> None:
    data = random.Random(8).randbytes(10_000_000)
    with lab(tmp_path, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        start_ours(it, 1, "--queues=2")
        flanneld = start_flanneld(it, 2)
        until(lambda: it.status(1)["routes"])
        it.add_pods()
        it.pods[2] = flanneld.pod()
        it.until_reaches(1, 2)
        for source, target in ((1, 2), (2, 1)):
            assert "ttl=60" in it.reach(source, target, count=20)
            assert send_file(it, source, target, data) == data
        assert it.status(1)["node"]["queues"] == 2
        assert it.drops(1, "tx") == it.drops(1, "rx") == {}
