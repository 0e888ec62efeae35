"""The --etcd-* flags: endpoints, prefix, certificates (E1, E36 to E38)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, strategies as st

from flannelette.control.errors import ConfigError
from flannelette.control.etcd import settings as settings_module
from flannelette.control.etcd.settings import EtcdSettings, read_tls
from tests.helpers.etcd import TLSPaths, make_tls

PLAIN = ("http://127.0.0.1:2379",)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSPaths:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("/coreos.com/network", b"/coreos.com/network/config"),
        ("/coreos.com/network/", b"/coreos.com/network/config"),
        ("//coreos.com///network//", b"/coreos.com/network/config"),
        ("/a/./b/../c", b"/a/c/config"),
        ("/../a", b"/a/config"),
        ("../a", b"../a/config"),
        ("a", b"a/config"),
        ("./a", b"a/config"),
        ("/", b"/config"),
        ("", b"config"),
        ("/caf\u00e9", "/caf\u00e9/config".encode()),
    ],
)
def test_the_prefix_is_cleaned_as_go_cleans_it(prefix: str, key: bytes) -> None:
    """E1: path.Join."""
    assert EtcdSettings(PLAIN, prefix).key("config") == key


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://127.0.0.1:2379", "127.0.0.1:2379"),
        ("https://etcd.example.org:2379/", "etcd.example.org:2379"),
        ("etcd:4001", "etcd:4001"),
        (" http://etcd:4001 ", "etcd:4001"),
        ("http://[::1]:2379", "[::1]:2379"),
        ("[fd00::1]:2379", "[fd00::1]:2379"),
    ],
)
def test_endpoints(endpoint: str, address: str) -> None:
    """E36."""
    assert EtcdSettings((endpoint,)).addresses == (address,)


@pytest.mark.parametrize(
    "endpoints",
    [
        (),
        ("",),
        ("http://etcd",),
        ("etcd",),
        ("http://:2379",),
        ("unix:///run/etcd",),
        ("ftp://etcd:2379",),
        ("http://etcd:port",),
        ("http://etcd:70000",),
        ("http://[::1:2379",),
        ("http://etcd:2379", "nonsense"),
    ],
)
def test_a_wrong_endpoint_names_the_flag(endpoints: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--etcd-endpoints"):
        EtcdSettings(endpoints)


@given(st.text(max_size=30))
def test_any_endpoint_is_accepted_or_refused(text: str) -> None:
    try:
        settings = EtcdSettings((text,))
    except ConfigError:
        return
    host, _, port = settings.addresses[0].rpartition(":")
    assert host
    assert 0 < int(port) < 65536


def test_the_first_scheme_decides_for_all(tls: TLSPaths) -> None:
    """E37. A CA file alone counts, which flanneld ignores."""
    cases: list[tuple[tuple[str, ...], str, bool]] = [
        (("http://a:1", "https://b:1"), "", False),
        (("https://a:1", "http://b:1"), "", True),
        (("a:1",), "", False),
        (("a:1",), tls.ca, True),
        (("http://a:1",), tls.ca, False),
        (("https://a:1",), tls.ca, True),
    ]
    for endpoints, cafile, expected in cases:
        assert EtcdSettings(endpoints, cafile=cafile).tls is expected


def test_certificates_without_tls_are_warned_of_once(
    tls: TLSPaths, caplog: pytest.LogCaptureFixture
) -> None:
    settings = EtcdSettings(PLAIN, cafile=tls.ca)
    with caplog.at_level(logging.WARNING):
        assert read_tls(settings) is None
    assert len(caplog.records) == 1
    assert "without TLS" in caplog.text


def test_the_files_are_read(tls: TLSPaths) -> None:
    files = read_tls(
        EtcdSettings(
            ("https://a:1",),
            cafile=tls.ca,
            certfile=tls.client_cert,
            keyfile=tls.client_key,
        )
    )
    assert files is not None
    assert files.ca == Path(tls.ca).read_bytes()
    assert files.cert == Path(tls.client_cert).read_bytes()
    assert files.key == Path(tls.client_key).read_bytes()
    assert "PRIVATE" not in repr(files)


def test_without_a_ca_file_the_systems_authorities_count(
    tls: TLSPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E37. Go and OpenSSL both heed SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca)
    files = read_tls(EtcdSettings(("https://a:1",)))
    assert files is not None
    assert files.ca == Path(tls.ca).read_bytes()


@pytest.mark.parametrize("flag", ["cafile", "certfile", "keyfile"])
@pytest.mark.parametrize("how", ["missing", "directory", "empty", "garbage"])
def test_a_file_that_cannot_be_used_names_its_flag(
    tls: TLSPaths, tmp_path: Path, flag: str, how: str
) -> None:
    bad = tmp_path / "bad"
    if how == "directory":
        bad.mkdir()
    elif how != "missing":
        bad.write_bytes(b"" if how == "empty" else b"\x00\xff no certificate")
    paths = {
        "cafile": tls.ca,
        "certfile": tls.client_cert,
        "keyfile": tls.client_key,
        flag: str(bad),
    }
    with pytest.raises(ConfigError, match=f"--etcd-{flag}") as caught:
        read_tls(EtcdSettings(("https://a:1",), **paths))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["cafile", "certfile", "keyfile"])
def test_a_file_that_goes_while_it_is_read_names_its_flag(
    tls: TLSPaths, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when certificates are renewed. They are read while the daemon runs, and an
    OSError would end it."""
    names = {"cafile": "ca", "certfile": "client_cert", "keyfile": "client_key"}
    paths = {it: tmp_path / it for it in names}
    for it, path in paths.items():
        path.write_bytes(Path(getattr(tls, names[it])).read_bytes())
    read = settings_module._read

    def read_and_gone(name: str, path: str) -> bytes:
        text = read(name, path)
        if name == flag:
            Path(path).unlink()
        return text

    monkeypatch.setattr(settings_module, "_read", read_and_gone)
    settings = EtcdSettings(
        ("https://a:1",), **{it: str(path) for it, path in paths.items()}
    )
    with pytest.raises(ConfigError, match=f"--etcd-{flag}"):
        read_tls(settings)


