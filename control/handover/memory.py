"""Where the document lies: memory that outlives the daemon (memfd_create(2)).

A daemon can be killed while it writes. So there are two places, a head that says which
of them counts, and a checksum: the head is written last, in one piece of 20 bytes.
"""

from __future__ import annotations

import os
import struct
import zlib

from flannelette.control.handover.document import HandoverError

_HEAD = struct.Struct("<QQI")
"""Where the text begins, its length in bytes, its CRC-32."""
MOST = 1 << 26
"""Bytes of a text: more than the routes of any cluster take."""


class Memory:
    """A text in memory, behind a descriptor that may be passed on."""

    def __init__(self, fd: int) -> None:
        """The descriptor is the memory's from here on."""
        self.fd = fd

    @classmethod
    def new(cls) -> Memory:
        """Raises OSError."""
        return cls(os.memfd_create("flannelette", os.MFD_CLOEXEC))

    def close(self) -> None:
        os.close(self.fd)

    def write(self, text: bytes) -> None:
        """Whoever reads finds the text before, or this one. Raises OSError."""
        at, length, _ = self._head() or (_HEAD.size, 0, 0)
        fits_before = at - _HEAD.size >= len(text)
        place = _HEAD.size if fits_before else at + length
        view = memoryview(text)
        while view:
            done = os.pwrite(self.fd, view, place + len(text) - len(view))
            view = view[done:]
        os.pwrite(self.fd, _HEAD.pack(place, len(text), zlib.crc32(text)), 0)
        if fits_before:
            os.ftruncate(self.fd, place + len(text))

    def read(self) -> bytes:
        """The text. Raises HandoverError where there is none, OSError."""
        head = self._head()
        if head is None or head[1] > MOST:
            raise HandoverError("its document has no head")
        at, length, checksum = head
        try:
            text = os.pread(self.fd, length, at)
        except OverflowError:
            text = b""
        if len(text) != length or zlib.crc32(text) != checksum:
            raise HandoverError("its document is not whole")
        return text

    def _head(self) -> tuple[int, int, int] | None:
        head = os.pread(self.fd, _HEAD.size, 0)
        return _HEAD.unpack(head) if len(head) == _HEAD.size else None
