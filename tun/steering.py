"""Which queue of a multi-queue TUN takes a packet: for one flow always the same.

The kernel's own choice follows the queue that last wrote the other direction of the
flow, and is forgotten after seconds of silence. Each time it changes, packets in the
new queue may overtake those that still wait in the old one. So we load a program for
the kernel to run on each packet (TUNSETSTEERINGEBPF, Linux 4.16), which depends on
nothing but the packet.

It hashes the addresses, and the ports too if no fragment of the flow can exist, for
fragments have no ports: that is, for TCP with "don't fragment" set. UDP between two
addresses is one flow, as it is to the receive-side scaling of NICs by default.

The kernel takes 16 bits of the program's result, modulo the queues that are attached;
the program sees the IP header at offset 0 (drivers/net/tun.c: tun_ebpf_select_queue).
A load beyond the packet ends the program with 0: queue 0.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct

_TUNSETSTEERINGEBPF = 0x800454E0
_BPF_PROG_LOAD = 5
_BPF_PROG_TYPE_SOCKET_FILTER = 1
_SYSCALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""The number of bpf(2), which libc does not wrap, by machine: 64-bit little-endian."""

_INSTRUCTION = struct.Struct("<BBhI")
_LOAD_ATTR = struct.Struct("<IIQQ")
"""union bpf_attr as BPF_PROG_LOAD has it, up to the licence; the rest may be absent."""


_kept: int | None = None
"""The program's descriptor, for as long as the process lives."""


def keep_loaded() -> None:
    """Load the program now, while we may, for every steer() to come: a process that
    gives up its capabilities opens TUN devices later. Raises OSError, as steer()."""
    global _kept
    if _kept is None:
        _kept = _load(PROGRAM)


def steer(fd: int) -> None:
    """Give the TUN device behind fd, and so all its queues, the program.

    Raises OSError: EPERM without CAP_BPF (or CAP_SYS_ADMIN before Linux 5.8), where
    bpf(2) is privileged; ENOSYS, EINVAL where there is no such thing."""
    program = _load(PROGRAM) if _kept is None else _kept
    try:
        fcntl.ioctl(fd, _TUNSETSTEERINGEBPF, struct.pack("i", program))
    finally:
        if program != _kept:
            os.close(program)  # the device has its own reference


def _load(program: bytes) -> int:
    """Raises OSError."""
    number = _SYSCALLS.get(platform.machine())
    if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    code, licence = ctypes.create_string_buffer(program), ctypes.c_char_p(b"Apache-2.0")
    attr = _LOAD_ATTR.pack(
        _BPF_PROG_TYPE_SOCKET_FILTER,
        len(program) // _INSTRUCTION.size,
        ctypes.addressof(code),
        ctypes.cast(licence, ctypes.c_void_p).value,
    )
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    fd: int = syscall(
        ctypes.c_long(number),
        ctypes.c_long(_BPF_PROG_LOAD),
        attr,
        ctypes.c_long(len(attr)),
    )
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd  # close-on-exec, as all that bpf(2) makes


# ---- the program ---------------------------------------------------------------------
# linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst. w0 is the lower
# half of register 0; a packet load leaves its value in w0, in host order, and spoils
# registers 1 to 5.

_PACKET = 6  # where a packet load looks for what the program was called with
_HASH = 7
_HEADER = 8
_MIX = 0x9E3779B1  # a prime near 2**32 / phi (Knuth, TAOCP vol. 3, section 6.4)


def _op(
    code: int, into: int = 0, source: int = 0, jump: int = 0, value: int = 0
) -> bytes:
    return _INSTRUCTION.pack(code, source << 4 | into, jump, value)


def _load_word(offset: int) -> bytes:
    return _op(0x20, value=offset)  # BPF_LD | BPF_ABS | BPF_W


def _load_half(offset: int) -> bytes:
    return _op(0x28, value=offset)  # BPF_LD | BPF_ABS | BPF_H


def _load_byte(offset: int) -> bytes:
    return _op(0x30, value=offset)  # BPF_LD | BPF_ABS | BPF_B


def _load_word_at(register: int) -> bytes:
    return _op(0x40, source=register)  # BPF_LD | BPF_IND | BPF_W


def _jump_unless(value: int, over: int) -> bytes:
    # BPF_JMP | BPF_JNE, on all of register 0: writing w0 has cleared the upper half,
    # and BPF_JMP32 is as new as Linux 5.1.
    return _op(0x55, jump=over, value=value)


def _move(into: int, source: int) -> bytes:
    return _op(0xBC, into, source)  # BPF_ALU | BPF_MOV | BPF_X


def _xor(into: int, source: int) -> bytes:
    return _op(0xAC, into, source)  # BPF_ALU | BPF_XOR | BPF_X


def _and(into: int, value: int) -> bytes:
    return _op(0x54, into, value=value)  # BPF_ALU | BPF_AND


def _shift_left(into: int, bits: int) -> bytes:
    return _op(0x64, into, value=bits)  # BPF_ALU | BPF_LSH


def _shift_right(into: int, bits: int) -> bytes:
    return _op(0x74, into, value=bits)  # BPF_ALU | BPF_RSH


def _multiply(into: int, value: int) -> bytes:
    return _op(0x24, into, value=value)  # BPF_ALU | BPF_MUL


PROGRAM = b"".join(
    [
        _op(0xBF, _PACKET, 1),  # all 64 bits: it is a pointer
        _load_word(12),  # the source address
        _move(_HASH, 0),
        _multiply(_HASH, _MIX),
        _load_word(16),  # the destination address
        _xor(_HASH, 0),
        _multiply(_HASH, _MIX),
        _load_byte(9),  # the protocol
        _jump_unless(6, over=9),  # TCP
        _load_half(6),  # flags and fragment offset
        _and(0, 0x7FFF),  # without the reserved flag
        _jump_unless(0x4000, over=6),  # "don't fragment", and no fragment
        _load_byte(0),  # version, and header length in words
        _and(0, 0x0F),
        _shift_left(0, 2),
        _move(_HEADER, 0),
        _load_word_at(_HEADER),  # both ports
        _xor(_HASH, 0),
        # The two jumps end here. Few bits may differ between flows, any of them (the
        # ports that a client is given are all even or all odd): fold the upper half
        # into the lower, and take what a multiplication carries up from it.
        _move(0, _HASH),
        _shift_right(0, 16),
        _xor(0, _HASH),
        _multiply(0, _MIX),
        _shift_right(0, 16),
        _op(0x95),  # return w0
    ]
)
