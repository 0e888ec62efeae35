"""An etcd inside a rig, through its JSON gateway: no client, no second namespace."""

from __future__ import annotations

import json
import socket
from base64 import b64decode, b64encode
from http.client import HTTPConnection
from typing import Any

from flannelette.benchmarks.rig import Rig

PREFIX = "/coreos.com/network"
LEASES = f"{PREFIX}/subnets/"


class Gateway:
    """The etcd that a Cluster started on host 1."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def _call(self, path: str, **body: object) -> dict[str, Any]:
        address = str(self._rig.address(1)), 2379
        with self._rig.inside(self._rig.host(1)):
            client = socket.socket()
        with client:
            client.settimeout(5)
            client.connect(address)
            connection = HTTPConnection(*address)
            connection.sock = client
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status == 200, text
        result: dict[str, Any] = json.loads(text)
        return result

    def put(self, key: str, value: bytes, lease: int = 0) -> None:
        """With lease 0 the key is permanent."""
        self._call("kv/put", key=_b64(key.encode()), value=_b64(value), lease=lease)

    def leases(self) -> dict[str, tuple[bytes, int]]:
        """Value and etcd lease of each subnet key."""
        end = LEASES[:-1] + chr(ord(LEASES[-1]) + 1)
        answer = self._call(
            "kv/range", key=_b64(LEASES.encode()), range_end=_b64(end.encode())
        )
        return {
            b64decode(kv["key"]).decode().removeprefix(LEASES): (
                b64decode(kv["value"]),
                int(kv.get("lease", 0)),
            )
            for kv in answer.get("kvs", [])
        }

    def delete(self, key: str) -> None:
        self._call("kv/deleterange", key=_b64(key.encode()))

    def delete_leases(self) -> None:
        for key in self.leases():
            self.delete(LEASES + key)

    def grant(self, seconds: int) -> int:
        return int(self._call("lease/grant", TTL=seconds)["ID"])

    def revoke(self, lease: int) -> None:
        self._call("lease/revoke", ID=lease)


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
