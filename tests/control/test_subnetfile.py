"""subnet.env: flannel-behaviour.md S1 to S3, E15, T36."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.control.lease import Lease, LeaseAttrs, Subnets
from flannelette.control.netconfig import NetworkConfig
from flannelette.control.subnetfile import check, previous_subnets, write

NETWORK = NetworkConfig.parse('{"Network": "10.5.0.0/16"}')
SUBNET = IPv4Network("10.5.72.0/24")


def lease(subnet: str, subnet6: str | None = None) -> Lease:
    six = None if subnet6 is None else IPv6Network(subnet6)
    return Lease(IPv4Network(subnet), LeaseAttrs(IPv4Address("192.0.2.1")), six)


LEASE = lease("10.5.72.0/24")


@pytest.fixture
def umask_077() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_file_is_flannelds_byte_for_byte(tmp_path: Path) -> None:
    """S1: SUBNET is the base and 1; unquoted; a newline at the end."""
    path = tmp_path / "subnet.env"
    write(path, NETWORK, LEASE, 1472)
    assert path.read_bytes() == (
        b"FLANNEL_NETWORK=10.5.0.0/16\n"
        b"FLANNEL_SUBNET=10.5.72.1/24\n"
        b"FLANNEL_MTU=1472\n"
        b"FLANNEL_IPMASQ=false\n"
    )
    write(path, NETWORK, LEASE, 1472, ipmasq=True)
    assert path.read_bytes().endswith(b"FLANNEL_IPMASQ=true\n")


@pytest.mark.usefixtures("umask_077")
def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """S2."""
    path = tmp_path / "a" / "b" / "subnet.env"
    write(path, NETWORK, LEASE, 1472)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert path.parent.parent.stat().st_mode & 0o777 == 0o755


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    write(tmp_path / "subnet.env", NETWORK, LEASE, 1472)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """S2: a new inode, and nothing else left in the directory."""
    path = tmp_path / "subnet.env"
    write(path, NETWORK, LEASE, 1472)
    with open(path, "rb") as reader:
        write(path, NETWORK, lease("10.5.9.0/24"), 1400)
        assert b"10.5.72.1" in reader.read()
    assert b"10.5.9.1" in path.read_bytes()
    assert os.listdir(tmp_path) == ["subnet.env"]


def test_the_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        calls.append("fsync")
        fsync(fd)

    def replaced(source: str, target: Path) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write(tmp_path / "subnet.env", NETWORK, LEASE, 1472)
    assert calls == ["fsync", "replace"]


def test_a_failed_write_leaves_the_old_file_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "subnet.env"
    write(path, NETWORK, LEASE, 1472)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        write(path, NETWORK, lease("10.5.9.0/24"), 1472)
    assert caught.value.__notes__ == [f"while writing the subnet file {path}"]
    assert b"10.5.72.1" in path.read_bytes()
    assert os.listdir(tmp_path) == ["subnet.env"]


def test_a_check_leaves_everything_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    check(path)
    assert os.listdir(tmp_path) == []
    write(path, NETWORK, LEASE, 1472)
    before = path.read_bytes(), path.stat().st_ino
    check(path)
    assert (path.read_bytes(), path.stat().st_ino) == before
    assert os.listdir(tmp_path) == ["subnet.env"]


def test_a_check_makes_the_directory(tmp_path: Path) -> None:
    check(tmp_path / "a" / "b" / "subnet.env")
    assert os.listdir(tmp_path / "a" / "b") == []


@pytest.mark.parametrize(
    "place",
    ["/proc/subnet.env", "/proc/nowhere/subnet.env", "/dev/null/subnet.env", "."],
)
def test_a_check_fails_where_writing_would(tmp_path: Path, place: str) -> None:
    """Nobody, not even root, makes a file in /proc. `.` is a directory."""
    path = tmp_path / place
    with pytest.raises(OSError, match="Errno") as caught:
        check(path)
    assert caught.value.__notes__ == [f"the subnet file {path} cannot be written"]
    with pytest.raises(OSError, match="Errno"):
        write(path, NETWORK, LEASE, 1472)


def test_a_check_refuses_what_is_no_file(tmp_path: Path) -> None:
    """A rename would put our file in the place of a device."""
    path = tmp_path / "subnet.env"
    os.mkfifo(path)
    for place in (path, Path("/dev/null")):
        with pytest.raises(OSError, match="Not a regular file") as caught:
            check(place)
        assert caught.value.__notes__ == [f"the subnet file {place} cannot be written"]


def test_a_check_fails_where_reading_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "subnet.env"
    write(path, NETWORK, LEASE, 1472)

    def unreadable(name: Path, mode: str) -> None:
        raise OSError(5, "Input/output error", str(name))

    name = "flannelette.control.subnetfile.open"
    monkeypatch.setattr(name, unreadable, raising=False)
    with pytest.raises(OSError, match="Input/output") as caught:
        check(path)
    assert caught.value.__notes__ == [f"while reading the subnet file {path}"]


def test_what_was_written_is_remembered(tmp_path: Path) -> None:
    """E15."""
    path = tmp_path / "subnet.env"
    assert previous_subnets(path) is None
    write(path, NETWORK, LEASE, 1472)
    assert previous_subnets(path) == Subnets(SUBNET)


@pytest.mark.parametrize(
    "text",
    [
        "FLANNEL_SUBNET=10.5.72.1/24",
        "FLANNEL_SUBNET=10.5.72.1/24\r\n",
        'FLANNEL_SUBNET="10.5.72.1/24"\n',
        "FLANNEL_SUBNET='10.5.72.1/24'\n",
        "export FLANNEL_SUBNET=10.5.72.1/24\n",
        "  FLANNEL_SUBNET = 10.5.72.1/24  # ours\n",
        "FLANNEL_SUBNET: 10.5.72.1/24\n",
        "# a comment\n\nFLANNEL_MTU=x\nFLANNEL_SUBNET=10.5.72.1/24\nFOO=bar\n",
        "FLANNEL_SUBNET=10.9.9.1/24\nFLANNEL_SUBNET=10.5.72.1/24\n",
        "FLANNEL_SUBNET=10.5.72.1/24,nonsense,10.5.0.1\n",  # T36
        "FLANNEL_SUBNET=10.5.72.0/24\n",
        "FLANNEL_IPV6_SUBNET=fd00::1\nFLANNEL_SUBNET=10.5.72.1/24\n",
        "FLANNEL_IPV6_SUBNET=fd00::1%1/64\nFLANNEL_SUBNET=10.5.72.1/24\n",
        "FLANNEL_IPV6_SUBNET=10.5.9.1/24\nFLANNEL_SUBNET=10.5.72.1/24\n",
        "FLANNEL_IPV6_SUBNET=fd00::/64,fd01::/64\nFLANNEL_SUBNET=10.5.72.1/24\n",
    ],
)
def test_dotenv_is_read_in_all_its_forms(tmp_path: Path, text: str) -> None:
    """S3."""
    path = tmp_path / "subnet.env"
    path.write_bytes(text.encode())
    assert previous_subnets(path) == Subnets(SUBNET)


def test_both_subnets_of_dual_stack(tmp_path: Path) -> None:
    """S1: its order; base and 1 for both. E15: both are remembered."""
    path = tmp_path / "subnet.env"
    dual = NetworkConfig.parse(
        '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:1::/48"}'
    )
    write(path, dual, lease("10.5.72.0/24", "fd00:1:0:7::/64"), 1430)
    assert path.read_bytes() == (
        b"FLANNEL_NETWORK=10.5.0.0/16\n"
        b"FLANNEL_SUBNET=10.5.72.1/24\n"
        b"FLANNEL_IPV6_NETWORK=fd00:1::/48\n"
        b"FLANNEL_IPV6_SUBNET=fd00:1:0:7::1/64\n"
        b"FLANNEL_MTU=1430\n"
        b"FLANNEL_IPMASQ=false\n"
    )
    assert previous_subnets(path) == Subnets(SUBNET, IPv6Network("fd00:1:0:7::/64"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FLANNEL_IPV6_SUBNET=fd00::1/64\n",
        "FLANNEL_SUBNET=\n",
        "FLANNEL_SUBNET=nonsense\n",
        "FLANNEL_SUBNET=10.5.72.1\n",
        "FLANNEL_SUBNET=10.5.72.1/33\n",
        "FLANNEL_SUBNET=10.5.72.1/255.255.255.0\n",
        "FLANNEL_SUBNET=fd00::1/64\n",
        "FLANNEL_SUBNET=10.5.72.1/24,10.5.73.1/24\n",
        "#FLANNEL_SUBNET=10.5.72.1/24\n",
        "MY_FLANNEL_SUBNET=10.5.72.1/24\n",
        "FLANNEL_SUBNETS=10.5.72.1/24\n",
        "FLANNEL_SUBNET=10.5.72.1/24#no\n",
        "FLANNEL_SUBNET=''10.5.72.1/24\n",
        "FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_SUBNET=\n",
    ],
)
def test_anything_else_is_no_subnet(tmp_path: Path, text: str) -> None:
    """E15: more than one CIDR is ignored."""
    path = tmp_path / "subnet.env"
    path.write_bytes(text.encode())
    assert previous_subnets(path) is None


@given(
    st.binary(max_size=200)
    | st.binary(max_size=40).map(lambda junk: b"\nexport FLANNEL_SUBNET=" + junk)
    | st.binary(max_size=40).map(
        lambda junk: b"FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_IPV6_SUBNET=" + junk
    )
)
def test_any_bytes_give_a_result(junk: bytes) -> None:
    fd = os.memfd_create("subnet.env")
    try:
        os.write(fd, junk)
        subnets = previous_subnets(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)
    assert subnets is None or isinstance(subnets.v4, IPv4Network)


def test_a_file_without_an_end_is_not_read_to_it() -> None:
    assert previous_subnets(Path("/dev/zero")) is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        previous_subnets(tmp_path)
    assert caught.value.__notes__ == [f"while reading the subnet file {tmp_path}"]
