"""The client's side of the operator socket."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from flannelette.control.errors import HostError
from flannelette.control.operator import DEADLINE


def ask(path: Path, command: str) -> dict[str, Any]:
    """Send a command to the daemon at path and return its answer. Blocks.

    Raises HostError when no daemon answers in time, or it answers with an error."""
    with connect(path, command) as connection, connection.makefile("rb") as stream:
        try:
            answer = stream.read()
        except OSError as error:
            raise no_answer(path, error) from None
    return document(path, answer)


def connect(path: Path, command: str) -> socket.socket:
    """A connection to the daemon at path, which got this command. Raises HostError.

    Its timeout is DEADLINE."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(DEADLINE)
        connection.connect(os.fspath(path))
        connection.sendall(f"{command}\n".encode())
    except OSError as error:
        connection.close()
        raise no_answer(path, error) from None
    return connection


def no_answer(path: Path, error: OSError) -> HostError:
    """That there is none, and why."""
    return HostError(f"no daemon answers at {path}: {error.strerror or error}")


def document(path: Path, answer: bytes) -> dict[str, Any]:
    """The document in an answer. Raises HostError when it is none, or an error."""
    try:
        found = json.loads(answer)
    except ValueError:
        raise HostError(f"what answers at {path} is no flannelette") from None
    if not isinstance(found, dict) or "error" in found:
        reason = found["error"] if isinstance(found, dict) else repr(found)
        raise HostError(f"the daemon at {path} answers: {reason}")
    return found
