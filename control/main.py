"""The command line: `flannelette COMMAND ...`.

Each command imports what it needs when it runs: `status` must not wait for grpc.
What goes wrong is one line on stderr and an exit code (errors.py), never a traceback.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flannelette.control import config, flags, flagvalues, goflags, status
from flannelette.control.arguments import Parser, operator_socket
from flannelette.control.errors import ConfigError, ControlError, StoreError, one_line
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.operator import client
from flannelette.control.text import printable

if TYPE_CHECKING:
    from flannelette.control.handover.handover import Handover
    from flannelette.control.systemd.notify import Notifier

USAGE = """\
Usage: flannelette COMMAND [...]

Commands:
  run         be a node of the overlay: the daemon
  status      show what the daemon on this machine does
  top         watch what it does: traffic by peer, drops, queues
  doctor      say why nodes do not talk, and what cures it
  trace       follow the next packets through it, stage by stage
  capture     write packets, inside and outside of the overlay, for Wireshark
  docker-opts give Docker's daemon this node's subnet
  net-config  show or write the network configuration of a local store
  cleanup     remove the traffic rules that a daemon left
  demo        watch an overlay of several nodes at work on this machine
  bench       measure the overlay on this machine, beside others
  bench-control  measure a daemon in a cluster of thousands of nodes
  bench-restart  measure what a restart costs those who talk
  lab         see what copying costs, on this machine, as a page
  version     print the version
  help        print this

flannelette COMMAND --help says more."""

_LOG_FORMAT = "%(levelname)s %(asctime)s %(message)s"
_STDOUT = 1
_INTERRUPTED = 128 + 2
_PIPE_CLOSED = 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that argv (by default the process's) names; its exit code.

    Raises nothing but what would be a fault of ours."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        _flush()
        return code
    except ControlError as error:
        _complain(error)
        return error.exit_code
    except OSError as error:
        quiet = isinstance(error, BrokenPipeError) and _nobody_reads()
        _give_up_stdout()
        if quiet:
            return _PIPE_CLOSED
        _complain(error)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _flush() -> None:
    if sys.stdout is not None:  # None: the process was started without
        sys.stdout.flush()


def _nobody_reads() -> bool:
    """Has the reader of our stdout, a pipe or socket, gone?"""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _give_up_stdout() -> None:
    """Discard what cannot be written: Python would try again at its exit."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("help", "--help", "-help", "-h"):
        print(USAGE)
        return 0
    name, *rest = argv
    if name in ("--version", "-version"):
        name = "version"
    command = _COMMANDS.get(name)
    if command is None:
        raise _unknown(name)
    return command(rest)


def _unknown(command: str) -> ConfigError:
    """Whoever comes from flanneld may forget `run`."""
    if command.startswith("-"):
        flag = command.partition("=")[0]  # its value may be a password
        return ConfigError(
            f"unknown command: {flag} (the daemon's flags go behind `flannelette run`)"
        )
    return ConfigError(f"unknown command: {command} (flannelette help lists them)")


def _complain(error: Exception) -> None:
    """One line on stderr, notes included."""
    print(f"flannelette: {printable(one_line(error))}", file=sys.stderr)


# ---- run -----------------------------------------------------------------------------


def _run(argv: Sequence[str]) -> int:
    try:
        settings = config.parse(argv, os.environ)
    except goflags.HelpWanted:
        print(flags.usage())
        return 0
    except config.VersionWanted:
        print(config.version(), file=sys.stderr)  # where flanneld prints it (C3)
        return 0
    _log_to_stderr(settings.verbosity)
    for name in config.strangers(os.environ):
        logging.warning("a variable is not known, and ignored: name=%s", name)
    if settings.without_effect:
        names = " ".join(f"--{name}" for name in settings.without_effect)
        logging.warning("flags without effect here: %s", names)

    from flannelette.control.systemd import privileges

    privileges.give_up(settings)
    try:
        _run_agent(settings)
    except (ConfigError, OSError) as error:
        privileges.explain(error, settings)
        raise
    return 0


def _run_agent(settings: config.Config) -> None:
    import uvloop

    from flannelette.control.handover import fdstore, takeover
    from flannelette.control.handover.handover import Handover
    from flannelette.control.systemd.notify import Notifier

    notifier = Notifier.from_environ(os.environ)
    found = fdstore.inherited(os.environ)
    predecessor = (
        takeover.find(settings.operator_socket) if settings.take_over else None
    )
    handover = Handover(notifier, found, predecessor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_daemon(settings, handover, notifier))


