"""The daemon's settings: flanneld's names and defaults (flannel-behaviour.md 4.1)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from flannelette.control import config
from flannelette.control.config import Config, VersionWanted, parse
from flannelette.control.errors import ConfigError
from flannelette.control.flags import FLAGS, WITHOUT_EFFECT
from flannelette.control.flagvalues import Etcd, Local, Static, StoreChoice
from flannelette.control.goflags import HelpWanted
from tests.helpers.wrongflags import WRONG

# flannel-behaviour.md section 4.1
FLANNELD_DEFAULTS = Config(
    store=Etcd(),
    etcd_endpoints=("http://127.0.0.1:4001", "http://127.0.0.1:2379"),
    etcd_prefix="/coreos.com/network",
    etcd_keyfile="",
    etcd_certfile="",
    etcd_cafile="",
    etcd_username="",
    etcd_password="",
    iface=(),
    iface_regex=(),
    iface_can_reach=None,
    public_ip=None,
    public_ipv6=None,
    subnet_file=Path("/run/flannel/subnet.env"),
    subnet_lease_renew_margin=60,
    datapath="native",
    driver="thread",
    queues=1,
    offload=frozenset({"tso", "uso", "gso", "gro"}),
    batch=64,
    time_stages=0,
    peer_check="peer",
    ip_masq=False,
    ip_masq_fully_random_disable=False,
    iptables_forward_rules=None,
    iptables_resync=5,
    ip_blackhole_route=False,
    healthz_ip=IPv4Address("0.0.0.0"),
    healthz_port=0,
    take_over=False,
    keep_privileges=False,
    operator_socket=Path("/run/flannel/flannelette.sock"),
    verbosity=0,
)


def test_defaults_are_flannelds() -> None:
    assert parse([], {}) == FLANNELD_DEFAULTS


def test_each_flag_has_its_field() -> None:
    argv = [
        "--store=local:/var/lib/x.db",
        "--datapath=python",
        "--driver=loop",
        "--queues=256",
        "--offload=tso,gro",
        "--batch=1",
        "--time-stages=100",
        "--peer-check=strict",
        "--ip-masq",
        "--ip-masq-fully-random-disable",
        "--iptables-forward-rules=true",
        "--iptables-resync=86400",
        "--public-ipv6=2001:db8::7",
        "--ip-blackhole-route",
        "--healthz-ip=::1",
        "--healthz-port=65535",
        "--take-over",
        "--keep-privileges",
        "--operator-socket=/tmp/o.sock",
        "--etcd-endpoints=https://a:1,https://[::1]:2/",
        "--etcd-prefix=/p",
        "--etcd-keyfile=k",
        "--etcd-certfile=c",
        "--etcd-cafile=ca",
        "--etcd-username=u",
        "--etcd-password=p w",
        "-iface=eth0",
        "-iface",
        "192.0.2.1",
        "-iface=2001:db8::1",
        "--iface-regex=^eth",
        "--iface-regex=^10[.]",
        "--iface-can-reach=192.0.2.254",
        "--public-ip=192.0.2.9",
        "--subnet-file=/tmp/subnet.env",
        "--subnet-lease-renew-margin=1439",
        "-v=4",
        "-vmodule=network=2,u*=1",
        "-log_backtrace_at=main.go:42",
        "--kube-subnet-mgr=false",
        "--kube-api-url=https://192.0.2.1:6443",
        "--kubeconfig-file=/etc/kubeconfig",
        "--kube-annotation-prefix=example.com",
        "--net-config-path=/etc/net-conf.json",
        "--set-node-network-unavailable=false",
    ]
    assert parse(argv, {}) == Config(
        store=Local(Path("/var/lib/x.db")),
        etcd_endpoints=("https://a:1", "https://[::1]:2/"),
        etcd_prefix="/p",
        etcd_keyfile="k",
        etcd_certfile="c",
        etcd_cafile="ca",
        etcd_username="u",
        etcd_password="p w",
        iface=("eth0", "192.0.2.1", "2001:db8::1"),
        iface_regex=("^eth", "^10[.]"),
        iface_can_reach=IPv4Address("192.0.2.254"),
        public_ip=IPv4Address("192.0.2.9"),
        public_ipv6=IPv6Address("2001:db8::7"),
        subnet_file=Path("/tmp/subnet.env"),
        subnet_lease_renew_margin=1439,
        datapath="python",
        driver="loop",
        queues=256,
        offload=frozenset({"tso", "gro"}),
        batch=1,
        time_stages=100,
        peer_check="strict",
        ip_masq=True,
        ip_masq_fully_random_disable=True,
        iptables_forward_rules=True,
        iptables_resync=86400,
        ip_blackhole_route=True,
        healthz_ip=IPv6Address("::1"),
        healthz_port=65535,
        take_over=True,
        keep_privileges=True,
        operator_socket=Path("/tmp/o.sock"),
        verbosity=4,
        without_effect=WITHOUT_EFFECT,
    )
    names = {argument.lstrip("-").partition("=")[0] for argument in argv}
    assert {flag.name for flag in FLAGS} - names == {"version"}


def test_a_flag_beats_its_variable() -> None:
    """C1."""
    environ = {"FLANNELD_ETCD_PREFIX": "/env", "FLANNELD_PUBLIC_IP": "192.0.2.7"}
    settings = parse(["--etcd-prefix=/flag"], environ)
    assert settings.etcd_prefix == "/flag"
    assert settings.public_ip == IPv4Address("192.0.2.7")


def test_a_flag_that_spells_the_default_beats_its_variable() -> None:
    settings = parse(["--v=0"], {"FLANNELD_V": "2"})
    assert settings.verbosity == 0


def test_an_empty_variable_is_absent() -> None:
    """C1."""
    environ = {f"FLANNELD_{name}": "" for name in ("V", "STORE", "SUBNET_FILE")}
    assert parse([], environ) == FLANNELD_DEFAULTS


def test_the_variable_of_a_list_is_one_value() -> None:
    """C1: FLANNELD_IFACE is not split."""
    assert parse([], {"FLANNELD_IFACE": "eth0"}).iface == ("eth0",)
    assert parse(["--iface=a"], {"FLANNELD_IFACE": "eth0"}).iface == ("a",)


def test_a_wrong_variable_is_an_error_only_if_it_is_needed() -> None:
    environ = {"FLANNELD_PUBLIC_IP": "x"}
    with pytest.raises(ConfigError, match="the variable FLANNELD_PUBLIC_IP"):
        parse([], environ)
    assert parse(["--public-ip=192.0.2.1"], environ).public_ip is not None


def test_the_version_goes_before_the_environment() -> None:
    """C3."""
    with pytest.raises(VersionWanted):
        parse(["--version"], {"FLANNELD_V": "x"})
    # Images set such a variable; to flanneld it has no meaning.
    assert parse([], {"FLANNELD_VERSION": "v0.28.9"}) == FLANNELD_DEFAULTS
    assert parse(["--version=false"], {}) == FLANNELD_DEFAULTS


def test_help_is_wanted() -> None:
    with pytest.raises(HelpWanted):
        parse(["--help"], {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("etcd", Etcd()),
        ("local:/a/b.db", Local(Path("/a/b.db"))),
        ("local:a:b", Local(Path("a:b"))),
        ("static:peers.toml", Static(Path("peers.toml"))),
    ],
)
def test_stores(text: str, expected: StoreChoice) -> None:
    assert parse([f"--store={text}"], {}).store == expected


@pytest.mark.parametrize(
    "text", ["127.0.0.1:2379", "http://etcd:1", "https://etcd.example:65535/"]
)
def test_endpoints_may_lack_their_scheme(text: str) -> None:
    """E37."""
    assert parse([f"--etcd-endpoints={text}"], {}).etcd_endpoints == (text,)


SECRETS = ("etcd-endpoints", "etcd-password")


@pytest.mark.parametrize(("flag", "value"), WRONG)
def test_a_wrong_value_is_named_with_its_flag(flag: str, value: str | None) -> None:
    argv = [f"--{flag}"] if value is None else [f"--{flag}={value}"]
    with pytest.raises(ConfigError) as caught:
        parse(argv, {})
    message = str(caught.value)
    assert f"--{flag}" in message
    assert "\n" not in message
    if value is not None and flag not in SECRETS:
        assert value in message


def test_every_flag_is_tried_with_something_wrong() -> None:
    assert {flag for flag, _ in WRONG} == {flag.name for flag in FLAGS}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--etcd-keyfile=k"], "--etcd-keyfile is given without --etcd-certfile"),
        (["--etcd-certfile=c"], "--etcd-certfile is given without --etcd-keyfile"),
        (["--etcd-username=u"], "--etcd-username is given without --etcd-password"),
        (["--etcd-password=p"], "--etcd-password is given without --etcd-username"),
    ],
)
def test_halves_are_refused(argv: list[str], message: str) -> None:
    """flanneld ignores a half in silence: no TLS, no authentication (E37)."""
    with pytest.raises(ConfigError) as caught:
        parse(argv, {})
    assert str(caught.value) == message


@pytest.mark.parametrize("store", [[], ["--store=local:/x.db"]])
def test_a_store_in_kubernetes_is_refused_whatever_else_is_given(
    store: list[str],
) -> None:
    """What is given already is not asked for."""
    with pytest.raises(ConfigError, match="not supported yet") as caught:
        parse(["--kube-subnet-mgr", *store], {})
    assert str(caught.value).endswith(
        "without this flag they are in etcd, or where --store says"
    )
    assert "give" not in str(caught.value)


def test_the_operator_socket_lies_beside_the_subnet_file() -> None:
    settings = parse(["--subnet-file=/tmp/n1/subnet.env"], {})
    assert settings.operator_socket == Path("/tmp/n1/flannelette.sock")


def test_a_socket_path_that_no_socket_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than 107 bytes"):
        parse([f"--subnet-file=/{'d' * 100}/subnet.env"], {})
    longest = "/" + "s" * 106
    settings = parse([f"--operator-socket={longest}"], {})
    assert settings.operator_socket == Path(longest)
    with pytest.raises(ConfigError, match="longer"):
        parse([f"--operator-socket={longest}s"], {})


def test_the_password_is_never_shown() -> None:
    """C7."""
    argv = ["--etcd-username=u", "--etcd-password=hunter2"]
    assert "hunter2" not in repr(parse(argv, {}))
    with pytest.raises(ConfigError) as caught:
        parse(["--etcd-password=hunter2"], {})
    assert "hunter2" not in str(caught.value)


def test_a_password_in_an_endpoint_is_not_shown_either() -> None:
    with pytest.raises(ConfigError, match="--etcd-endpoints") as caught:
        parse(["--etcd-endpoints=http://u:hunter2@etcd:2379"], {})
    assert "hunter2" not in str(caught.value)


@given(
    st.sampled_from([flag.name for flag in FLAGS if flag.name != "version"]),
    st.text(),
)
def test_any_value_gives_a_config_or_one_line(name: str, text: str) -> None:
    try:
        settings = parse([f"--{name}={text}"], {})
    except ConfigError:
        return
    assert isinstance(settings, Config)


def test_variables_that_are_not_ours_are_told() -> None:
    environ = {"FLANNELD_OTHER": "true", "FLANNELD_IFACE": "eth0", "PATH": "/bin"}
    environ |= {"FLANNELD_EMPTY": "", "FLANNELD_ETCD_PREFIX": "/p"}
    assert config.strangers(environ) == ["FLANNELD_OTHER"]
