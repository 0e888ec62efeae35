"""What the CNI plugin does for each operation of a runtime: CNI 1.1, section 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flannelette.control import gojson
from flannelette.control.cni import delegate, netconf, state, subnet
from flannelette.control.cni.errors import (
    INTERNAL,
    INVALID_CONFIG,
    IO_FAILURE,
    NOT_AVAILABLE,
    SUBNET_CHANGED,
    TRY_AGAIN_LATER,
    UNKNOWN_CONTAINER,
    CniError,
)
from flannelette.control.cni.netconf import Attachment, Network
from flannelette.control.cni.subnet import NodeSubnet
from flannelette.control.errors import one_line

_SUBNET_FILE_MAX = 65536
_STATUS_CODES = (NOT_AVAILABLE, NOT_AVAILABLE + 1)


class Call(NamedTuple):
    """One operation, and what it was given."""

    environ: Mapping[str, str]
    network: Network

    @property
    def directory(self) -> Path:
        return Path(self.network.data_dir)


# ---- operations on one attachment ----------------------------------------------------


def _add(call: Call) -> bytes:
    attachment = netconf.attachment(call.environ)
    node = _node(call.network, TRY_AGAIN_LATER)
    config = netconf.delegate(call.network, node)
    text = netconf.encode(config)
    plugin = delegate.find(config["type"], call.environ["CNI_PATH"])
    before = state.load(call.directory, attachment)
    state.save(call.directory, attachment, text)
    try:
        result = delegate.run(plugin, call.environ, text)
        _check_result(plugin, result)
    except CniError as error:
        _undo(call, attachment, before)
        raise _failed_to("delegate add", error) from None
    except OSError:  # it did not run
        state.restore(call.directory, attachment, before)
        raise
    return result


def _check_result(plugin: str, result: bytes) -> None:
    try:
        gojson.loads_object(result)
    except gojson.GoJSONError as error:
        message = f"the result of plugin {plugin} is no result"
        raise CniError(INTERNAL, message, str(error)) from None


def _undo(call: Call, attachment: Attachment, before: state.Saved | None) -> None:
    """After an ADD that failed: leave nothing behind (CNI 1.1, section 4), unless the
    attachment was there before, which must go on to work. What cannot be removed now
    stays saved, and the runtime's DEL will find it."""
    try:
        if before is None:
            environ = {**call.environ, "CNI_COMMAND": "DEL"}
            _detach(Call(environ, call.network), attachment)
        else:
            state.restore(call.directory, attachment, before)
    except (CniError, OSError) as error:
        say(f"the failed ADD was not undone: {one_line(error)}")


def _del(call: Call) -> bytes:
    _detach(call, netconf.attachment(call.environ))
    return b""


def _detach(call: Call, attachment: Attachment) -> None:
    """What is not there, or cannot be read, is no error (N9)."""
    saved = state.load(call.directory, attachment)
    if saved is None:
        return
    config = saved.config()
    if config is None:
        say(f"what was saved is no configuration, and is removed: {saved.path}")
    elif config.get("name") != call.network.name:
        return
    else:
        _run_saved(call, config, "delegate del")
    state.forget(saved)


def _check(call: Call) -> bytes:
    """Is the attachment as it was made, and its subnet still this node's?"""
    attachment = netconf.attachment(call.environ)
    if call.network.previous is None:
        raise CniError(INVALID_CONFIG, "required prevResult missing")
    saved = state.load(call.directory, attachment)
    config = saved and saved.config()
    if config is None or config.get("name") != call.network.name:
        container, ifname = attachment
        raise CniError(
            UNKNOWN_CONTAINER, f"container {container} has no attachment {ifname}"
        )
    lost = netconf.strangers(config, _node(call.network, TRY_AGAIN_LATER))
    if lost:
        raise CniError(
            SUBNET_CHANGED, f"the node's subnet is no longer {', '.join(lost)}"
        )
    previous = netconf.resolved(call.network.previous)
    resolved = call.network._replace(previous=previous)
    _run_saved(Call(call.environ, resolved), config, "delegate check")
    return b""


