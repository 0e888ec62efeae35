"""A request from bytes, and an answer in bytes."""

from __future__ import annotations

import re
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from flannelette.control.health.http import (
    HEAD_MAX,
    Refused,
    Request,
    Response,
    encode,
    head_of,
    parse,
    refusal,
)


def test_a_request_of_prometheus() -> None:
    head = head_of(
        b"GET /metrics?peers=5&x=&peers=7 HTTP/1.1\r\n"
        b"Host: 192.0.2.1:9471\r\n"
        b"Accept: application/openmetrics-text; version=1.0.0\r\n"
        b"ACCEPT:\t*/* \r\n\r\nrest"
    )
    assert head is not None
    assert parse(head) == Request(
        "/metrics",
        True,
        {"peers": "7", "x": ""},
        {
            "host": "192.0.2.1:9471",
            "accept": "application/openmetrics-text; version=1.0.0, */*",
        },
    )


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"GET / HTTP/1.0", "/"),
        (b"HEAD /healthz HTTP/1.1", "/healthz"),
        (b"GET http://node:9471/readyz?verbose HTTP/1.1", "/readyz"),
        (b"GET HTTPS://node/ HTTP/1.1", "/"),
        (b"GET /http://x/ HTTP/1.1", "/http://x/"),
    ],
)
def test_paths(head: bytes, path: str) -> None:
    """Absolute forms too: RFC 9112 section 3.2.2."""
    request = parse(head)
    assert request.path == path
    assert request.body_wanted is head.startswith(b"GET")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET http://node HTTP/1.1", 400),
        (b"GET ftp://node/ HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),  # somebody speaks TLS
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded", 400),
        (b"GET / HTTP/1.1\r\nA : b", 400),
        (b"GET / HTTP/1.1\r\nA: b\rC: d", 400),
        (b"GET / HTTP/1.1\r\nA: \x00", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"POST / HTTP/1.1", 405),
        (b"get / HTTP/1.1", 405),
    ],
)
def test_what_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse(head)
    assert caught.value.status == status


@pytest.mark.parametrize("received", [b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n"])
def test_a_head_may_still_be_incomplete(received: bytes) -> None:
    assert head_of(received) is None


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
def test_where_a_head_ends(end: bytes) -> None:
    """Section 2.2: a lone LF ends a line, empty lines may come before."""
    assert head_of(b"\r\n\nGET / HTTP/1.1" + end + b"body\r\n\r\n") == b"GET / HTTP/1.1"


def test_a_head_has_its_limit_whether_it_ends_or_not() -> None:
    line = b"GET / HTTP/1.1\r\n"
    longest = line + b"A:" + b"b" * (HEAD_MAX - len(line) - 2)
    assert head_of(longest) is None
    assert head_of(longest + b"\r\n\r\n") == longest
    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(Refused) as caught:
            head_of(longest + b"b" + end)
        assert caught.value.status == 431


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(received: bytes) -> None:
    with suppress(Refused):
        head = head_of(received)
        assert head is None or parse(head).path.startswith("/")


WORDS = b"GET HEAD / /metrics ? peers=9 & % HTTP/1.1 : Accept Host http:".split()
pieces = st.sampled_from([*WORDS, b" ", b"\r", b"\n", b"\r\n", b"\t", b"\0", b"\xff"])


@given(st.lists(pieces, max_size=25))
def test_any_pieces_are_a_request_or_refused(found: list[bytes]) -> None:
    """Nearer to the truth, so deeper; and no value of a header can end a line."""
    try:
        request = parse(b"".join(found))
    except Refused:
        return
    assert request.path.startswith("/")
    told = "".join([*request.headers, *request.headers.values()])
    assert not re.search("[\r\n\x00]", told)


def test_a_long_line_of_blanks_is_read_quickly() -> None:
    """Nothing here looks back and forth: this would take for ever."""
    with pytest.raises(Refused):
        parse(b"GET / HTTP/1.1\r\nA:" + b" \t" * (HEAD_MAX // 2) + b"\x00")


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> BytesIO:
        return BytesIO(self._data)


def read(data: bytes, method: str = "GET") -> HTTPResponse:
    """As the standard library's client understands it."""
    response = HTTPResponse(cast(Any, _Socket(data)), method=method)
    response.begin()
    return response


@given(st.binary(max_size=50), st.sampled_from(HTTPStatus), st.integers(0, 2**32))
def test_what_is_written_can_be_read(body: bytes, status: HTTPStatus, now: int) -> None:
    if status < 200 or status in (204, 304):  # these have no body, and are not used
        return
    answer = read(encode(Response(body, status, "text/x"), now + 0.5))
    assert (answer.status, answer.read()) == (status, body)
    assert answer.headers["Content-Type"] == "text/x"
    assert answer.headers["Connection"] == "close"
    date = answer.headers["Date"]
    assert parsedate_to_datetime(date).timestamp() == now


def test_head_has_the_headers_of_get_and_no_body() -> None:
    page = Response(b"twelve bytes")
    whole, head = encode(page, 0.0), encode(page, 0.0, body=False)
    assert whole == head + page.body
    assert read(head, "HEAD").headers["Content-Length"] == "12"


def test_who_may_not_write_is_told_what_he_may() -> None:
    answer = read(encode(refusal(HTTPStatus.METHOD_NOT_ALLOWED), 0.0))
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.read() == b"405 method not allowed\n"
