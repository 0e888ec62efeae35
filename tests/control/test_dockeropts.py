"""docker-opts: flannel-behaviour.md D1 to D3, T42."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.benchmarks.netns import inside, ip
from flannelette.control import dockeropts
from flannelette.control.errors import ConfigError
from tests.helpers.ns import needs_namespaces

SAMPLE = """\
FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.74.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=false
"""
EACH = """\
DOCKER_OPT_BIP="--bip=10.1.74.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1472"
"""
ALL = ' --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"\n'
UNMASKED = """\
DOCKER_OPT_BIP="--bip=10.1.74.1/24"
DOCKER_OPT_MTU="--mtu=1472"
DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"
"""


def written(tmp_path: Path, sample: str, *flags: str, **environ: str) -> str:
    source, output = tmp_path / "subnet.env", tmp_path / "run" / "docker.env"
    source.write_text(sample)
    argv = ["-f", str(source), "-d", str(output), *flags]
    assert dockeropts.main(argv, environ) == 0
    assert output.stat().st_mode & 0o777 == 0o644
    return output.read_text()


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], f'{EACH}DOCKER_OPTS="{ALL}'),
        (["-i"], EACH),
        (["-c"], f'DOCKER_OPTS="{ALL}'),
        (["-i", "-c"], f'{EACH}DOCKER_OPTS="{ALL}'),
        (["-ic"], f'{EACH}DOCKER_OPTS="{ALL}'),
        (["-k", "CUSTOM_KEY"], f'{EACH}CUSTOM_KEY="{ALL}'),
        (["-kCUSTOM_KEY", "-c"], f'CUSTOM_KEY="{ALL}'),
        (["-m"], UNMASKED),
    ],
)
def test_the_output_is_the_scripts(tmp_path: Path, flags: list[str], text: str) -> None:
    """D1, D2, T42; and written anew each time (D3)."""
    assert written(tmp_path, SAMPLE, *flags) == text
    assert written(tmp_path, SAMPLE, *flags) == text


def test_docker_masquerades_where_the_daemon_does_not(tmp_path: Path) -> None:
    """D2."""
    sample = SAMPLE.replace("false", "true")
    assert "--ip-masq=false" in written(tmp_path, sample, "-i")


def test_a_value_there_is_kept_in_front(tmp_path: Path) -> None:
    """D2: the file's before the environment's, as when a shell reads it."""
    assert written(tmp_path, SAMPLE, "-c", DOCKER_OPTS="-D") == f'DOCKER_OPTS="-D{ALL}'
    sample = f'{SAMPLE}DOCKER_OPTS="--debug"  # ours\n'
    text = written(tmp_path, sample, "-c", DOCKER_OPTS="-D")
    assert text == f'DOCKER_OPTS="--debug{ALL}'


ASCII = st.characters(codec="ascii", exclude_characters="\0\r")


@given(before=st.text(ASCII) | st.text('\\"$` a\n'))
def test_a_shell_reads_back_what_was_kept(before: str) -> None:
    line = dockeropts.combined([("MTU", "--mtu=9")], "K", before)
    script = f'{line}\nprintf "%s" "$K"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == f"{before} --mtu=9"


def test_quotes_comments_and_export(tmp_path: Path) -> None:
    """S3: it is a shell's file."""
    sample = SAMPLE.replace("FLANNEL_MTU=1472", 'export FLANNEL_MTU="1472" # bytes')
    assert written(tmp_path, f"# here\n\n{sample}junk\n", "-i") == EACH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FLANNEL_IPMASQ=false", "FLANNEL_IPMASQ=maybe"),
        ("FLANNEL_IPMASQ=false", "FLANNEL_IPMASQ="),
        ("FLANNEL_IPMASQ=false\n", ""),
        ("FLANNEL_SUBNET=10.1.74.1/24", "FLANNEL_SUBNE"),
        ("10.1.74.1/24", "10.1.74.1/33"),
        ("10.1.74.1/24", "10.1.74.1"),
        ("10.1.74.1/24", "fd00::1/64"),
        ("10.1.74.1/24", "'10.1.74.1/24;reboot'"),
        ("1472", "1472x"),
        ("1472", '"1472'),
        ("FLANNEL_MTU=1472\n", ""),
    ],
)
def test_a_wrong_subnet_file(tmp_path: Path, old: str, new: str) -> None:
    """D3: and nothing is written."""
    with pytest.raises(ConfigError, match=r"subnet\.env"):
        written(tmp_path, SAMPLE.replace(old, new))
    assert not (tmp_path / "run").exists()


