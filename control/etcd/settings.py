"""Where etcd is and how to speak to it: the --etcd-* flags, checked (E36 to E38)."""

from __future__ import annotations

import logging
import posixpath
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flannelette.control.errors import ConfigError

log = logging.getLogger(__name__)

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
)


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """The --etcd-* flags. Raises ConfigError for what cannot be meant."""

    endpoints: tuple[str, ...]
    """`http://host:port`, `https://host:port` or `host:port`."""
    prefix: str = "/coreos.com/network"
    keyfile: str = ""
    certfile: str = ""
    cafile: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigError("--etcd-endpoints names no endpoint")
        for flag, other in (("keyfile", "certfile"), ("certfile", "keyfile")):
            if getattr(self, flag) and not getattr(self, other):
                raise ConfigError(f"--etcd-{flag} needs --etcd-{other}")

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of each endpoint, in order."""
        return tuple(_split(endpoint)[1] for endpoint in self.endpoints)

    @property
    def tls(self) -> bool:
        """The first endpoint's scheme decides for all (E37).

        Without a scheme, a file does: unlike flanneld's, a CA file alone counts."""
        scheme = _split(self.endpoints[0])[0]
        files = self.keyfile or self.certfile or self.cafile
        return scheme == "https" or (not scheme and bool(files))

    def key(self, *names: str) -> bytes:
        """A key below the prefix, cleaned as Go's path.Join cleans it (E1)."""
        path = "/".join(part for part in (self.prefix, *names) if part)
        clean = posixpath.normpath(path)
        if clean.startswith("//"):  # which POSIX treats as special and Go does not
            clean = clean[1:]
        return clean.encode("utf-8", "surrogateescape")


def _split(endpoint: str) -> tuple[str, str]:
    """Scheme (http, https or empty) and `host:port`."""
    endpoint = endpoint.strip()
    if "@" in endpoint:  # not shown: what stands before the @ may be a secret
        raise ConfigError(
            "--etcd-endpoints must not hold a user; use --etcd-username and "
            "--etcd-password"
        )
    url = endpoint if "://" in endpoint else f"//{endpoint}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"--etcd-endpoints: {endpoint!r}: {error}") from None
    if parts.scheme not in ("", "http", "https"):
        raise ConfigError(f"--etcd-endpoints: {endpoint!r} is neither http nor https")
    if not host or not port:
        raise ConfigError(f"--etcd-endpoints: {endpoint!r} is no host:port")
    return parts.scheme, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """PEM text; None where the file is not given."""

    ca: bytes | None
    key: bytes | None = field(repr=False)
    cert: bytes | None


def read_tls(settings: EtcdSettings) -> TLSFiles | None:
    """Read the certificates; None for plaintext. Raises ConfigError naming the flag.

    OpenSSL has a look at them first, for gRPC says only that it failed."""
    if not settings.tls:
        if settings.keyfile or settings.certfile or settings.cafile:
            log.warning(
                "etcd is spoken to without TLS and without the certificates: "
                "endpoint=%s",
                settings.endpoints[0],
            )
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca = _read("cafile", settings.cafile) if settings.cafile else _system_roots()
    if settings.cafile:
        try:
            context.load_verify_locations(settings.cafile)
        except OSError as error:  # SSLError is one, and so is that it has just gone
            raise ConfigError(f"--etcd-cafile {settings.cafile}: {error}") from None
    if not settings.certfile:
        return TLSFiles(ca, None, None)
    cert = _read("certfile", settings.certfile)
    key = _read("keyfile", settings.keyfile)
    try:
        # The password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(settings.certfile, settings.keyfile, password="")
    except OSError as error:
        raise ConfigError(
            f"--etcd-certfile {settings.certfile}, "
            f"--etcd-keyfile {settings.keyfile}: {_not_pem(cert, key) or error}"
        ) from None
    return TLSFiles(ca, key, cert)


def _not_pem(cert: bytes, key: bytes) -> str | None:
    """What is wrong with files of which OpenSSL says no more than "PEM lib"."""
    if _CERTIFICATE not in cert:
        swapped = _KEY in cert and _CERTIFICATE in key
        return "swapped, it seems" if swapped else "no certificate in the first"
    if _KEY not in key:
        return "no private key in the second"
    return "the private key is encrypted" if b"ENCRYPTED" in key else None


# The ends of PEM's first lines, whichever kind it is.
_CERTIFICATE, _KEY = b" CERTIFICATE-----", b"PRIVATE KEY-----"


def _read(flag: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--etcd-{flag} {path}: {error.strerror}") from None


def _system_roots() -> bytes | None:
    """The system's authorities (E37). gRPC would take those it was built with."""
    for path in (ssl.get_default_verify_paths().cafile, *_SYSTEM_ROOTS):
        if path and Path(path).is_file():
            return _read("cafile", path)
    return None
