"""What a process may after it has given up the rest: asked of the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control import config
from flannelette.control.errors import ConfigError
from flannelette.control.rules.iptables import IptablesBackend
from flannelette.control.systemd import privileges
from tests.helpers.capabilities import NET_ADMIN, NET_RAW, Rights, rights
from tests.helpers.ns import NOBODY

ALL = next(iter(rights().values())).permitted
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not ALL & NET_ADMIN, reason="needs rights to give up"
)
needs_open_files = pytest.mark.skipif(
    os.geteuid() == 0
    and subprocess.call(
        [*NOBODY, sys.executable, "-c", "import flannelette.control"],
        stderr=subprocess.DEVNULL,
    )
    != 0,
    reason="others may not read our files",
)

SHOW = """
import subprocess, threading
from pathlib import Path
from flannelette.control.systemd import privileges
from flannelette.control.systemd.privileges import Capability
def show():
    print(Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text())
def show_all():
    show()
    thread = threading.Thread(target=show)
    thread.start()
    thread.join()
    print(subprocess.check_output(["cat", "/proc/self/status"], text=True))
"""


def shown(program: str, prefix: Sequence[str] = ()) -> list[Rights]:
    """What a process of its own shows."""
    command = [*prefix, sys.executable, "-c", SHOW + program]
    done = subprocess.run(command, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return [Rights.parse("Name:" + part) for part in done.stdout.split("Name:")[1:]]


@needs_root
@pytest.mark.parametrize(
    ("wanted", "mask"),
    [
        ("", 0),
        ("Capability.NET_ADMIN", NET_ADMIN),
        ("Capability.NET_ADMIN, Capability.NET_RAW", NET_ADMIN | NET_RAW),
    ],
    ids=["none", "admin", "admin-raw"],
)
def test_all_others_are_gone(wanted: str, mask: int) -> None:
    process, thread, child = shown(f"privileges.keep_only([{wanted}])\nshow_all()")
    assert process == thread == Rights.only(mask)
    # Root's programs get them by their owner's name, and then no ambient ones.
    assert replace(child, ambient=mask) == Rights.only(mask)


@needs_root
def test_what_is_not_there_does_not_come() -> None:
    prefix = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    wanted = "Capability.NET_ADMIN, Capability.NET_RAW"
    process, *_ = shown(f"privileges.keep_only([{wanted}])\nshow_all()", prefix)
    assert process == Rights.only(NET_ADMIN)


@needs_root
def test_without_the_right_to_limit_others() -> None:
    """As in a container without CAP_SETPCAP: children gain nothing all the same."""
    prefix = ["setpriv", "--bounding-set=-setpcap", "--inh-caps=-setpcap"]
    keep = "privileges.keep_only([Capability.NET_ADMIN])\nshow_all()"
    process, thread, child = shown(keep, prefix)
    assert process.bounding == ALL & ~(1 << 8)
    for one in (process, thread, child):
        assert (one.permitted, one.effective) == (NET_ADMIN, NET_ADMIN)


@needs_root
@needs_open_files
def test_of_another_user_the_ambient_ones_reach_children() -> None:
    """As systemd starts a service with User= and AmbientCapabilities=."""
    rights = "+net_admin,+net_raw"
    prefix = [*NOBODY, f"--inh-caps={rights}", f"--ambient-caps={rights}"]
    program = "privileges.keep_only([Capability.NET_ADMIN])\nshow_all()"
    process, thread, child = shown(program, prefix)
    for one in (process, thread, child):
        assert replace(one, bounding=NET_ADMIN) == Rights.only(NET_ADMIN)


@needs_open_files
def test_who_has_no_rights_gives_up_none() -> None:
    program = "privileges.keep_only([Capability.NET_ADMIN])\nshow_all()"
    prefix = NOBODY if os.geteuid() == 0 else []
    for one in shown(program, prefix):
        assert (one.permitted, one.ambient, one.no_new_privs) == (0, 0, True)


@needs_root
def test_the_program_in_a_private_directory_can_still_be_read(tmp_path: Path) -> None:
    """As when a developer starts it from a private home."""
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    (private / "package").mkdir()
    os.chown(private, 65534, 65534)
    program = f"""
from flannelette.control import config
privileges._own_directories = lambda: [Path("/usr"), Path("{private}/package")]
privileges.give_up(config.parse([], {{}}))
show_all()
assert list(Path("{private}").iterdir())
"""
    raw = NET_RAW if IptablesBackend(4).raw else 0
    for one in shown(program):
        assert one.permitted == NET_ADMIN | raw | 1 << 2


@needs_root
def test_a_directory_that_is_not_there_hides_nothing(tmp_path: Path) -> None:
    program = f"""
from flannelette.control import config
absent = [Path("{tmp_path}/absent"), Path("{__file__}/package")]
privileges._own_directories = lambda: absent
privileges.give_up(config.parse([], {{}}))
show()
"""
    raw = NET_RAW if IptablesBackend(4).raw else 0
    assert shown(program) == [Rights.only(NET_ADMIN | raw)]


@needs_root
@pytest.mark.parametrize(("port", "right"), [(80, 1 << 10), (1024, 0), (0, 0)])
def test_a_low_port_for_health_checks(port: int, right: int) -> None:
    program = f"""
from flannelette.control import config
privileges.give_up(config.parse(["--healthz-port={port}"], {{}}))
show()
"""
    raw = NET_RAW if IptablesBackend(4).raw else 0
    assert shown(program) == [Rights.only(NET_ADMIN | raw | right)]


@needs_root
def test_nothing_is_given_up_unless_it_may_be() -> None:
    program = """
from flannelette.control import config
privileges.give_up(config.parse(["--keep-privileges"], {}))
show_all()
"""
    for one in shown(program):
        assert (one.permitted, one.bounding, one.no_new_privs) == (ALL, ALL, False)


@pytest.mark.parametrize(
    ("target", "raw"),
    [
        ("xtables-nft-multi", False),
        ("xtables-legacy-multi", True),
        ("iptables-wrapper", True),
        (None, False),
    ],
)
def test_who_needs_raw_sockets(
    target: str | None, raw: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper chooses when it is called, so it may need them."""
    if target is not None:
        (tmp_path / target).touch(mode=0o755)
        (tmp_path / "iptables-restore").symlink_to(target)
    monkeypatch.setattr(
        "flannelette.control.rules.iptables.find",
        lambda *names: next(
            (str(path) for name in names if (path := tmp_path / name).exists()), None
        ),
    )
    assert IptablesBackend(4).raw is raw


@pytest.mark.parametrize(
    ("number", "path", "flags", "helps"),
    [
        (errno.EACCES, "/etc/etcd/key.pem", [], True),
        (errno.EACCES, "/etc/etcd/key.pem", ["--keep-privileges"], False),
        (errno.EACCES, None, [], True),  # a socket
        (errno.EPERM, None, [], False),
        (errno.ENOENT, "/etc/etcd/key.pem", [], False),
    ],
)
def test_whom_the_note_helps(
    number: int,
    path: str | None,
    flags: list[str],
    helps: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    error = OSError(number, os.strerror(number), path)
    wrapped = ConfigError("--etcd-keyfile")
    wrapped.__context__ = error
    for each in (error, wrapped):
        privileges.explain(each, config.parse(flags, {}))
        assert len(getattr(each, "__notes__", ())) == helps
