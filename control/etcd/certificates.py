"""The certificate files of TLS to etcd, which are replaced while the daemon runs.

A certificate lives for weeks or days, a daemon for months. What is in use shows at the
next handshake whether it still serves; so when a server fails, the files are looked at,
and at SIGHUP. flanneld's client reads its own certificate at each handshake, and the
authorities only at start.
"""

from __future__ import annotations

import logging
import ssl
import time
from datetime import UTC, datetime

from flannelette.control.errors import ConfigError
from flannelette.control.etcd.settings import EtcdSettings, read_tls

log = logging.getLogger(__name__)


class Certificates:
    """What was in the files when they last could be used."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises ConfigError for certificates that cannot be used."""
        self._settings = settings
        self.files = read_tls(settings)
        """None for plaintext."""
        self._problem: str | None = None

    def read_again(self) -> bool:
        """Are there new ones? What cannot be used is said once, and not taken."""
        if self.files is None:
            return False
        try:
            files = read_tls(self._settings)
        except ConfigError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("the old certificates are kept: error=%s", error)
            return False
        self._problem = None
        if files == self.files:
            return False
        self.files = files
        log.info("the certificates have changed: certfile=%r", self._settings.certfile)
        return True

    def ran_out(self) -> str | None:
        """Since when our own certificate is not valid any more; None while it is."""
        pem = self.files and self.files.cert
        end = not_after(pem) if pem else None
        return end.isoformat() if end and end.timestamp() < time.time() else None


def not_after(pem: bytes) -> datetime | None:
    """When the first certificate of a PEM text ends; None if that cannot be told.

    RFC 5280 section 4.1: Certificate { tbsCertificate { [0] version, serialNumber,
    signature, issuer, validity { notBefore, notAfter } ...; the version may be absent.
    """
    try:
        _, _, rest = pem.decode("ascii", "replace").partition(ssl.PEM_HEADER)
        body, _, _ = rest.partition(ssl.PEM_FOOTER)
        der = ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}{body}{ssl.PEM_FOOTER}\n")
        certificate = _members(_members(der)[0][1])[0][1]
        fields = [it for it in _members(certificate) if it[0] != _VERSION]
        tag, text = _members(fields[3][1])[1]
        form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
        return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
    except (ValueError, IndexError):
        return None


_VERSION = 0xA0
_UTC_TIME = 0x17


def _members(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each DER value in a row (X.690 section 8.1.3); the last may
    be cut short. Raises IndexError."""
    members = []
    while der:
        tag, length, at = der[0], der[1], 2
        if length & 0x80:
            at += length & 0x7F
            length = int.from_bytes(der[2:at])
        members.append((tag, der[at : at + length]))
        der = der[at + length :]
    return members
