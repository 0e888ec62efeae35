"""What a node knows of itself after a restart, and after a reboot."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from flannelette.control import config, remembered
from flannelette.control.config import Config
from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
OWN = Subnets(IPv4Network("10.5.72.0/24"))
LEASE = Lease(OWN.v4, LeaseAttrs(IPv4Address("192.0.2.1")))


@pytest.fixture
def service(tmp_path: Path) -> Config:
    """Its settings."""
    state = {"STATE_DIRECTORY": str(tmp_path / "lib")}
    return config.parse([f"--subnet-file={tmp_path / 'run/subnet.env'}"], state)


def reboot(service: Config) -> None:
    """/run is empty then."""
    for path in service.subnet_file.parent.iterdir():
        path.unlink()
    service.subnet_file.parent.rmdir()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("/var/lib/flannelette", "/var/lib/flannelette"),
        ("/var/lib/flannelette:/var/lib/other", "/var/lib/flannelette"),
        ("", None),
        ("relative", None),
    ],
)
def test_where_the_service_manager_lets_us(value: str, path: str | None) -> None:
    found = config.parse([], {"STATE_DIRECTORY": value}).state_directory
    assert found == (path and Path(path))


def test_after_a_reboot(service: Config) -> None:
    """And there is no subnet file before there is a lease."""
    assert remembered.previous_subnets(service) is None
    remembered.write(service, NETWORK, LEASE, 1472)
    mac = remembered.own_mac(service)
    reboot(service)
    assert remembered.previous_subnets(service) == OWN
    assert remembered.own_mac(service) == mac
    assert not service.subnet_file.exists()


def test_without_a_directory_of_its_own(service: Config) -> None:
    """E15, and as flanneld after a reboot."""
    plain = replace(service, state_directory=None)
    remembered.write(plain, NETWORK, LEASE, 1472)
    mac = remembered.own_mac(plain)
    assert remembered.previous_subnets(plain) == OWN
    assert remembered.own_mac(plain) == mac
    reboot(plain)
    assert remembered.previous_subnets(plain) is None


def test_the_subnet_file_goes_first(service: Config) -> None:
    remembered.write(service, NETWORK, LEASE, 1472)
    service.subnet_file.write_text("FLANNEL_SUBNET=10.5.9.1/24\n")
    previous = remembered.previous_subnets(service)
    assert previous == Subnets(IPv4Network("10.5.9.0/24"))


def test_what_cannot_be_remembered_is_said_and_no_more(
    service: Config, caplog: pytest.LogCaptureFixture
) -> None:
    assert service.state_directory is not None
    service.state_directory.touch()  # a file
    remembered.write(service, NETWORK, LEASE, 1472)
    assert service.subnet_file.exists()
    assert "a reboot will forget the subnet" in caplog.text
    caplog.clear()
    reboot(service)
    assert remembered.previous_subnets(service) is None
    assert "the last subnet is forgotten" in caplog.text
