"""What the operator socket's `watch` speaks: watching.py answers, observer.py asks.

The request is `watch` and a JSON object (Request). The answer is a line with a document
(Own), and then rounds: one chunk for each ring that has something, a header (HEADER)
and whole records (events.py).
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

HEADER = struct.Struct("<BBHIQ")
"""Of a chunk: queue, direction, 1 if the round has more chunks, bytes of records, and
events that this queue and direction lost so far."""

U8 = Annotated[int, Meta(ge=0, le=(1 << 8) - 1)]
U16 = Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be watched; as dataplane.forwarder.Watch."""

    filter: list[tuple[U16, U8, U8, U32]]
    snap: U32
    kinds: U32


class Own(msgspec.Struct):
    """What an observer must know of the node to make sense of its events."""

    device: str
    """The TUN."""
    mtu: int
    address: str
    """Of the external interface."""
    address6: str | None
    port: int
    vxlan: bool
    """Do datagrams begin with VXLAN's header?"""
