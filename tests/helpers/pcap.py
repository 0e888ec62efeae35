"""libpcap's own BPF machine and compiler: what ours is compared with."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterable

import pytest

Instruction = tuple[int, int, int, int]
"""code, jt, jf, k."""


class _Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint), ("code", ctypes.POINTER(_Instruction))]


def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("pcap")
    if name is None:
        pytest.skip("libpcap is not here")
    library = ctypes.CDLL(name)
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_compile.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint,
    )
    library.pcap_close.argtypes = (ctypes.c_void_p,)
    library.bpf_filter.restype = ctypes.c_uint
    return library


def _array(program: Iterable[Instruction]) -> ctypes.Array[_Instruction]:
    made = [_Instruction(*each) for each in program]
    return (_Instruction * len(made))(*made)


def compiled(text: str) -> tuple[Instruction, ...]:
    """As tcpdump would, for packets without a link layer's header."""
    library, program = _library(), _Program()
    handle = library.pcap_open_dead(12, 65535)  # DLT_RAW
    try:
        failed = library.pcap_compile(handle, program, text.encode(), 1, 0xFFFFFFFF)
        assert not failed, text
        found = [program.code[i] for i in range(program.length)]
        return tuple((each.code, each.jt, each.jf, each.k) for each in found)
    finally:
        library.pcap_freecode(ctypes.byref(program))
        library.pcap_close(handle)


def takes(program: Iterable[Instruction], data: bytes) -> bool:
    """Does libpcap's machine let the packet pass?"""
    size = len(data)
    return bool(_library().bpf_filter(_array(program), data, size, size))


def valid(program: Iterable[Instruction]) -> bool:
    """Would libpcap's machine run it?"""
    code = _array(program)
    return bool(_library().bpf_validate(code, len(code)))