@given(text=st.text() | st.text("FLANEL_SUBTMPQIK=/.01\"' \n\\#"))
def test_any_subnet_file_is_understood_or_refused(text: str) -> None:
    try:
        found = dockeropts.options(
            dockeropts.assigned(text, Path("f")), Path("f"), ipmasq=True
        )
    except ConfigError:
        return
    assert len(found) == 3


@pytest.mark.parametrize(
    "flags", [["-k", "a b"], ["-k", ""], ["-k"], ["-x"], ["word"], ["-m", "x"]]
)
def test_wrong_flags(tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(ConfigError):
        written(tmp_path, SAMPLE, *flags)


@pytest.mark.parametrize("flag", ["-h", "-?", "--help"])
def test_help(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dockeropts.main([flag], {}) == 0
    assert "/run/docker_opts.env" in capsys.readouterr().out


def test_no_subnet_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dockeropts.main(["-f", str(tmp_path / "none")], {})


def test_letters_beyond_ascii_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ASCII"):
        written(tmp_path, SAMPLE, DOCKER_OPTS="ä")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """/dev/stdout is one."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "docker.env").symlink_to(tmp_path / "real")
    (tmp_path / "real").touch(0o644)
    assert written(tmp_path, SAMPLE, "-i") == EACH
    assert (tmp_path / "run" / "docker.env").is_symlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "subnet.env").write_text(SAMPLE)
    code = "import sys; from flannelette.control import dockeropts; dockeropts.main"
    argv = ["-f", str(tmp_path / "subnet.env"), "-d", "/dev/stdout", "-i"]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}(sys.argv[1:], {{}})", *argv],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == EACH
    assert Path("/dev/stdout").is_symlink()


# ---- a route through a gateway -------------------------------------------------------

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t004A010A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t004B010A\t090200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the text is of a little endian")
@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [
        ("10.1.75.0/24", "192.0.2.9"),
        ("10.1.74.0/24", None),
        ("10.1.75.0/25", None),
        ("10.1.76.0/24", None),
    ],
)
def test_the_gateway_of_a_route(subnet: str, gateway: str | None) -> None:
    found = dockeropts.gateway_of(IPv4Network(subnet), TABLE)
    assert found == (gateway and IPv4Address(gateway))


@needs_namespaces
def test_a_route_that_is_there_already(tmp_path: Path) -> None:
    """D3: the output is written, and the exit code is 1."""
    name = f"fld{os.getpid()}-h"
    source, output = tmp_path / "subnet.env", tmp_path / "docker.env"
    source.write_text(SAMPLE)
    command = [sys.executable, "-m", "flannelette.control", "docker-opts"]
    command += ["-f", str(source), "-d", str(output)]
    ip([f"netns add {name}"])
    try:
        lines = [
            "link add d0 type veth peer name d1",
            "address add 192.0.2.1/24 dev d0",
        ]
        ip(
            [
                *lines,
                "link set d0 up",
                "link set d1 up",
                "route add 10.1.74.0/24 via 192.0.2.9",
            ],
            name,
        )
        with inside(name):
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _, err = process.communicate(timeout=60)
    finally:
        ip([f"netns delete {name}"])
    assert process.returncode == 1
    assert "route to 10.1.74.0/24 already, through 192.0.2.9" in err
    assert output.exists()
