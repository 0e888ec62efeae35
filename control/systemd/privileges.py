"""The rights that the daemon keeps: CAP_NET_ADMIN, and CAP_NET_RAW where needed.

CAP_NET_RAW is for iptables-legacy. --healthz-port=80 keeps CAP_NET_BIND_SERVICE, too.

Linux gives each thread five sets of capabilities (capabilities(7)). Effective is what
it may now, permitted what it may make effective. A program that it starts gets the
inheritable and ambient ones, or, started by root, whatever the bounding set allows.
A thread begins with those of the thread that starts it, and nobody can take them from
another: so we give up before there is a second thread, and all that come later, of
grpc and of the C fast path, never had more.

What needs more is done before: loading the program that steers a TUN's queues
(tun/steering.py). What is not given up is root's name: files of root are ours, those
of others are not.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sysconfig
from collections.abc import Collection, Iterable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from flannelette.control.config import Config
from flannelette.control.errors import ConfigError
from flannelette.control.rules.iptables import PROGRAMS, IptablesBackend
from flannelette.tun import steering

log = logging.getLogger(__name__)

_UNPRIVILEGED = 1024
"""The first port that anybody may listen at."""
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_VERSION_3 = 0x20080522
"""Of the structures: 64 capabilities in two words (linux/capability.h)."""


class Capability(IntEnum):
    """By number, as linux/capability.h has them."""

    DAC_READ_SEARCH = 2
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def give_up(config: Config) -> None:
    """Keep what a daemon with these settings needs. To be called before there is a
    second thread. Raises OSError."""
    if config.keep_privileges:
        return
    if config.queues > 1:
        with suppress(OSError):  # said when there is a TUN to steer
            steering.keep_loaded()
    wanted = {Capability.NET_ADMIN}
    if any(IptablesBackend(version).raw for version in PROGRAMS):
        wanted.add(Capability.NET_RAW)
    if 0 < config.healthz_port < _UNPRIVILEGED:
        wanted.add(Capability.NET_BIND_SERVICE)
    if hidden := _hidden(_own_directories(), wanted):
        wanted.add(Capability.DAC_READ_SEARCH)
        log.warning(
            "CAP_DAC_READ_SEARCH is kept, for the program lies in a directory that not "
            "everybody may read: path=%s",
            hidden,
        )
    keep_only(wanted)


def explain(error: ConfigError | OSError, config: Config) -> None:
    """Add a note where it may have been for what was given up."""
    cause = error if isinstance(error, OSError) else error.__context__
    if config.keep_privileges or not isinstance(cause, OSError):
        return
    if cause.errno != errno.EACCES:
        return
    if cause.filename is None:
        error.add_note(
            "a port below 1024 needs CAP_NET_BIND_SERVICE, which was given up: choose "
            "another, or start with --keep-privileges"
        )
    elif os.geteuid() == 0:
        error.add_note(
            "root's right to everybody's files was given up: give this one to root, "
            "or start with --keep-privileges"
        )


def keep_only(wanted: Collection[Capability]) -> None:
    """Give up all capabilities but those, and the way to get any back: for this thread,
    and for the threads and programs that it will start. Raises OSError.

    Those that are wanted and not there do not come. Without CAP_SETPCAP the bounding
    set stays as it is, and means nothing: no_new_privs forbids to gain by starting a
    program what its parent had not."""
    _drop_bounding(wanted)
    permitted = _permitted()
    kept = permitted & _mask(wanted)
    _capset(kept, kept, kept)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in wanted:
        if kept & _mask([capability]):
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding(wanted: Collection[Capability]) -> None:
    """Raises OSError."""
    try:
        for number in range(64):
            if number not in wanted and _prctl(_PR_CAPBSET_READ, number):
                _prctl(_PR_CAPBSET_DROP, number)
    except OSError as error:
        # EINVAL: the kernel knows no more.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise


def _own_directories() -> list[Path]:
    """What Python still imports from while we run."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")]
    return [Path(__file__).parents[2], *map(Path, paths)]


def _hidden(directories: Iterable[Path], wanted: Collection[Capability]) -> Path | None:
    """The first directory that could not be read any more. Raises OSError."""
    permitted = _permitted()
    _capset(permitted & _mask(wanted), permitted, 0)
    try:
        return next((path for path in directories if not _readable(path)), None)
    finally:
        _capset(permitted, permitted, 0)


def _readable(directory: Path) -> bool:
    """Also what is not there, as a site-packages where nobody has installed anything,
    and what is no directory, as an archive to import from. Raises OSError."""
    try:
        with os.scandir(directory):
            os.stat(directory / "..")
    except PermissionError:
        return False
    except (FileNotFoundError, NotADirectoryError):
        pass
    return True


# ---- the kernel's calls --------------------------------------------------------------


def _mask(capabilities: Iterable[Capability]) -> int:
    return sum(1 << capability for capability in capabilities)


def _permitted() -> int:
    header, words = _Header(_VERSION_3, 0), (_Word * 2)()
    _check(_libc.capget(ctypes.byref(header), words))
    return int(words[1].permitted) << 32 | int(words[0].permitted)


def _capset(effective: int, permitted: int, inheritable: int) -> None:
    header, words = _Header(_VERSION_3, 0), (_Word * 2)()
    for number, word in enumerate(words):
        sets = (effective, permitted, inheritable)
        parts = (each >> 32 * number & 0xFFFFFFFF for each in sets)
        word.effective, word.permitted, word.inheritable = parts
    _check(_libc.capset(ctypes.byref(header), words))


def _prctl(option: int, *arguments: int) -> int:
    """Raises OSError."""
    four = [*arguments, 0, 0, 0, 0][:4]
    return _check(_libc.prctl(option, *map(ctypes.c_ulong, four)))


def _check(result: int) -> int:
    if result < 0:
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        error.add_note("while giving up capabilities")
        raise error
    return result
