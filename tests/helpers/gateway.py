"""An etcd inside a rig, through its JSON gateway: no client, no second namespace."""

from __future__ import annotations

import json
import socket
import ssl
from base64 import b64decode, b64encode
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from flannelette.benchmarks.rig import Rig

PREFIX = "/coreos.com/network"
LEASES = f"{PREFIX}/subnets/"


class Gateway:
    """The etcd that a Cluster started on host 1, or another one there."""

    def __init__(
        self,
        rig: Rig,
        address: tuple[str, int] = ("192.0.2.1", 2379),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rig = rig
        self._address = address
        self._tls = tls
        self._headers: dict[str, str] = {}

    def call(self, path: str, **body: object) -> dict[str, Any]:
        """One of etcd's own calls."""
        with self._rig.inside(self._rig.host(1)):
            client = socket.socket()
        with closing(HTTPConnection(*self._address)) as connection:
            connection.sock = client
            client.settimeout(5)
            client.connect(self._address)
            if self._tls is not None:
                connection.sock = self._tls.wrap_socket(client)
            text = json.dumps(body)
            connection.request("POST", f"/v3/{path}", text, self._headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status == 200, text
        result: dict[str, Any] = json.loads(text)
        return result

    def put(self, key: str, value: bytes, lease: int = 0) -> None:
        """With lease 0 the key is permanent."""
        self.call("kv/put", key=_b64(key.encode()), value=_b64(value), lease=lease)

    def leases(self) -> dict[str, tuple[bytes, int]]:
        """Value and etcd lease of each subnet key."""
        answer = self.call(
            "kv/range", key=_b64(LEASES.encode()), range_end=_b64(_end(LEASES))
        )
        return {
            b64decode(kv["key"]).decode().removeprefix(LEASES): (
                b64decode(kv["value"]),
                int(kv.get("lease", 0)),
            )
            for kv in answer.get("kvs", [])
        }

    def delete(self, key: str) -> None:
        self.call("kv/deleterange", key=_b64(key.encode()))

    def delete_leases(self) -> None:
        for key in self.leases():
            self.delete(LEASES + key)

    def grant(self, seconds: int) -> int:
        return int(self.call("lease/grant", TTL=seconds)["ID"])

    def revoke(self, lease: int) -> None:
        self.call("lease/revoke", ID=lease)

    def compact(self) -> None:
        """Forget all history before now."""
        revision = self.call("kv/range", key=_b64(b"x"))["header"]["revision"]
        self.call("kv/compaction", revision=revision, physical=True)

    def leads(self) -> bool:
        """Is it the leader of its cluster?"""
        status = self.call("maintenance/status")
        return bool(status["leader"] == status["header"]["member_id"])

    def member(self) -> str:
        """Its number in the cluster."""
        return str(self.call("maintenance/status")["header"]["member_id"])

    def add_user(self, name: str, password: str) -> None:
        """With a role of the same name."""
        self.call("auth/user/add", name=name, password=password)
        if name != "root":  # which has its role from the beginning
            self.call("auth/role/add", name=name)
        self.call("auth/user/grant", user=name, role=name)

    def permit(self, role: str, prefix: str) -> None:
        """To read and write what is below a prefix."""
        first = {"key": _b64(prefix.encode()), "range_end": _b64(_end(prefix))}
        permission = {"permType": "READWRITE", **first}
        self.call("auth/role/grant", name=role, perm=permission)

    def forbid(self, role: str, prefix: str) -> None:
        first = {"key": _b64(prefix.encode()), "range_end": _b64(_end(prefix))}
        self.call("auth/role/revoke", role=role, **first)

    def log_in(self, name: str, password: str) -> None:
        """What is called from now on is called by that user, until etcd restarts."""
        self._headers = {}
        answer = self.call("auth/authenticate", name=name, password=password)
        self._headers = {"Authorization": answer["token"]}

    def disable_auth(self) -> None:
        """Nobody is a user any more."""
        self.call("auth/disable")
        self._headers = {}


def _end(prefix: str) -> bytes:
    """Where the range of all keys with a prefix ends."""
    return (prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode()


def _b64(data: bytes) -> str:
    return b64encode(data).decode()
