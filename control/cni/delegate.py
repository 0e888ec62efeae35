"""Run the plugin that does the work: CNI 1.1, section 4.

It is given our environment, hence the runtime's CNI_ARGS and namespace; its stderr is
ours. What it answers on stdout is its result, or an error of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from flannelette.control import gojson
from flannelette.control.cni.errors import INTERNAL, INVALID_CONFIG, CniError


def run(path: str, environ: Mapping[str, str], config: bytes) -> bytes:
    """The plugin's stdout. Raises CniError with its own code when it fails, and OSError
    when it cannot be run."""
    try:
        done = subprocess.run([path], env=environ, input=config, stdout=subprocess.PIPE)
    except OSError as error:
        error.add_note(f"while running the plugin {path}")
        raise
    if done.returncode != 0:
        raise _failure(path, done.returncode, done.stdout)
    return done.stdout


def find(plugin: str, directories: str) -> str:
    """Its path, in the first directory of CNI_PATH that has it. Raises CniError."""
    if not plugin or os.sep in plugin or plugin in (os.curdir, os.pardir):
        raise CniError(INVALID_CONFIG, f"{plugin!r} is no plugin's name")
    for directory in directories.split(os.pathsep):
        path = os.path.join(directory, plugin)
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise CniError(INTERNAL, f"failed to find plugin {plugin!r} in path {directories}")


def _failure(path: str, code: int, stdout: bytes) -> CniError:
    said = _error(stdout)
    if said is not None:
        details = said.get("details")
        return CniError(
            said["code"], said["msg"], details if isinstance(details, str) else ""
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    text = stdout[:1000].decode(errors="replace")
    return CniError(INTERNAL, f"plugin {path} ended {how} and without a word", text)


def _error(stdout: bytes) -> dict[str, Any] | None:
    """The error result, if there is one."""
    try:
        said = gojson.fold(gojson.loads_object(stdout), ("code", "msg", "details"))
    except gojson.GoJSONError:
        return None
    code = said.get("code")
    if not isinstance(code, int) or code <= 0 or not isinstance(said.get("msg"), str):
        return None
    return said
