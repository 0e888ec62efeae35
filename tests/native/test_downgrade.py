"""What the kernel refuses goes again without the offload: in order, nothing lost.

refuse.c plays the kernel that refuses; everything else is real.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flannelette.native.api import Offload
from tests.helpers import downgradevxlan
from tests.helpers.downgrade import ALL
from tests.helpers.streams import cut, superpacket, tcp_packet

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("refuse") / "refuse.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run([*command, str(HERE / "refuse.c"), "-ldl"], check=True, env=plain)
    return library


def moved(shim: Path, refusal: str, helper: str = "downgrade") -> dict[str, Any]:
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(shim)]))
    done = subprocess.run(
        [sys.executable, "-m", f"tests.helpers.{helper}"],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": preload, "REFUSE": refusal},
        check=True,
        stdout=subprocess.PIPE,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def expected(ttl: int) -> list[str]:
    frame = superpacket(tcp_packet(bytes(range(256)) * 100, ttl=ttl), 1000)
    single = tcp_packet(b"before", source_port=4001, ttl=ttl)
    return [data.hex() for data in [single, *cut(frame)]]


@pytest.mark.parametrize(
    ("refusal", "kept"),
    [
        ("", ALL),
        (f"send {errno.EIO}", ALL & ~Offload.GSO),
        # The way to one peer has become narrow (EINVAL before Linux 6.14): no reason to
        # give GSO up.
        (f"send {errno.EINVAL}", ALL),
        (f"send {errno.EMSGSIZE}", ALL),
        (f"write {errno.EINVAL}", ALL & ~Offload.MERGE_TCP),
    ],
)
def test_refused_offloads_lose_nothing(shim: Path, refusal: str, kept: Offload) -> None:
    result = moved(shim, refusal)
    assert result["sent"] == expected(ttl=63)
    assert result["offloads"] == kept
    assert result["tx"] == result["rx"] == 27
    assert result["drops"] == [0, 0]
    if refusal.startswith("write"):
        assert result["written"] == expected(ttl=63)
    else:
        assert len(result["written"]) == 2  # the single one, and the run


def test_a_full_queue_is_waited_for_a_little(shim: Path) -> None:
    """ENOBUFS that does not end costs what was to be sent, and is counted."""
    result = moved(shim, f"send {errno.ENOBUFS}")
    assert result["sent"] == expected(ttl=63)[:1]
    assert result["drops"] == [26, 0]
    assert result["tx"] == 1


def test_a_refused_superpacket_of_a_kernel_peer_costs_no_other_a_byte(
    shim: Path,
) -> None:
    """Both are cut by us, one of them before the other is written."""
    result = moved(shim, f"write {errno.EINVAL}", "downgradevxlan")
    frames = (downgradevxlan.TCP, downgradevxlan.DATAGRAMS)
    packets = [data.hex() for frame in frames for data in cut(frame)]
    assert result == {"moved": 2, "written": packets, "drops": 0}
