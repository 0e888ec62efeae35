"""A gRPC proxy before a real etcd that does to calls what networks do to them.

async with EtcdProxy(etcd) as proxy:
    proxy.after = lose("Txn")      # applied, but the answer never arrives
    store = EtcdStore(proxy.settings("/prefix"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Self

import grpc
import grpc.aio
from aetcd import rpc

from flannelette.control.etcd.settings import EtcdSettings
from tests.helpers import grpcservers
from tests.helpers.etcd import Etcd

Hook = Callable[[str], Awaitable[None]]
"""Called with a method's name, such as Txn; raises Lost to break the call."""
Answers = AsyncGenerator[Any, None]


class Lost(Exception):
    """The connection broke."""


async def nothing(method: str) -> None:
    """Let the call pass."""


def lose(method: str, times: int = 1) -> Hook:
    """Break the first so many calls of a method."""
    left = times

    async def hook(called: str) -> None:
        nonlocal left
        if called == method and left > 0:
            left -= 1
            raise Lost

    return hook


async def untouched(answers: Answers) -> Answers:
    """Let the answers of a watch pass."""
    async for answer in answers:
        yield answer


class EtcdProxy(grpc.GenericRpcHandler):
    """Passes bytes on; the hooks stand where calls and answers go by."""

    def __init__(self, etcd: Etcd) -> None:
        self._channel: Any = etcd.channel()
        self._server = grpc.aio.server(handlers=[self])
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self.before: Hook = nothing
        self.after: Hook = nothing
        self.watch: Callable[[Answers], Answers] = untouched
        """Given a watch's answers, yields what the client gets to see."""
        self.metadata: list[tuple[str, Any]] = []
        """Of the last watch."""
        self.calls: list[str] = []
        self._passing: set[asyncio.Task[Any]] = set()

    def settings(self, prefix: str) -> EtcdSettings:
        return EtcdSettings((f"http://127.0.0.1:{self._port}",), prefix)

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await grpcservers.stop(self._server)
        await asyncio.gather(*self._passing, return_exceptions=True)
        await self._channel.close()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method.endswith("/Watch"):
            return grpc.stream_stream_rpc_method_handler(self._watch)
        name = method.rpartition("/")[2]

        async def call(request: bytes, context: Any) -> Any:
            self.calls.append(name)
            # A request on its way arrives, also when nobody waits for the answer.
            passing = asyncio.create_task(self._pass(method, request, _token(context)))
            self._passing.add(passing)
            passing.add_done_callback(self._passing.discard)
            try:
                return await asyncio.shield(passing)
            except Lost:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(call)

    async def _pass(self, method: str, request: bytes, metadata: Any) -> Any:
        name = method.rpartition("/")[2]
        await self.before(name)
        send = self._channel.unary_unary(method)
        answer = await send(request, timeout=10, metadata=metadata)
        await self.after(name)
        return answer

    async def _watch(self, _: Any, context: Any) -> AsyncIterator[bytes]:
        self.metadata = list(context.invocation_metadata())
        self.calls.append("Watch")
        try:
            await self.before("Watch")
        except Lost:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
        call: Any = self._channel.stream_stream("/etcdserverpb.Watch/Watch")(
            metadata=_token(context)
        )

        # Their iterators are generators that gRPC does not close; hence read().
        async def forward() -> None:
            while (request := await context.read()) is not grpc.aio.EOF:
                await call.write(request)

        forwarding = asyncio.create_task(forward())

        async def answers() -> Answers:
            while (answer := await call.read()) is not grpc.aio.EOF:
                yield rpc.WatchResponse.FromString(answer)

        try:
            async with (
                aclosing(answers()) as given,
                aclosing(self.watch(given)) as seen,
            ):
                async for answer in seen:
                    yield answer.SerializeToString()
        except Lost:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "connection lost")
        finally:
            forwarding.cancel()
            call.cancel()


def _token(context: Any) -> list[tuple[str, Any]]:
    return [pair for pair in context.invocation_metadata() if pair[0] == "token"]
