"""As much HTTP/1.1 as health checks and Prometheus need (RFC 9112). Pure.

GET and HEAD, without a body, one request for a connection.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

HEAD_MAX = 16384
"""Bytes of a request's line and headers."""
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(r"([!-~]+) ([!-~]+) HTTP/([0-9]\.[0-9])")
_FIELD = re.compile(r"([-!#$%&'*+.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)")
_AUTHORITY = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
TEXT = "text/plain; charset=utf-8"


class Refused(Exception):
    """There is no answer but this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(f"{status.value} {status.phrase}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    """As it was sent, escapes and all; it begins with a slash."""
    body_wanted: bool = True
    """GET; HEAD wants none."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Behind the question mark; the last of several with one name."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; several of one name are joined by commas."""


@dataclass(frozen=True, slots=True)
class Response:
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


def head_of(received: bytes) -> bytes | None:
    """The request's head in what was received so far; None while it is incomplete.

    Empty lines before it do not count, and those behind a lone LF do (section 2.2).
    Raises Refused if it is too long."""
    received = received.lstrip(b"\r\n")
    end = _END.search(received)
    if (end.start() if end else len(received)) > HEAD_MAX:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return received[: end.start()] if end else None


def parse(head: bytes) -> Request:
    """A request's line and headers. Raises Refused."""
    first, *rest = re.split("\r?\n", head.decode("latin-1"))
    line = _LINE.fullmatch(first)
    if line is None:
        raise Refused(HTTPStatus.BAD_REQUEST)
    method, target, version = line.groups()
    if not version.startswith("1."):
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if method not in ("GET", "HEAD"):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
    # Section 3.2.2: to a server, the absolute form is the same as the other.
    path, _, query = _AUTHORITY.sub("", target, count=1).partition("?")
    if not path.startswith("/"):
        raise Refused(HTTPStatus.BAD_REQUEST)
    return Request(path, method == "GET", _parameters(query), _headers(rest))


def _parameters(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True))


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in lines:
        found = _FIELD.fullmatch(text)
        if found is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        name, value = found[1].lower(), found[2].strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def refusal(status: HTTPStatus) -> Response:
    """What Go's server says of it, more or less (Z3)."""
    return Response(f"{status.value} {status.phrase.lower()}\n".encode(), status)


def encode(response: Response, now: float, body: bool = True) -> bytes:
    """The whole answer, at a time in seconds since 1970."""
    status = response.status
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Date: {_date(now)}",
        f"Content-Length: {len(response.body)}",
        f"Content-Type: {response.content_type}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + response.body if body else head


def _date(now: float) -> str:
    """RFC 9110 section 5.6.7, whatever the locale."""
    at = time.gmtime(now)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {time.strftime('%T', at)} GMT"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
