"""flannelette-cni: the CNI plugin `flannel`. It connects containers to the overlay.

The work is done by another plugin, its delegate, usually `bridge` with `host-local`.
This one says what is true of the node: its subnets, its MTU, the routes to the cluster,
who masquerades (flannel-behaviour.md, section 9). The way of an ADD:

1. a runtime executes us: operation and container in CNI_* variables, the network's
   configuration on stdin (netconf.py);
2. subnet.env, which the daemon wrote, is read (subnet.py);
3. the delegate's configuration is made of both, and saved: it is what DEL and CHECK
   will need (state.py);
4. the delegate is run with it (delegate.py), and its result is ours.

The operations themselves are in operations.py.

Where flannel's plugin falls short it is done right here: two attachments of a container
do not collide, and what a failed ADD saved is removed (N6, with CNI 1.1's DEL before
that); CHECK looks, and STATUS and GC exist (N10); a half-written subnet.env is an error
and no crash (N2). stderr is for what is wrong: the delegate's configuration, which may
hold secrets, is not written there (N7).

Runtimes wait for this process, once for each container and operation: it imports
nothing that it does not need, and no asyncio.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from flannelette.control import gojson
from flannelette.control.cni import netconf, operations
from flannelette.control.cni.errors import IO_FAILURE, UNDECODABLE, CniError
from flannelette.control.cni.operations import Call, say
from flannelette.control.errors import one_line

_STDIN, _STDOUT = 0, 1
_INPUT_MAX = 16 << 20
"""Bytes: GC's list has about 100 for each container of the node."""
_INTERRUPTED = 128 + 2


def main() -> int:
    """What a runtime executes; the exit code. All else is on stdout, as JSON."""
    try:
        code, text = answer(os.environ, _input)
        while text:
            text = text[os.write(_STDOUT, text) :]
        return code
    except OSError as error:  # nobody takes our answer
        say(one_line(error))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _input() -> bytes:
    with open(_STDIN, "rb", closefd=False) as stdin:
        return stdin.read(_INPUT_MAX + 1)


def answer(
    environ: Mapping[str, str], read_input: Callable[[], bytes]
) -> tuple[int, bytes]:
    """Do what the environment says: exit code, and what belongs on stdout."""
    version = netconf.NEWEST
    try:
        command = netconf.command(environ)
        text = read_input()
        if command == "VERSION":
            return 0, _versions(text)
        if len(text) > _INPUT_MAX:
            raise CniError(UNDECODABLE, f"input of more than {_INPUT_MAX} bytes")
        members = netconf.decode(text)
        version = netconf.version(members) or version
        network = netconf.network(members, command)
        return 0, operations.OPERATIONS[command](Call(environ, network))
    except CniError as error:
        return error.exit_code, _encode(error.document(version))
    except OSError as error:
        failed = CniError(IO_FAILURE, one_line(error))
        return failed.exit_code, _encode(failed.document(version))


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=4).encode() + b"\n"


def _versions(text: bytes) -> bytes:
    """VERSION answers in the version that it is asked in, if it knows that."""
    try:
        asked = netconf.version(gojson.loads_object(text))
    except (gojson.GoJSONError, CniError):
        asked = ""
    return _encode(
        {
            "cniVersion": asked or netconf.NEWEST,
            "supportedVersions": netconf.VERSIONS,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
