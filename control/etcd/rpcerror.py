"""What gRPC's errors mean, and what they say, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

import grpc
import grpc.aio

LATE = "no answer in time"
TLS_ALERT = "TSI_DATA_CORRUPTED"
"""Said where a server ends the handshake, for it does not take our certificate."""

_OTHER_SCHEME = re.compile(
    "[Ss]ocket closed|Connection reset|WRONG_VERSION_NUMBER|an http1[.]x server"
)
"""Said, among other reasons, where one end speaks TLS and the other does not."""
_ADDRESS = re.compile(r"ipv[46]:(\S+): (?:connect failed: addr: \S+ error: )?")
"""Before what is the matter there."""
_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_STALE_TOKEN = ("invalid auth token", "user name is empty", "auth store is old")


def is_refusal(error: grpc.aio.AioRpcError) -> bool:
    """Has etcd answered, and will not do it?"""
    return error.code() in _REFUSALS


def is_stale(error: grpc.aio.AioRpcError) -> bool:
    """Is it for the token, so that another login may help?"""
    text = in_words(error)
    return any(phrase in text for phrase in _STALE_TOKEN)


def is_auth_off(error: grpc.aio.AioRpcError) -> bool:
    """Does etcd know no users?"""
    return "authentication is not enabled" in in_words(error)


def may_be_the_scheme(reason: str) -> bool:
    """Is it what is said where http:// should be https://, or the reverse?"""
    return _OTHER_SCHEME.search(reason) is not None


def in_words(error: grpc.aio.AioRpcError, secrets: Iterable[str] = ()) -> str:
    """What went wrong, without the secrets: who answers may repeat what it was told,
    and what we say of it is shown to whoever asks for our health."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LATE
    text = error.details() or error.code().name
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "...")
    text = " ".join(text.split())
    text = text.rpartition("last error: ")[2]
    text = _ADDRESS.sub(r"\1: ", text.replace("%5B", "[").replace("%5D", "]"))
    return re.sub(r"^[A-Z_]+: |etcdserver: ", "", text)[:300]
