"""What stands for other programs that use the same etcd: its own calls, unguarded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc.aio
from aetcd import rpc

from tests.helpers.storerig import DEADLINE


@dataclass(frozen=True)
class Stored:
    """A key as etcd has it."""

    value: bytes
    lease: int
    revision: int


class Client:
    """etcd's own calls, unguarded, on aetcd's stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._kv: Any = rpc.KVStub(channel)
        self._lease: Any = rpc.LeaseStub(channel)
        self._auth: Any = rpc.AuthStub(channel)
        self._metadata: list[tuple[str, str]] = []

    async def put(self, key: str | bytes, value: bytes, ttl: int | None = None) -> int:
        """Write for ttl seconds or for ever; the revision of the write."""
        lease = 0 if ttl is None else await self.grant(ttl)
        return await self.put_with(key, value, lease)

    async def put_with(self, key: str | bytes, value: bytes, lease: int) -> int:
        request = rpc.PutRequest(key=_bytes(key), value=value, lease=lease)
        return int((await self._call(self._kv.Put, request)).header.revision)

    async def put_all(self, entries: dict[str, bytes]) -> int:
        """Write all in one revision."""
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=_bytes(key), value=value))
            for key, value in entries.items()
        ]
        answer = await self._call(self._kv.Txn, rpc.TxnRequest(success=puts))
        return int(answer.header.revision)

    async def get(self, key: str | bytes) -> Stored | None:
        return (await self._range(_bytes(key), b"")).get(_bytes(key))

    async def all(self) -> dict[bytes, Stored]:
        return await self._range(b"\0", b"\0")

    async def _range(self, first: bytes, end: bytes) -> dict[bytes, Stored]:
        request = rpc.RangeRequest(key=first, range_end=end)
        answer = await self._call(self._kv.Range, request)
        return {
            kv.key: Stored(kv.value, kv.lease, kv.mod_revision) for kv in answer.kvs
        }

    async def revision(self) -> int:
        request = rpc.RangeRequest(key=b"\0")
        return int((await self._call(self._kv.Range, request)).header.revision)

    async def delete(self, key: str | bytes) -> None:
        request = rpc.DeleteRangeRequest(key=_bytes(key))
        await self._call(self._kv.DeleteRange, request)

    async def compact(self) -> None:
        """Forget all history before now."""
        revision = await self.revision()
        request = rpc.CompactionRequest(revision=revision, physical=True)
        await self._call(self._kv.Compact, request)

    async def grant(self, ttl: int) -> int:
        request = rpc.LeaseGrantRequest(TTL=ttl)
        return int((await self._call(self._lease.LeaseGrant, request)).ID)

    async def revoke(self, lease: int) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self._call(self._lease.LeaseRevoke, request)

    async def leases(self) -> set[int]:
        """The ids of all etcd leases."""
        answer = await self._call(self._lease.LeaseLeases, rpc.LeaseLeasesRequest())
        return {lease.ID for lease in answer.leases}

    async def time_to_live(self, lease: int) -> int:
        request = rpc.LeaseTimeToLiveRequest(ID=lease)
        return int((await self._call(self._lease.LeaseTimeToLive, request)).TTL)

    async def add_user(self, name: str, password: str, prefix: str) -> None:
        """A user that may read and write below a prefix."""
        for request in (
            rpc.AuthUserAddRequest(name=name, password=password),
            rpc.AuthRoleAddRequest(name=name),
            rpc.AuthUserGrantRoleRequest(user=name, role=name),
        ):
            method = type(request).__name__.removeprefix("Auth").removesuffix("Request")
            await self._call(getattr(self._auth, method), request)
        await self.permit(name, prefix)

    async def permit(self, role: str, prefix: str) -> None:
        permission = rpc.Permission(
            permType=rpc.Permission.READWRITE,
            key=prefix.encode(),
            range_end=_end(prefix),
        )
        request = rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        await self._call(self._auth.RoleGrantPermission, request)

    async def forbid(self, role: str, prefix: str) -> None:
        request = rpc.AuthRoleRevokePermissionRequest(
            role=role, key=prefix.encode(), range_end=_end(prefix)
        )
        await self._call(self._auth.RoleRevokePermission, request)

    async def drop_tokens(self, name: str, password: str) -> None:
        """Forget the user's tokens, as a restart does (and a change of password)."""
        request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
        await self._call(self._auth.UserChangePassword, request)

    async def enable_auth(self, password: str) -> None:
        """Make root the superuser, and go on as root."""
        for method, request in (
            ("UserAdd", rpc.AuthUserAddRequest(name="root", password=password)),
            ("RoleAdd", rpc.AuthRoleAddRequest(name="root")),
            ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root")),
            ("AuthEnable", rpc.AuthEnableRequest()),
        ):
            await self._call(getattr(self._auth, method), request)
        await self.log_in("root", password)

    async def log_in(self, name: str, password: str) -> None:
        request = rpc.AuthenticateRequest(name=name, password=password)
        answer = await self._auth.Authenticate(request, wait_for_ready=True)
        self._metadata = [("token", answer.token)]

    async def _call(self, method: Any, request: Any) -> Any:
        return await method(
            request, metadata=self._metadata, timeout=DEADLINE, wait_for_ready=True
        )


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _end(prefix: str) -> bytes:
    """Where the range of all keys with a prefix ends."""
    return (prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode()
