"""What tests of several files here start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cni import Delegate, Host
from tests.helpers.firewalls import VARIANTS, use_variant


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def bridge(host: Host) -> Delegate:
    return Delegate(host)


@pytest.fixture(params=VARIANTS)
def variant(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """What iptables is."""
    name: str = request.param
    use_variant(tmp_path, name, monkeypatch)
    return name
