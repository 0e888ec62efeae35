"""What a service manager gives, and is given."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannelette.control.handover import fdstore
from flannelette.control.handover.fdstore import FdStore, inherited
from flannelette.control.systemd.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.bind(os.fspath(tmp_path / "notify"))
        it.settimeout(5)
        yield it


def notifier_of(manager: socket.socket) -> Notifier:
    return Notifier(manager.getsockname())


def heard(manager: socket.socket) -> tuple[list[str], list[int]]:
    message, fds, _, _ = socket.recv_fds(manager, 4096, 8)
    return message.decode().split("\n"), fds


def test_each_is_stored_once_under_its_name(manager: socket.socket) -> None:
    store = FdStore(notifier_of(manager), ["tun-0"])
    ours, other = os.pipe()
    store.put({"tun-0": ours, "rx-0": other})
    store.put({"rx-0": other})
    lines, fds = heard(manager)
    assert lines == ["FDSTORE=1", "FDNAME=rx-0", "FDPOLL=0"]
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(other).st_ino]
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1)
    for fd in (ours, other, *fds):
        os.close(fd)


def test_what_another_may_have_stored_is_replaced(manager: socket.socket) -> None:
    store = FdStore(notifier_of(manager), ["tun-0"], certain=False)
    ours, other = os.pipe()
    store.put({"tun-0": ours})
    assert heard(manager)[0] == ["FDSTOREREMOVE=1", "FDNAME=tun-0"]
    lines, (fd,) = heard(manager)
    assert lines[:2] == ["FDSTORE=1", "FDNAME=tun-0"]
    for each in (ours, other, fd):
        os.close(each)


def test_removing_waits_until_it_was_read(manager: socket.socket) -> None:
    store = FdStore(notifier_of(manager), ["tun-0", "tun-1", "rx-0"])
    remover = threading.Thread(target=store.remove, args=("tun",))
    remover.start()
    names = {heard(manager)[0][1] for _ in range(2)}
    assert names == {"FDNAME=tun-0", "FDNAME=tun-1"}
    lines, (barrier,) = heard(manager)
    assert lines == ["BARRIER=1"]
    assert remover.is_alive()
    os.close(barrier)
    remover.join(5)
    assert not remover.is_alive()
    store.remove("tun")  # nothing is left: nobody is asked, or waited for
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1)


def test_a_manager_that_does_not_read_is_not_waited_for(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fdstore, "BARRIER", 0.05)
    FdStore(notifier_of(manager), ["tun-0"]).remove()


GIVEN = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "tun-0:rx-0"}


def given(**environ: str) -> list[tuple[str, int]]:
    """What is inherited with these variables."""
    left = {"OTHER": "1", **environ}
    found = inherited(left)
    assert left == {"OTHER": "1"}, "no child must see them"
    return found


def test_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    first = 900
    os.dup2(read, first)
    os.dup2(write, first + 1)
    monkeypatch.setattr(fdstore, "FIRST", first)
    pid = str(os.getpid())
    assert given() == []
    assert given(LISTEN_PID="1", **GIVEN) == []
    assert given(LISTEN_PID=pid, LISTEN_FDS="-1") == []
    both = [("tun-0", first), ("rx-0", first + 1)]
    assert given(LISTEN_PID=pid, **GIVEN) == both
    assert not os.get_inheritable(first)
    more = GIVEN | {"LISTEN_FDS": "9999999999"}
    assert given(LISTEN_PID=pid, **more) == both
    nameless = given(LISTEN_PID=pid, LISTEN_FDS="2")
    assert nameless == [("", first), ("", first + 1)]
    for fd in (read, write, first, first + 1):
        os.close(fd)
