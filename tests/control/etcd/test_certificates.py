"""Certificates that end, and new ones in their files while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import trustme
from hypothesis import given, strategies as st

from flannelette.control.etcd.certificates import Certificates, not_after
from flannelette.control.etcd.settings import EtcdSettings
from tests.helpers.authority import Authority
from tests.helpers.etcd import (
    Etcd,
    opened,
    require_etcd,
    running_etcd,
    settled as settled,
)
from tests.helpers.storerig import IPS, acquire, eventually, watching

SOON, LATE = datetime(2031, 2, 28, 23, 59, 58), datetime(2050, 1, 1, 0, 0, 1)


def pem(end: datetime) -> bytes:
    cert = trustme.CA().issue_cert("a.example.org", not_after=end)
    return cert.cert_chain_pems[0].bytes()


@pytest.mark.parametrize("end", [SOON, LATE], ids=["UTCTime", "GeneralizedTime"])
def test_the_end_of_a_certificate(end: datetime) -> None:
    """RFC 5280 section 4.1.2.5: years from 2050 on have another form."""
    assert not_after(pem(end)) == end.replace(tzinfo=UTC)
    assert not_after(b"a remark before it\n" + pem(end) + pem(SOON)) == (
        end.replace(tzinfo=UTC)
    )


ONE = pem(SOON)


@given(st.one_of(st.binary(), st.binary().map(lambda it: ONE[:27] + it + ONE[-26:])))
def test_what_is_no_certificate_has_no_end(data: bytes) -> None:
    assert not_after(data) is None


@given(st.integers(28, len(ONE) - 28), st.sampled_from(b"A/+09zZ\n"))
def test_a_damaged_certificate_raises_nothing(at: int, byte: int) -> None:
    end = not_after(ONE[:at] + bytes([byte]) + ONE[at + 1 :])
    assert end is None or isinstance(end, datetime)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings_of(authority: Authority) -> EtcdSettings:
    paths = authority.paths
    return EtcdSettings(
        ("https://127.0.0.1:1",),
        keyfile=paths.client_key,
        certfile=paths.client_cert,
        cafile=paths.ca,
    )


def test_new_files_are_read_and_told_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(settings_of(authority))
    before = certificates.files
    assert not certificates.read_again()
    authority.issue_client()
    assert certificates.read_again()
    assert not certificates.read_again()
    assert certificates.files not in (before, None)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_what_cannot_be_used_is_not_taken_and_told_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Half-written, or not there: looked at again and again."""
    certificates = Certificates(settings_of(authority))
    before, key = certificates.files, Path(authority.paths.client_key)
    good = key.read_bytes()
    for bad in (b"-----BEGIN", None):
        caplog.clear()
        key.unlink() if bad is None else key.write_bytes(bad)
        for _ in range(3):
            assert not certificates.read_again()
        assert certificates.files == before
        (record,) = caplog.records
        assert "--etcd-keyfile" in record.getMessage()
    key.write_bytes(good)
    assert not certificates.read_again()
    assert certificates.files == before


def test_whether_ours_has_ended(authority: Authority) -> None:
    assert Certificates(settings_of(authority)).ran_out() is None
    authority.issue_client(seconds=-1)
    assert Certificates(settings_of(authority)).ran_out() is not None
    only_ca = EtcdSettings(("https://127.0.0.1:1",), cafile=authority.paths.ca)
    assert Certificates(only_ca).ran_out() is None
    assert Certificates(EtcdSettings(("http://127.0.0.1:1",))).ran_out() is None


@pytest.fixture
def etcd(authority: Authority, tmp_path: Path) -> Iterator[Etcd]:
    require_etcd()
    with running_etcd(tmp_path, authority.paths) as etcd:
        yield etcd


def connections(etcd: Etcd) -> int:
    """Of ours, to that server."""
    return sum(
        one.raddr[1:] == (etcd.port,) and one.status == psutil.CONN_ESTABLISHED
        for one in psutil.Process().net_connections("tcp")
    )


async def test_new_certificates_are_used_when_the_old_ones_do_not_serve(
    etcd: Etcd, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """First the client's runs out, then both ends get another authority's."""
    authority.issue_client(seconds=3)  # whole ones are told: 2 at least
    async with opened(etcd.settings()) as store, watching(store) as watcher:
        await watcher.snapshot()
        await eventually(lambda: store.status().connected)
        certificates = Certificates(etcd.settings())
        await eventually(lambda: certificates.ran_out() is not None)
        etcd.stop()
        etcd.start()
        ran_out = "our client certificate ran out at "
        await eventually(lambda: ran_out in (store.status().error or ""))
        authority.issue_client()
        await eventually(lambda: store.status().connected)
        lease = await acquire(store, IPS[0])
        assert (await watcher.added()).subnet == lease.subnet
        etcd.stop()
        Authority(etcd.directory)
        etcd.start()
        await eventually(lambda: not store.status().connected)
        await eventually(lambda: store.status().connected)
        await store.renew(lease)
        await watcher.added()
        await eventually(lambda: connections(etcd) == 1)  # the others are closed


async def test_new_certificates_on_request(etcd: Etcd, authority: Authority) -> None:
    """SIGHUP: what begins from now on uses them, and what goes on is not cut off."""
    async with opened(etcd.settings()) as store, watching(store) as watcher:
        await watcher.snapshot()
        await eventually(lambda: store.status().connected)
        authority.issue_client()
        store.reload()
        lease = await acquire(store, IPS[0])
        assert (await watcher.added()).subnet == lease.subnet
        assert connections(etcd) == 2
        assert store.status().connected