def _run_saved(call: Call, config: Mapping[str, Any], what: str) -> None:
    """DEL or CHECK with a saved configuration. prevResult is in the version that the
    runtime speaks now, and is passed on if that is the delegate's."""
    network = call.network
    passed = dict(config)
    if network.previous is not None and config.get("cniVersion", "") == network.version:
        passed["prevResult"] = network.previous
    plugin = config.get("type")
    try:
        if not isinstance(plugin, str):
            raise CniError(INVALID_CONFIG, "what was saved names no plugin")
        path = delegate.find(plugin, call.environ["CNI_PATH"])
        delegate.run(path, call.environ, netconf.encode(passed))
    except CniError as error:
        raise _failed_to(what, error) from None


# ---- operations on the network -------------------------------------------------------


def _status(call: Call) -> bytes:
    """Could an ADD succeed? What the daemon has not said yet, nobody can be given."""
    node = _node(call.network, NOT_AVAILABLE)
    try:
        _delegate(call, node)
    except CniError as error:
        if error.code not in _STATUS_CODES:
            error.code = NOT_AVAILABLE
        raise _failed_to("delegate status", error) from None
    return b""


def _gc(call: Call) -> bytes:
    """Remove what is left of attachments that are not in the runtime's list: as much as
    possible, and then say what was not."""
    valid = netconf.valid_attachments(call.network)
    containers = {attachment.container for attachment in valid}
    problems: list[CniError | OSError] = []
    for attachment, saved in state.everything(call.directory):
        known = saved.knows_ifname
        alive = attachment in valid if known else attachment.container in containers
        config = saved.config()
        if alive or config is None or config.get("name") != call.network.name:
            continue
        environ = _environ_of(attachment, call.environ)
        try:
            _run_saved(Call(environ, call.network), config, "delegate del")
            state.forget(saved)
        except (CniError, OSError) as error:
            problems.append(error)
    try:
        _delegate(call, _node(call.network, TRY_AGAIN_LATER))
    except (CniError, OSError) as error:
        problems.append(error)
    if problems:
        first = problems[0]
        code = first.code if isinstance(first, CniError) else IO_FAILURE
        raise CniError(code, "; ".join(map(one_line, problems)))
    return b""


def _environ_of(attachment: Attachment, environ: Mapping[str, str]) -> dict[str, str]:
    """For a DEL of an attachment whose namespace is gone."""
    own = {key: environ[key] for key in environ if key not in ("CNI_NETNS", "CNI_ARGS")}
    container, ifname = attachment
    return {
        **own,
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": ifname,
    }


def _delegate(call: Call, node: NodeSubnet) -> None:
    """STATUS or GC, with the configuration that an ADD would have now."""
    config = netconf.delegate(call.network, node)
    if call.network.attachments is not None:
        config |= dict.fromkeys(netconf.ATTACHMENTS, call.network.attachments)
    plugin = delegate.find(config["type"], call.environ["CNI_PATH"])
    delegate.run(plugin, call.environ, netconf.encode(config))


# ---- both ----------------------------------------------------------------------------


def _node(network: Network, code: int) -> NodeSubnet:
    """What subnet.env says. Raises CniError with that code, whatever is wrong: the
    daemon, once it runs, writes the file anew."""
    try:
        with open(network.subnet_file, "rb") as file:
            text = file.read(_SUBNET_FILE_MAX)
        return subnet.parse(text.decode(errors="replace"))
    except (OSError, subnet.SubnetFileError) as error:
        raise CniError(
            code,
            f"failed to load flannel 'subnet.env' file: {_about(error, network)}. "
            "Check the daemon's log on this node.",
        ) from None


def _about(error: OSError | subnet.SubnetFileError, network: Network) -> str:
    if isinstance(error, OSError):
        return str(error)
    return f"{network.subnet_file}: {error}"


def _failed_to(what: str, error: CniError) -> CniError:
    """The error of a delegate, as ours (N8)."""
    return CniError(error.code, f"failed to {what}: {error}", error.details)


def say(text: str) -> None:
    """One line on stderr: runtimes log it."""
    if sys.stderr is not None:  # None: the process was started without
        print(f"flannelette-cni: {text}", file=sys.stderr)


OPERATIONS: Mapping[str, Callable[[Call], bytes]] = {
    "ADD": _add,
    "DEL": _del,
    "CHECK": _check,
    "STATUS": _status,
    "GC": _gc,
}
"""Each gives what belongs on stdout. Raises CniError and OSError."""
