"""What health checks see of flannelette and of real flanneld: the same."""

from __future__ import annotations

import time
from pathlib import Path

from tests.helpers.gateway import PREFIX, Gateway
from tests.helpers.health import FLAG, asked
from tests.helpers.lab import DEADLINE, Lab, lab
from tests.helpers.ns import needs_namespaces, until
from tests.interop.flanneld import Flanneld, needs_flanneld

pytestmark = [needs_namespaces, needs_flanneld]


def listens(it: Lab, number: int, address: str = "127.0.0.1") -> bool:
    try:
        asked(it.rig, number, "/healthz", address=address)
    except ConnectionRefusedError:
        return False
    return True


def test_flanneld_and_ours_answer_alike_z1_z2_z3(tmp_path: Path) -> None:
    """Before there is a network configuration, and after; ours on host 1."""
    with lab(tmp_path, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        etcd = Gateway(it.rig)
        etcd.delete(f"{PREFIX}/config")
        it.cluster.start_daemon(1, FLAG)
        theirs = Flanneld(it.rig, 2, tmp_path / "f2", FLAG)
        for number in (1, 2):
            until(lambda number=number: listens(it, number))  # type: ignore[misc]

        # Ours says why, too, once the store has answered what it waits for.
        until(lambda: f"{PREFIX}/config" in asked(it.rig, 1, "/readyz").text)
        ours, flanneld = (asked(it.rig, number, "/readyz") for number in (1, 2))
        assert ours.status == flanneld.status == 503
        assert ours.kind == flanneld.kind
        assert ours.text.splitlines()[0] == flanneld.text == "flanneld is not ready yet"

        etcd.put(f"{PREFIX}/config", b'{"Network": "10.5.0.0/16"}')
        until(lambda: asked(it.rig, 1, "/readyz").status == 200)
        until(theirs.is_ready)
        until(lambda: asked(it.rig, 2, "/readyz").status == 200)
        for path in ("/healthz", "/readyz", "/nothing"):
            for method in ("GET", "HEAD"):
                for address in ("127.0.0.1", "::1", str(it.rig.address(1))):
                    one = asked(it.rig, 1, path, method, address)
                    address = address.replace("192.0.2.1", "192.0.2.2")
                    assert one == asked(it.rig, 2, path, method, address)
        assert asked(it.rig, 2, "/metrics").status == 404
        assert asked(it.rig, 1, "/metrics").status == 200


def test_where_flanneld_and_ours_listen_when_it_is_no_address(tmp_path: Path) -> None:
    """A host's name is looked up, and nothing at all is everywhere."""
    with lab(tmp_path, store="etcd") as it:
        it.cluster.start_store(time.monotonic() + DEADLINE)
        for host, local in (("localhost", True), ("", False)):
            flags = FLAG, f"--healthz-ip={host}"
            it.cluster.start_daemon(1, *flags)
            theirs = Flanneld(it.rig, 2, tmp_path / "f2", *flags)
            for number in (1, 2):
                until(lambda number=number: listens(it, number))  # type: ignore[misc]
                assert listens(it, number, str(it.rig.address(number))) != local
                assert not (local and listens(it, number, "127.0.0.2"))
            assert listens(it, 1, "::1") == listens(it, 2, "::1") != local
            for program in (it.cluster.daemons[1], theirs):
                program.process.terminate()
                program.process.wait(DEADLINE)
