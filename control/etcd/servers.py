"""The etcd servers: connections, fail-over, deadlines, login, and errors in words.

Each endpoint has one connection. A call goes to the current server; when that one does
not answer within its share of the budget, the next one becomes current. Calls that may
be repeated are then tried again. A call that may not (a transaction) is tried once: it
may have been applied although its answer was lost.

Together with channel.py and rpcerror.py this is all that sees gRPC objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import grpc
import grpc.aio
from aetcd import rpc

from flannelette.control.errors import StoreError, StoreUnavailable
from flannelette.control.etcd import rpcerror
from flannelette.control.etcd.certificates import Certificates
from flannelette.control.etcd.settings import EtcdSettings, TLSFiles

log = logging.getLogger(__name__)

BUDGET = 3.0
"""Seconds within which a call is answered or fails."""
PER_TRY = BUDGET / 3
"""Seconds for one server, so that one which died silently leaves time for the next."""
PAUSE = 0.1
"""Seconds between two tries on a server that refuses outright."""
CLOSE = 3.0
"""Seconds for close()."""

OPTIONS: list[tuple[str, int]] = [
    # A frozen server is noticed after 6 s and 3 s. Etcd takes pings more frequent than
    # 5 s for an attack; keepalive_timeout_ms has no effect without the other two.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.http2.max_pings_without_data", 0),
    # Else a new channel inherits the back-off of an old one to the same server.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # In truth the limit for one attempt: a frozen server still accepts connections.
    ("grpc.min_reconnect_backoff_ms", 3000),
    # etcd's own client heeds no http_proxy either.
    ("grpc.enable_http_proxy", 0),
    # The leases of 60 000 nodes are 10 MB; gRPC's own limit is 4.
    ("grpc.max_receive_message_length", 64 << 20),
]


class Server:
    """One endpoint, its connection, and aetcd's stubs on it."""

    def __init__(self, address: str, tls: TLSFiles | None) -> None:
        self.address = address
        target = f"dns:///{address}"  # else a host named unix or dns is a scheme
        if tls is None:
            self.channel = grpc.aio.insecure_channel(target, OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
            self.channel = grpc.aio.secure_channel(target, credentials, OPTIONS)
        self.kv: Any = rpc.KVStub(self.channel)
        self.lease: Any = rpc.LeaseStub(self.channel)
        self.auth: Any = rpc.AuthStub(self.channel)
        self.watch: Any = rpc.WatchStub(self.channel)


Method = Callable[[Server], Any]
"""Picks a method of a stub."""


class Servers:
    """All endpoints of one etcd.

    Every call raises StoreUnavailable when no server answers within BUDGET seconds,
    and StoreError when etcd refuses (wrong password, no permission)."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises ConfigError for certificates that cannot be used."""
        self._certificates = Certificates(settings)
        self._settings = settings
        self._addresses = settings.addresses
        self._current = 0
        # grpc.aio binds a channel to the running loop, so none before the first call.
        self._servers: dict[str, Server] = {}
        self._silent: set[str] = set()
        """Those of which it was said that they do not answer."""
        self._heard: set[str] = set()
        """Those that have answered once: scheme and port are right."""
        # None: to be fetched; empty: etcd wants none.
        self._token: str | None = None if settings.username else ""
        self._login = asyncio.Lock()
        self._waits: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.closed = asyncio.Event()
        self.answered = False
        """Whether the last call was answered."""
        self.error: str | None = None
        """Why not, in one line."""

    async def call(self, method: Method, request: Any, again: bool = True) -> Any:
        """The answer; with `again`, tried until the budget is used up."""
        failures: dict[str, str] = {}
        try:
            async with self.wait(BUDGET):
                while True:
                    server = self._server()
                    try:
                        answer = await self._try(server, method, request)
                        break
                    except StoreUnavailable as error:
                        if not again:
                            raise
                        if server.address in failures:
                            await asyncio.sleep(PAUSE)
                        failures[server.address] = str(error)
        except TimeoutError:
            reasons = "; ".join(failures.values())
            self.answered, self.error = False, reasons or "etcd does not answer"
            raise StoreUnavailable(self.error) from None
        except StoreError as error:
            self.answered, self.error = False, str(error)
            raise
        self.answered, self.error = True, None
        self._heard.add(server.address)
        self._tell(server, failures)
        return answer

    def _tell(self, answering: Server, failures: dict[str, str]) -> None:
        """That a server does not answer where another does, once; who calls says it
        where none does."""
        if answering.address in self._silent:
            self._silent.remove(answering.address)
            log.info("an etcd server answers again: server=%s", answering.address)
        for address, reason in failures.items():
            if address not in {answering.address, *self._silent}:
                self._silent.add(address)
                log.warning("an etcd server does not answer: error=%s", reason)

    @asynccontextmanager
    async def stream(self, method: Method) -> AsyncIterator[Any]:
        """A stream to the current server, cancelled at the end; await within wait().

        `hasleader`: a server cut off from the others ends it, instead of keeping
        quiet."""
        server = self._server()
        with self._in_words(server):
            async with self.wait(PER_TRY):
                token = await self._logged_in(server)
            metadata = (("hasleader", "true"), *_metadata(token))
            call = method(server)(metadata=metadata)
            try:
                yield call
            finally:
                call.cancel()

    @asynccontextmanager
    async def wait(self, seconds: float | None) -> AsyncIterator[None]:
        """Let what is awaited inside take so long, at most until close().

        Raises TimeoutError, and StoreUnavailable after close(). Everything awaits
        within it: gRPC has streams that a closing channel leaves waiting for ever."""
        self._check_open()
        try:
            async with asyncio.timeout(seconds) as timeout:
                self._waits.add(timeout)
                self._idle.clear()
                try:
                    yield
                finally:
                    self._waits.remove(timeout)
                    if not self._waits:
                        self._idle.set()
        except TimeoutError:
            self._check_open()
            raise

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise StoreUnavailable("the store is closed") from None

    def forget_token(self) -> None:
        """Log in again before the next call."""
        if self._settings.username:
            self._token = None

    async def close(self) -> None:
        """End all calls and streams; they raise StoreUnavailable."""
        self.closed.set()
        for timeout in self._waits:
            if not timeout.expired():
                timeout.reschedule(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await self._idle.wait()
                while self._servers:
                    await self._servers.popitem()[1].channel.close()

    def reload(self) -> bool:
        """If there are new certificates: new connections for what begins from now on.
        The old ones last as long as a call or stream uses them."""
        changed = self._certificates.read_again()
        if changed:
            self._servers.clear()
        return changed

    def _server(self) -> Server:
        """The current server. Raises StoreUnavailable after close()."""
        self._check_open()
        address = self._addresses[self._current]
        if address not in self._servers:
            self._servers[address] = Server(address, self._certificates.files)
        return self._servers[address]

    async def _try(self, server: Server, method: Method, request: Any) -> Any:
        """One call to one server, with one more login if the token was stale."""
        with self._in_words(server):
            token = await self._logged_in(server)
            call = method(server)
            try:
                return await call(request, timeout=PER_TRY, metadata=_metadata(token))
            except grpc.aio.AioRpcError as error:
                if not self._settings.username or not rpcerror.is_stale(error):
                    raise
            if self._token == token:  # else somebody has logged in meanwhile
                self._token = None
            token = await self._logged_in(server)
            return await call(request, timeout=PER_TRY, metadata=_metadata(token))

    async def _logged_in(self, server: Server) -> str:
        """A token (E38): lost when etcd restarts, and after five idle minutes."""
        async with self._login:
            if self._token is None:
                request = rpc.AuthenticateRequest(
                    name=self._settings.username, password=self._settings.password
                )
                try:
                    answer = await server.auth.Authenticate(request, timeout=PER_TRY)
                    self._token = str(answer.token)
                except grpc.aio.AioRpcError as error:
                    if not rpcerror.is_auth_off(error):
                        raise
                    self._token = ""
            return self._token

    @contextmanager
    def _in_words(self, server: Server) -> Iterator[None]:
        """Turn gRPC's errors into ours; make the next server current if it failed."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            if rpcerror.is_refusal(error):
                self._heard.add(server.address)
                raise self._refusal(error) from None
            self._rotate(server)
            reason = rpcerror.in_words(error, self._secrets())
            reason = reason.removeprefix(f"{server.address}: ")
            if rpcerror.TLS_ALERT in reason:
                reason = self._refused(reason)
            elif server.address not in self._heard:
                reason = self._with_scheme(reason)
            raise StoreUnavailable(f"{server.address}: {reason}") from None
        except (
            StoreUnavailable,
            TimeoutError,
            grpc.aio.BaseError,
            asyncio.InvalidStateError,  # of a stream that ended meanwhile
        ) as error:
            self._rotate(server)
            reason = str(error) or rpcerror.LATE
            raise StoreUnavailable(f"{server.address}: {reason}") from None

    def _refusal(self, error: grpc.aio.AioRpcError) -> StoreError:
        user, prefix = self._settings.username, self._settings.prefix
        reason = rpcerror.in_words(error, self._secrets())
        refusal = StoreError(f"etcd refuses: {reason} (prefix={prefix!r})")
        refusal.add_note(f"for the user {user!r}")  # whom /readyz does not name
        return refusal

    def _secrets(self) -> tuple[str, str]:
        """What no error may tell."""
        return self._settings.password, self._token or ""

    def _refused(self, reason: str) -> str:
        """What a handshake means that the server has ended."""
        if end := self._certificates.ran_out():
            return f"our client certificate ran out at {end}"
        return f"the server seems to refuse our client certificate ({reason})"

    def _with_scheme(self, reason: str) -> str:
        """Of a server that has never answered."""
        if not rpcerror.may_be_the_scheme(reason):
            return reason
        other = "http" if self._settings.tls else "https"
        return f"{reason} (is it {other}:// there?)"

    def _rotate(self, failed: Server) -> None:
        """Make the next server current, unless somebody has done so already."""
        self.reload()
        if self._addresses[self._current] == failed.address:
            self._current = (self._current + 1) % len(self._addresses)


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token else ()
