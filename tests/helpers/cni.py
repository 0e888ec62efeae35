"""The CNI plugin, called as runtimes call it, and a delegate that only records."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flannelette.control.cni import command as plugin

SUBNETS = {
    "IPv4": "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n",
    "two networks": "FLANNEL_NETWORK=10.1.0.0/16,192.168.0.0/16\n"
    "FLANNEL_SUBNET=10.1.17.1/24\n",
    "IPv6": "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n",
    "dual": "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n"
    "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n",
}
"""The four of T44, without what follows."""
V4, V6 = [{"subnet": "10.1.17.0/24"}], [{"subnet": "fc00::/64"}]
N4, N6 = {"dst": "10.1.0.0/16"}, {"dst": "fc00::/48"}
"""Ranges and routes that a delegate is given for them."""
REST = "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
CONTAINER = "some-container-id"
SAVED = [CONTAINER, f"{CONTAINER}:eth0"]
"""What there is of an attachment: flannel's name of it, and ours."""
RESULT = {"cniVersion": "1.0.0", "ips": []}
"""A delegate's, of ADD."""

_SCRIPT = """\
#!/bin/sh
here={here}
n=$(ls $here/calls | wc -l)
mkdir $here/calls/$n
cat >$here/calls/$n/stdin
env >$here/calls/$n/env
[ ! -e $here/$CNI_COMMAND.out ] || cat $here/$CNI_COMMAND.out
[ ! -e $here/$CNI_COMMAND.code ] || exit $(cat $here/$CNI_COMMAND.code)
"""


class Answer(NamedTuple):
    """What the plugin did: its exit code, and its stdout."""

    code: int
    text: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error result, looked at."""
        assert self.code == 1, self.text
        said = json.loads(self.text)
        assert set(said) - {"details"} == {"cniVersion", "code", "msg"}
        assert isinstance(said["code"], int)
        assert said["code"] > 0
        assert isinstance(said["msg"], str)
        return dict(said)


class Host:
    """A node: its subnet.env, what the plugin saves, and where its delegates are."""

    def __init__(self, directory: Path, stack: str = "IPv4") -> None:
        self.subnet_file = directory / "subnet.env"
        self.subnet_file.write_text(SUBNETS[stack] + REST)
        self.data = directory / "data"
        self.plugins = directory / "plugins"
        self.plugins.mkdir()

    def config(self, **members: Any) -> dict[str, Any]:
        """A network's configuration; what is None is left out."""
        usual = {
            "name": "cni-flannel",
            "type": "flannel",
            "cniVersion": "1.0.0",
            "subnetFile": str(self.subnet_file),
            "dataDir": str(self.data),
        }
        return {k: v for k, v in {**usual, **members}.items() if v is not None}

    def environ(self, command: str, **variables: str) -> dict[str, str]:
        """What a runtime puts into the environment."""
        return {
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": CONTAINER,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "/some/where",
            "CNI_ARGS": "IgnoreUnknown=1",
            "CNI_PATH": str(self.plugins),
            **variables,
        }

    def call(
        self, command: str, config: Mapping[str, Any] | bytes, **variables: str
    ) -> Answer:
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        environ = self.environ(command, **variables)
        return Answer(*plugin.answer(environ, lambda: text))

    def saved(self) -> list[str]:
        return (
            sorted(it.name for it in self.data.iterdir()) if self.data.exists() else []
        )


def saved_by_flannels(host: Host) -> dict[str, Any]:
    """As its plugin would have left it (N6)."""
    config = {"name": "cni-flannel", "type": "bridge", "cniVersion": "1.0.0"}
    host.data.mkdir(exist_ok=True)
    (host.data / CONTAINER).write_text(json.dumps(config))
    return config


class Call(NamedTuple):
    """How a delegate was called."""

    environ: dict[str, str]
    config: dict[str, Any]


class Delegate:
    """A plugin that says what it is told to, and remembers what it was asked."""

    def __init__(self, host: Host, name: str = "bridge") -> None:
        self._here = host.plugins / f"{name}.d"
        (self._here / "calls").mkdir(parents=True)
        path = host.plugins / name
        path.write_text(_SCRIPT.format(here=self._here))
        path.chmod(0o755)
        self.says("ADD", json.dumps(RESULT))

    def says(self, command: str, text: str, code: int = 0) -> None:
        (self._here / f"{command}.out").write_text(text)
        (self._here / f"{command}.code").write_text(str(code))

    def fails(self, command: str, code: int = 7, message: str = "no") -> None:
        self.says(command, json.dumps({"code": code, "msg": message}), code=1)

    @property
    def calls(self) -> list[Call]:
        found = []
        for number in range(len(list((self._here / "calls").iterdir()))):
            call = self._here / "calls" / str(number)
            lines = (call / "env").read_text().splitlines()
            variables = dict(line.split("=", 1) for line in lines if "=" in line)
            environ = {k: v for k, v in variables.items() if k.startswith("CNI_")}
            found.append(Call(environ, json.loads((call / "stdin").read_bytes())))
        return found

    @property
    def commands(self) -> list[str]:
        return [call.environ["CNI_COMMAND"] for call in self.calls]
