"""flanneld's words at flanneld's paths, and what we add."""

from __future__ import annotations

import pytest

from flannelette.control.health.exporter import Exporter
from flannelette.control.health.figures import Figures
from flannelette.control.health.http import Refused, Request
from flannelette.control.health.pages import Pages
from flannelette.control.health.readiness import Cause, NotReady, Ready, Verdict


class Asked(Exporter):
    """Tells what it was asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("nobody looks"))

    def page(self, accept: str = "", peers: int = -1) -> tuple[bytes, str]:
        return f"{accept} {peers}".encode(), "text/x"


def pages(verdict: Verdict | None = None) -> Pages:
    return Pages(lambda: verdict or Ready(), Asked())


RED = NotReady({Cause.CARRIER: "the TUN is lost: \x1b[2J\n", Cause.RULES: "no nft"})


@pytest.mark.parametrize("verdict", [Ready(), RED])
def test_healthz_is_always_green_z1(verdict: Verdict) -> None:
    answer = pages(verdict)(Request("/healthz"))
    assert (answer.status, answer.body) == (200, b"flanneld is running")


def test_readyz_z2() -> None:
    answer = pages()(Request("/readyz"))
    assert (answer.status, answer.body) == (200, b"flanneld is ready")


def test_readyz_says_why_not_z2() -> None:
    """flanneld's line comes first; ours are printable."""
    answer = pages(RED)(Request("/readyz"))
    assert answer.status == 503
    assert answer.body.decode().splitlines() == [
        "flanneld is not ready yet",
        r"the TUN is lost: \x1b[2J\n",
        "no nft",
    ]


@pytest.mark.parametrize("path", ["/", "/healthz/", "/Healthz", "/debug/pprof", "/%2f"])
def test_other_paths_z3(path: str) -> None:
    answer = pages()(Request(path))
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_metrics_get_what_the_scrape_wants() -> None:
    request = Request("/metrics", True, {"peers": "7"}, {"accept": "x/y"})
    answer = pages()(request)
    assert (answer.status, answer.body) == (200, b"x/y 7")
    assert answer.content_type == "text/x"
    assert pages()(Request("/metrics")).body == b" 100"


def test_nobody_may_ask_for_any_number_of_peers() -> None:
    request = Request("/metrics", True, {"peers": "999999"}, {})
    assert pages()(request).body.endswith(b" 1000")


@pytest.mark.parametrize("peers", ["", "-1", "1.5", "x", "²", "1" * 7, "1" * 5000])
def test_a_number_of_peers_is_one(peers: str) -> None:
    with pytest.raises(Refused) as caught:
        pages()(Request("/metrics", True, {"peers": peers}))
    assert caught.value.status == 400


def test_nobody_looks_before_a_scrape() -> None:
    def look() -> Figures:
        raise AssertionError

    Pages(Ready, Exporter(look))(Request("/readyz"))
