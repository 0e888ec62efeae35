"""The extension backend's commands, run for real (flannel-behaviour.md 7.5)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from flannelette.control import commands
from flannelette.control.backends.extension import ExtensionBackend
from flannelette.control.errors import HostError
from flannelette.control.extensioncarrier import ExtensionCarrier
from flannelette.control.interface import External
from flannelette.control.lease import Lease, LeaseAttrs
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.plan import Plan

ME = IPv4Address("192.0.2.1")
OWN = LeaseAttrs(ME, backend_type="extension")
NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')


class Commands:
    """What commands have been run, as they wrote it down themselves."""

    def __init__(self, directory: Path) -> None:
        self._lines = directory / "lines"
        self._script = directory / "record"
        self._script.write_text(
            "#!/bin/sh\nname=$1; shift\ndata=$(tr '\\n' '|')\n"
            'echo "$name $NETWORK $SUBNET $PUBLIC_IP <$data> $*" '
            f">>{self._lines}\n[ ! -e {directory}/$name.fails ] || exit 1\n"
        )
        self._script.chmod(0o755)

    def named(self, name: str, *arguments: str) -> str:
        return " ".join([str(self._script), name, *arguments])

    def taken(self) -> list[str]:
        """Since the last time, without blanks in a row."""
        try:
            text = self._lines.read_text()
        except FileNotFoundError:
            return []
        self._lines.unlink()
        return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def carrier(
    pre_startup: str = "",
    post_startup: str = "",
    subnet_add: str = "",
    subnet_remove: str = "",
) -> ExtensionCarrier:
    backend = ExtensionBackend(pre_startup, post_startup, subnet_add, subnet_remove)
    plan = Plan(External("eth0", 2, 1500, ME, ME), NETWORK, backend)
    return ExtensionCarrier(plan, backend)


def recorder(run: Commands) -> ExtensionCarrier:
    return carrier(subnet_add=run.named("add"), subnet_remove=run.named("remove"))


def tell(it: ExtensionCarrier, *numbers: int, data: str | None = None) -> None:
    leases = (
        Lease(
            IPv4Network(f"10.5.{number}.0/24"),
            LeaseAttrs(IPv4Address(f"192.0.2.{number}"), None, "extension", data),
        )
        for number in numbers
    )
    for lease in leases:
        it.apply([], ExtensionBackend().routes(lease))


async def test_what_the_first_command_says_is_in_the_lease(run: Commands) -> None:
    prepared = await carrier(pre_startup="echo  some   thing").prepare(OWN)
    assert prepared.backend_data == '"some thing"'
    assert (await carrier(pre_startup="true").prepare(OWN)).backend_data == '""'
    assert (await carrier(pre_startup=" ").prepare(OWN)).backend_data is None


async def test_the_second_is_told_of_the_lease(run: Commands) -> None:
    it = carrier(post_startup=run.named("post", "$SUBNET", "'$PUBLIC_IP'"))
    await it.start(Lease(IPv4Network("10.5.1.0/24"), OWN))
    assert run.taken() == [
        "post 10.5.0.0/16 10.5.1.0/24 192.0.2.1 <|> 10.5.1.0/24 '192.0.2.1'"
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "Command: exit 1"),
        ("/no/such/program", "No such file or directory: '/no/such/program'"),
        ("ls /no/such/file", "Command: exit 2: ls: cannot access '/no/such/file'"),
    ],
)
async def test_at_startup_a_failure_is_fatal(command: str, reason: str) -> None:
    """7.5."""
    lease = Lease(IPv4Network("10.5.1.0/24"), OWN)
    for starting in (
        carrier(pre_startup=command).prepare(OWN),
        carrier(post_startup=command).start(lease),
    ):
        with pytest.raises((HostError, OSError), match=reason):
            await starting


async def test_more_than_a_lease_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "OUTPUT_MOST", 10)
    data = (await carrier(pre_startup="printf \\n1234567\\n").prepare(OWN)).backend_data
    assert data == '"1234567"'
    for much in ("echo 1234567890", "printf \\n1234567890", "printf 123456789\\nA"):
        with pytest.raises(HostError, match="more than a lease can hold"):
            await carrier(pre_startup=much).prepare(OWN)


async def test_peers_come_change_and_go(run: Commands) -> None:
    """Each with what it was told by; what is taken back is in the same words."""
    it = recorder(run)
    assert await it.reconcile() == []
    tell(it, 2, 3, data='"one"')
    assert it.due.is_set()
    assert [str(route.peer) for route in it.routes] == ["192.0.2.2", "192.0.2.3"]
    assert await it.reconcile() == []
    add, remove = (
        "add 10.5.{0}.0/24 192.0.2.{0} <{1}|>",
        "remove 10.5.{0}.0/24 192.0.2.{0} <{1}|>",
    )
    assert run.taken() == [add.format(2, "one"), add.format(3, "one")]

    tell(it, 2, 3, data='"one"')  # as when they are renewed
    await it.reconcile()
    assert run.taken() == []

    tell(it, 3, data='"two"')
    await it.reconcile()
    assert run.taken() == [remove.format(3, "one"), add.format(3, "two")]

    tell(it, 4)
    it.apply([IPv4Network("10.5.2.0/24"), IPv4Network("10.5.3.0/24")], {})
    await it.reconcile()
    assert run.taken() == [
        remove.format(2, "one"),
        remove.format(3, "two"),
        add.format(4, ""),
    ]


async def test_who_came_and_went_meanwhile_is_nobody(run: Commands) -> None:
    it = recorder(run)
    tell(it, 2)
    it.apply([IPv4Network("10.5.2.0/24")], {})
    await it.reconcile()
    assert run.taken() == []


async def test_what_changes_while_a_command_runs_is_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = carrier(subnet_add="add $SUBNET", subnet_remove="remove $SUBNET")
    ran = []

    async def run(command: Sequence[str], environ: Mapping[str, str], text: str) -> str:
        ran.append(" ".join([*command, text.strip()]))
        if len(ran) == 1:
            tell(it, 2, data='"new"')
            it.apply([IPv4Network("10.5.3.0/24")], {})
        if len(ran) == 3:
            it.apply([IPv4Network("10.5.2.0/24")], {})
        return ""

    monkeypatch.setattr(commands, "run", run)
    tell(it, 2, 3, data='"old"')
    await it.reconcile()
    assert ran == [
        "add 10.5.2.0/24 old",
        "remove 10.5.2.0/24 old",
        "add 10.5.2.0/24 new",
        "remove 10.5.2.0/24 new",
    ]


async def test_no_command_is_told_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flanneld tells all; on the command line as in the environment."""
    monkeypatch.setenv("FLANNELD_ETCD_PASSWORD", "hush")
    monkeypatch.setenv("FLANNELD_ETCD_USERNAME", "me")
    monkeypatch.setenv("SCRIPTS_OWN", "kept")
    show = tmp_path / "show"
    show.write_text(f'#!/bin/sh\n{{ echo "$*"; env; }} >>{tmp_path}/said\n')
    show.chmod(0o755)
    command = f"{show} <$FLANNELD_ETCD_PASSWORD> <$FLANNELD_ETCD_USERNAME>"
    it = carrier(*4 * [command])
    await it.prepare(OWN)
    await it.start(Lease(IPv4Network("10.5.1.0/24"), OWN))
    tell(it, 2)
    await it.reconcile()
    it.apply([IPv4Network("10.5.2.0/24")], {})
    await it.reconcile()
    said = (tmp_path / "said").read_text()
    assert said.count("<> <me>") == 4
    for variable in ("SCRIPTS_OWN=kept", f"PATH={os.environ['PATH']}"):
        assert said.splitlines().count(variable) == 4
    assert "PASSWORD" not in said
    assert "hush" not in said


