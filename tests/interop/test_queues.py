"""A node with several queues beside flanneld: to the wire there is no difference."""

from __future__ import annotations

import random
from pathlib import Path

from tests.helpers.ns import needs_namespaces
from tests.helpers.tcp import send_file
from tests.interop.flanneld import beside_flanneld, needs_flanneld

pytestmark = [needs_namespaces, needs_flanneld]


def test_ping_and_tcp_with_flanneld(tmp_path: Path) -> None:
    data = random.Random(8).randbytes(10_000_000)
    with beside_flanneld(tmp_path, flags=["--queues=2"]) as (it, _):
        for source, target in ((1, 2), (2, 1)):
            assert "ttl=60" in it.reach(source, target, count=20)
            assert send_file(it, source, target, data) == data
        assert it.status(1)["node"]["queues"] == 2
        assert it.drops(1, "tx") == it.drops(1, "rx") == {}
