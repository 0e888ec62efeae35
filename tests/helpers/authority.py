"""A certificate authority of the test's own, whose certificates end when it likes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

YEAR = 365.0 * 24 * 3600


@dataclass(frozen=True)
class TLSPaths:
    """Files for both ends; the client's certificate is signed by the same authority."""

    ca: str
    server_cert: str
    server_key: str
    client_cert: str
    client_key: str


class Authority:
    """It writes its own certificate, one for a server at an address and one for a
    client, and writes the two anew when it is asked to."""

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        names = ("ca.pem", "server.pem", "server.key", "client.pem", "key.pem")
        self.paths = TLSPaths(*(str(directory / name) for name in names))
        self._ca = trustme.CA()
        self._address = address
        self._ca.cert_pem.write_to_path(self.paths.ca)
        self.issue_server()
        self.issue_client()

    def issue_server(self, seconds: float = YEAR) -> None:
        """A certificate that ends so many seconds from now."""
        begin, end = _times(seconds)
        cert = self._ca.issue_cert(self._address, not_before=begin, not_after=end)
        cert.cert_chain_pems[0].write_to_path(self.paths.server_cert)
        cert.private_key_pem.write_to_path(self.paths.server_key)

    def issue_client(self, seconds: float = YEAR) -> None:
        """Likewise."""
        begin, end = _times(seconds)
        cert = self._ca.issue_cert(
            "flannel@example.org",
            common_name="flannel",
            not_before=begin,
            not_after=end,
        )
        cert.cert_chain_pems[0].write_to_path(self.paths.client_cert)
        cert.private_key_pem.write_to_path(self.paths.client_key)


def _times(seconds: float) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=1), now + timedelta(seconds=seconds)
