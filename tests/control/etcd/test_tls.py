"""TLS to etcd, and what is said when it fails (E36, E37)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flannelette.control.etcd.settings import EtcdSettings
from tests.helpers.etcd import (
    Etcd,
    TLSPaths,
    make_tls,
    opened,
    refusal,
    require_etcd,
    running_etcd,
    settled as settled,
)
from tests.helpers.storerig import (
    IPS,
    acquire,
    eventually,
    watching,
)

require_etcd()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLSPaths:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_etcd(tls: TLSPaths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with running_etcd(tmp_path_factory.mktemp("etcd"), tls) as etcd:
        yield etcd


async def test_tls_with_a_client_certificate(tls_etcd: Etcd) -> None:
    """E36, E37."""
    async with opened(tls_etcd.settings()) as store:
        lease = await acquire(store, IPS[0])
        async with watching(store) as watcher:
            await watcher.snapshot()
            await eventually(lambda: store.status().connected)
        await store.renew(lease)


async def test_a_ca_file_alone_is_enough_for_a_server_that_asks_no_more(
    tls: TLSPaths, tmp_path: Path
) -> None:
    """Where flanneld ignores it (E37)."""
    with running_etcd(tmp_path, tls, client_certificates=False) as etcd:
        settings = EtcdSettings((etcd.url,), cafile=tls.ca)
        async with opened(settings) as store:
            await acquire(store, IPS[0])


async def test_a_server_of_another_authority_is_not_trusted(
    tls_etcd: Etcd, tmp_path: Path
) -> None:
    other = make_tls(tmp_path)
    text = await refusal(replace(tls_etcd.settings(), cafile=other.ca))
    assert "CERTIFICATE_VERIFY_FAILED" in text


async def test_without_a_ca_file_the_systems_authorities_decide(
    tls_etcd: Etcd, tls: TLSPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E37: not those that gRPC brings along."""
    settings = replace(tls_etcd.settings(), cafile="")
    assert "CERTIFICATE_VERIFY_FAILED" in await refusal(settings)
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca)
    async with opened(settings) as store:
        await acquire(store, IPS[1])


async def test_a_server_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    tls = make_tls(tmp_path, "127.0.0.2")
    with running_etcd(tmp_path, tls) as etcd:
        text = await refusal(etcd.settings())
    assert "name" in text.lower()


@pytest.mark.parametrize("strange", [False, True])
async def test_a_server_that_wants_another_client_certificate(
    tls_etcd: Etcd, tmp_path: Path, strange: bool
) -> None:
    other = make_tls(tmp_path)
    settings = replace(
        tls_etcd.settings(),
        certfile=other.client_cert if strange else "",
        keyfile=other.client_key if strange else "",
    )
    assert "client certificate" in await refusal(settings)


async def test_plaintext_and_tls_do_not_meet(
    etcd: Etcd, tls_etcd: Etcd, tls: TLSPaths
) -> None:
    https = etcd.url.replace("http:", "https:")
    http = tls_etcd.url.replace("https:", "http:")
    """Either end may be the one that hangs up, and gRPC says which."""
    for settings, other in (
        (EtcdSettings((https,), cafile=tls.ca), "http"),
        (EtcdSettings((http,)), "https"),
    ):
        text = await refusal(settings)
        assert re.search("ocket closed|Connection reset", text)
        assert f"(is it {other}:// there?)" in text


def test_a_handshake_that_fails_writes_nothing_to_stderr(
    tls_etcd: Etcd, tmp_path: Path
) -> None:
    """gRPC's C core does, once a second, unless told otherwise."""
    other = make_tls(tmp_path)
    script = (
        "import asyncio, sys\n"
        "from flannelette.control.errors import StoreUnavailable\n"
        "from flannelette.control.etcd.store import EtcdStore, EtcdSettings\n"
        "async def main():\n"
        "    store = EtcdStore(EtcdSettings((sys.argv[1],), cafile=sys.argv[2]))\n"
        "    try:\n"
        "        await store.network_config()\n"
        "    except StoreUnavailable:\n"
        "        print('refused')\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    # That of this process, which has imported the store, would do it in its stead.
    environ = {name: it for name, it in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", script, tls_etcd.url, other.ca],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")