async def test_only_the_commands_that_there_are(run: Commands) -> None:
    it = carrier(subnet_remove=run.named("remove"))
    await it.start(Lease(IPv4Network("10.5.1.0/24"), OWN))
    tell(it, 2)
    await it.reconcile()
    it.apply([IPv4Network("10.5.2.0/24")], {})
    await it.reconcile()
    assert run.taken() == ["remove 10.5.2.0/24 192.0.2.2 <|>"]


async def test_a_failure_is_logged_and_the_next_peer_is_told(
    run: Commands, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """7.5: and it is not tried again; what it began is removed with the peer."""
    (tmp_path / "add.fails").touch()
    it = recorder(run)
    tell(it, 2, 3)
    with caplog.at_level(logging.ERROR):
        await it.reconcile()
        await it.reconcile()
    assert len(run.taken()) == 2
    assert caplog.messages == [
        f"a command failed: subnet=10.5.{number}.0/24 error=SubnetAddCommand: exit 1"
        for number in (2, 3)
    ]
    it.apply([IPv4Network("10.5.2.0/24")], {})
    await it.reconcile()
    assert run.taken() == ["remove 10.5.2.0/24 192.0.2.2 <|>"]


async def test_a_program_that_is_missing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = carrier(subnet_add="/no/such/program")
    tell(it, 2)
    await it.reconcile()
    [message] = caplog.messages
    assert "No such file or directory: '/no/such/program'" in message


async def test_stopped_in_the_midst_of_a_command() -> None:
    it = carrier(subnet_add="sleep 100")
    tell(it, 2)
    running = asyncio.create_task(it.reconcile())
    await asyncio.sleep(0)  # until it waits for the command
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
