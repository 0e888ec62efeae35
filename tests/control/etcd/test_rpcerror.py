"""gRPC's words: an address is said once, as operators write it."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from flannelette.control.etcd.rpcerror import in_words


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ipv4:192.0.2.1:2379", "192.0.2.1:2379"),
        ("ipv6:%5B2001:db8::1%5D:2379", "[2001:db8::1]:2379"),
    ],
)
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("{0}: Handshake read failed", "Handshake read failed"),
        (
            "{0}: connect failed: addr: {0} error: Network is unreachable",
            "Network is unreachable",
        ),
    ],
)
def test_an_address_is_said_once(
    address: str, shown: str, said: str, reason: str
) -> None:
    """What gRPC says of a server that cannot be reached."""
    details = "failed to connect to all addresses; last error: UNAVAILABLE: "
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details + said.format(address),
    )
    assert in_words(error) == f"{shown}: {reason}"
