"""MAC addresses, and the file that keeps our own."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.control import mac

ONE = 0x0A1B2C3D4E5F


@pytest.mark.parametrize(
    "text",
    [
        "0a:1b:2c:3d:4e:5f",
        "0A:1B:2C:3D:4E:5F",
        "0a-1b-2c-3d-4e-5f",
        "0a1b.2c3d.4e5f",
    ],
)
def test_go_s_forms_are_read_l6(text: str) -> None:
    assert mac.parse(text) == ONE
    assert mac.show(ONE) == "0a:1b:2c:3d:4e:5f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0a1b2c3d4e5f",
        "0a:1b:2c:3d:4e",
        "0a:1b:2c:3d:4e:5f:60:71",  # EUI-64: of no Ethernet
        "0a:1b-2c:3d:4e:5f",
        "a:1b:2c:3d:4e:5f",
        "0a:1b:2c:3d:4e:5g",
        "0a:1b:2c:3d:4e:5f\n",
        "\u0660a:1b:2c:3d:4e:5f",
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a MAC address"):
        mac.parse(text)


@given(st.integers(0, 2**48 - 1))
def test_what_is_shown_is_read(number: int) -> None:
    assert mac.parse(mac.show(number)) == number


def test_unicast() -> None:
    assert mac.is_unicast(ONE)
    assert not mac.is_unicast(0)
    assert not mac.is_unicast(0xFFFFFFFFFFFF)
    assert not mac.is_unicast(0x01005E000001)


def test_a_fresh_one_is_local_and_unicast_v7() -> None:
    several = {mac.fresh() for _ in range(64)}
    assert len(several) == 64
    assert all(each >> 40 & 3 == 2 for each in several)


def test_ours_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "subnet.env.mac"
    ours = mac.keep(path)
    assert path.read_text() == mac.show(ours) + "\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert mac.keep(path) == ours
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert not caplog.records


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 9, b"00:00:00:00:00:00", b"ff:ff:ff:ff:ff:ff", b"a" * 99]
)
def test_a_damaged_file_is_replaced(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mac"
    path.write_bytes(content)
    ours = mac.keep(path)
    assert mac.is_unicast(ours)
    assert path.read_text() == mac.show(ours) + "\n"
    [record] = caplog.records
    assert "damaged" in record.getMessage()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory") as caught:
        mac.keep(tmp_path)
    assert caught.value.errno == errno.EISDIR
    assert str(tmp_path) in caught.value.__notes__[0]
