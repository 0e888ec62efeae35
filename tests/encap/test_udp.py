"""encap.udp: what is known of flannel's udp backend's wire. How packets fare there is
tests/dataplane/test_twins.py's."""

from __future__ import annotations

from flannelette.encap import udp


def test_constants_u1_u5() -> None:
    assert (udp.PORT, 1500 - udp.OVERHEAD) == (8285, 1472)
