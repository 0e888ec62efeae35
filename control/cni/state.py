"""What the CNI plugin remembers of an attachment: its delegate's configuration.

DEL must be able to undo what ADD did, whatever the network's configuration and
subnet.env say by then: flannel-behaviour.md N6, N9.

flannel's plugin names the file after the container alone, so that a container's second
attachment overwrites the first (N6). Ours is `CONTAINER:IFNAME`; neither may have a
colon in it. The container's first attachment has flannel's name too, as a symbolic
link: so a node can go from one plugin to the other and back with its containers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from flannelette.control import gojson
from flannelette.control.cni.netconf import Attachment

IFNAME = "eth0"
"""Of an attachment that flannel's plugin remembered, without its name: what runtimes
call a container's interface."""
_SEPARATOR = ":"


class Saved(NamedTuple):
    """A delegate's configuration, and the file that holds it."""

    path: Path
    text: bytes

    @property
    def knows_ifname(self) -> bool:
        """No, if flannel's plugin saved it."""
        return _SEPARATOR in self.path.name

    def config(self) -> dict[str, Any] | None:
        """None if the text is none of a configuration."""
        try:
            return gojson.loads_object(self.text)
        except gojson.GoJSONError:
            return None


def save(directory: Path, attachment: Attachment, text: bytes) -> None:
    """Remember it, on the disk when this returns (N6). Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(directory, attachment)
    temporary = path.with_name(f".{path.name}")
    try:
        _write(temporary, text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(FileExistsError):  # of the container's first attachment
        os.symlink(path.name, directory / attachment.container)
    _sync(directory)


def load(directory: Path, attachment: Attachment) -> Saved | None:
    """What is remembered, by us or else by flannel's plugin. Raises OSError."""
    path = _path(directory, attachment)
    theirs = directory / attachment.container
    if not path.exists() and not theirs.is_symlink():  # ours would be a link
        path = theirs
    return _read(path)


def restore(directory: Path, attachment: Attachment, before: Saved | None) -> None:
    """Remember again what load() gave before a save(). Raises OSError."""
    path = _path(directory, attachment)
    if before is not None and before.path == path:
        save(directory, attachment, before.text)
    else:
        forget(Saved(path, b""))


def forget(saved: Saved) -> None:
    """Remove the file, and the link to it. Raises OSError."""
    theirs = saved.path.with_name(saved.path.name.partition(_SEPARATOR)[0])
    if theirs.is_symlink() and os.readlink(theirs) == saved.path.name:
        theirs.unlink(missing_ok=True)
    saved.path.unlink(missing_ok=True)


def everything(directory: Path) -> Iterator[tuple[Attachment, Saved]]:
    """All that is remembered, for whatever network. Raises OSError."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        container, _, ifname = path.name.partition(_SEPARATOR)
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        saved = _read(path)
        if saved is not None:
            yield Attachment(container, ifname or IFNAME), saved


def _path(directory: Path, attachment: Attachment) -> Path:
    return directory / _SEPARATOR.join(attachment)


def _read(path: Path) -> Saved | None:
    try:
        return Saved(path, path.read_bytes())
    except FileNotFoundError:
        return None


def _write(path: Path, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
