"""What etcd says is shown to whoever asks for our health: never a password, whatever
repeats it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from aetcd import rpc

from flannelette.control.errors import StoreError, one_line
from flannelette.control.etcd.channel import EtcdChannel, EtcdSettings
from flannelette.control.health.readiness import Facts, NotReady, judge
from tests.helpers import grpcservers

USER = "flannel-user"
TOKEN = "token.of.1234"


class Gossip(grpc.GenericRpcHandler):
    """An etcd that repeats in its complaints what it was told."""

    def __init__(self, code: grpc.StatusCode, at_login: bool, says: str) -> None:
        self._code = code
        self._at_login = at_login
        self._says = says

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            self._login if details.method.endswith("/Authenticate") else self._gossip
        )

    async def _login(self, request: bytes, context: Any) -> bytes:
        assert rpc.AuthenticateRequest.FromString(request).name == USER
        if self._at_login:
            return await self._gossip(request, context)
        answer: bytes = rpc.AuthenticateResponse(token=TOKEN).SerializeToString()
        return answer

    async def _gossip(self, _: bytes, context: Any) -> bytes:
        await context.abort(self._code, self._says)
        raise AssertionError


@asynccontextmanager
async def gossiping(handler: Gossip) -> AsyncIterator[int]:
    """Its port."""
    server = grpc.aio.server(handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await grpcservers.stop(server)


@pytest.mark.parametrize("password", ["correct-horse", "Tw0  w0rds\n", "$1\\.*[", "é€"])
@pytest.mark.parametrize("says", ["no {}", "x" * 295 + " {}", "a http://u:{}@b\n{}{}"])
@pytest.mark.parametrize("at_login", [True, False], ids=["login", "call"])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL]
)
async def test_nothing_repeats_a_secret(
    password: str,
    says: str,
    at_login: bool,
    code: grpc.StatusCode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flannelette.control.etcd.servers.BUDGET", 0.3)
    said = says.replace("{}", password if at_login else f"{TOKEN} {password}")
    async with gossiping(Gossip(code, at_login, said)) as port:
        endpoints = (f"http://127.0.0.1:{port}",)
        settings = EtcdSettings(endpoints, username=USER, password=password)
        channel = EtcdChannel(settings)
        try:
            with pytest.raises(StoreError) as caught:
                await channel.get(b"/key")
        finally:
            await channel.close()
    error = str(caught.value)
    verdict = judge(Facts(lease_revoked=True, lease_error=error))
    assert isinstance(verdict, NotReady)
    assert error in verdict.reason
    for text in (one_line(caught.value), channel.error or "", verdict.reason):
        assert "..." in text
        for secret in (TOKEN, password, *password.split(), password[:4]):
            assert secret not in text
    assert USER not in verdict.reason
    assert (USER in one_line(caught.value)) == (
        code is grpc.StatusCode.PERMISSION_DENIED
    )