def test_authorities_of_the_system_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that is one and cannot be read, even by root."""
    monkeypatch.setenv("SSL_CERT_FILE", "/proc/self/mem")
    with pytest.raises(ConfigError, match="/proc/self/mem: Input/output error"):
        read_tls(EtcdSettings(("https://a:1",)))


def test_a_key_of_another_certificate_is_refused(tls: TLSPaths) -> None:
    settings = EtcdSettings(
        ("https://a:1",), certfile=tls.client_cert, keyfile=tls.server_key
    )
    with pytest.raises(ConfigError, match="--etcd-keyfile"):
        read_tls(settings)


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        ("client_key", "client_cert", "swapped, it seems"),
        ("client_key", "client_key", "no certificate in the first"),
        ("client_cert", "client_cert", "no private key in the second"),
    ],
)
def test_files_that_hold_something_else_are_named(
    tls: TLSPaths, cert: str, key: str, why: str
) -> None:
    """OpenSSL says "PEM lib" of all that."""
    certfile, keyfile = getattr(tls, cert), getattr(tls, key)
    with pytest.raises(ConfigError) as caught:
        read_tls(EtcdSettings(("https://a:1",), certfile=certfile, keyfile=keyfile))
    said = f"--etcd-certfile {certfile}, --etcd-keyfile {keyfile}: {why}"
    assert str(caught.value) == said


def test_an_encrypted_key_is_refused_and_asks_nobody(
    tls: TLSPaths, tmp_path: Path
) -> None:
    """OpenSSL would ask for its password on the terminal, and wait for ever."""
    key = tmp_path / "locked.pem"
    plain = load_pem_private_key(Path(tls.client_key).read_bytes(), None)
    locked = BestAvailableEncryption(b"hush")
    key.write_bytes(
        plain.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, locked)
    )
    settings = EtcdSettings(
        ("https://a:1",), certfile=tls.client_cert, keyfile=str(key)
    )
    with pytest.raises(ConfigError, match=r"--etcd-keyfile .*: .* is encrypted$"):
        read_tls(settings)


@pytest.mark.parametrize(("given", "missing"), [("key", "cert"), ("cert", "key")])
def test_a_certificate_and_its_key_go_together(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"--etcd-{missing}file"):
        EtcdSettings(PLAIN, **{f"{given}file": "/x"})


def test_no_secret_is_shown() -> None:
    assert "hush" not in repr(EtcdSettings(PLAIN, username="me", password="hush"))
    with pytest.raises(ConfigError) as caught:
        EtcdSettings(("http://me:hush@etcd:2379",))
    assert "hush" not in str(caught.value)