async def _daemon(
    settings: config.Config, handover: Handover, notifier: Notifier
) -> None:
    try:
        handover.adopt(settings)  # before anything else, the rest of us included

        from flannelette.control import agent

        await agent.run(settings, handover, notifier)
    finally:
        handover.close()  # its pumps' threads would keep the process


def _log_to_stderr(verbosity: int) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=_LOG_FORMAT)
    if verbosity >= 1:  # of our own only: netlink alone writes a book per call
        logging.getLogger("flannelette").setLevel(logging.DEBUG)


# ---- the other commands --------------------------------------------------------------


def _status(argv: Sequence[str]) -> int:
    parser = Parser("status", "Show what the daemon on this machine does.")
    parser.add_argument("--json", action="store_true", help="print the whole document")
    parser.add_operator_socket()
    wanted = parser.parsed(argv)
    if wanted is None:
        return 0
    document = client.ask(operator_socket(wanted, os.environ), "status")
    if wanted.json:
        print(json.dumps(document, indent=2))
    else:
        print(status.render(document))
    return 0


def _top(argv: Sequence[str]) -> int:
    from flannelette.control.top import command

    return command.main(argv)


def _doctor(argv: Sequence[str]) -> int:
    from flannelette.control.doctor import command

    return command.main(argv, os.environ)


def _trace(argv: Sequence[str]) -> int:
    from flannelette.control.observe import trace

    return trace.main(argv)


def _capture(argv: Sequence[str]) -> int:
    from flannelette.control.observe import capture

    return capture.main(argv)


def _docker_opts(argv: Sequence[str]) -> int:
    from flannelette.control import dockeropts

    return dockeropts.main(argv, os.environ)


def _net_config(argv: Sequence[str]) -> int:
    parser = Parser(
        "net-config",
        "Show the network configuration of a local store, or check a new one and "
        "write it. Nodes read it when they start.",
    )
    parser.add_argument("--store", required=True, metavar="local:PATH")
    parser.add_argument("json", nargs="?", metavar="JSON", help="or - for stdin")
    wanted = parser.parsed(argv)
    if wanted is None:
        return 0
    try:
        store = flagvalues.store(wanted.store)
    except ValueError as error:
        raise ConfigError(
            f"invalid value {wanted.store!r} for --store: {error}"
        ) from None
    if not isinstance(store, flagvalues.Local):
        raise ConfigError("net-config works on a local store: --store=local:PATH")
    if wanted.json is not None:
        piped = wanted.json == "-"
        text = sys.stdin.buffer.read() if piped else os.fsencode(wanted.json)
        _check_net_config(text)
        asyncio.run(_write_net_config(store.path, text))
    elif store.path.exists():  # opening it would make it
        print(asyncio.run(_read_net_config(store.path)).decode(errors="replace"))
    else:
        raise StoreError(f"there is no store at {store.path}")
    return 0


def _check_net_config(text: bytes) -> None:
    """Raises NetworkConfigError, also for what no node of ours would take."""
    from flannelette.control.backends import choice

    choice.from_config(NetworkConfig.parse(text))


async def _read_net_config(path: Path) -> bytes:
    from flannelette.control.localstore import LocalStore

    store = LocalStore(path)
    try:
        return await store.network_config()
    finally:
        await store.close()


async def _write_net_config(path: Path, text: bytes) -> None:
    from flannelette.control.localstore import LocalStore

    store = LocalStore(path)
    try:
        await store.set_network_config(text)
    finally:
        await store.close()


def _cleanup(argv: Sequence[str]) -> int:
    from flannelette.control.rules import cleanup

    return cleanup.main(argv)


def _benchmark(name: str, argv: list[str]) -> int:
    """By name: what control imports must not include benchmarks."""
    code: int = importlib.import_module(f"flannelette.benchmarks.{name}").main(argv)
    return code


def _version(argv: Sequence[str]) -> int:
    if argv:
        raise ConfigError(f"unexpected argument: {argv[0]}")
    print(config.version())
    return 0


_COMMANDS: Mapping[str, Callable[[list[str]], int]] = {
    "run": _run,
    "status": _status,
    "top": _top,
    "doctor": _doctor,
    "trace": _trace,
    "capture": _capture,
    "docker-opts": _docker_opts,
    "net-config": _net_config,
    "cleanup": _cleanup,
    "demo": partial(_benchmark, "demo"),
    "bench": partial(_benchmark, "bench"),
    "bench-control": partial(_benchmark, "controlbench"),
    "bench-restart": partial(_benchmark, "restart"),
    "lab": partial(_benchmark, "lab"),
    "version": _version,
}
