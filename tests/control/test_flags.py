"""The table of flags: flanneld's names, defaults and variables (4.1, C1)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import pytest

from flannelette.control.config import Config, VersionWanted, parse
from flannelette.control.errors import ConfigError
from flannelette.control.flags import FLAGS, GROUPS, usage
from tests.helpers.flagtable import FLANNELDS, OURS, Row

ROWS = (*FLANNELDS, *OURS)


def test_there_are_no_other_flags() -> None:
    assert sorted(flag.name for flag in FLAGS) == sorted(row.flag for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.flag)
def test_a_flags_default_and_variable(row: Row) -> None:
    (flag,) = (flag for flag in FLAGS if flag.name == row.flag)
    assert flag.default == row.default
    if row.flag == "iptables-forward-rules":  # on, but nobody asked for it by name
        assert outcome([f"--{row.flag}=true"]) != outcome([])
    elif row.default:
        assert outcome([f"--{row.flag}={row.default}"]) == outcome([])

    by_flag = outcome([f"--{row.flag}={row.other}", *row.beside])
    assert by_flag != outcome(row.beside)
    by_variable = outcome(row.beside, {row.variable: row.other})
    if row.flag == "version":
        assert (by_flag, by_variable) == ("the version", outcome([]))  # C3
    elif isinstance(by_flag, str):
        assert by_flag.startswith(f"--{row.flag}=")
        assert by_variable == by_flag
    else:
        assert by_variable == by_flag


def outcome(argv: Sequence[str], environ: dict[str, str] | None = None) -> Config | str:
    """The settings; or what is said in their place."""
    try:
        return parse(argv, environ or {})
    except ConfigError as error:
        return str(error)
    except VersionWanted:
        return "the version"


def test_what_has_no_effect_is_known() -> None:
    without = ["--vmodule=a=1", "--kubeconfig-file=", "--kube-annotation-prefix=x"]
    settings = parse(without, {"FLANNELD_KUBE_API_URL": "https://192.0.2.1"})
    assert settings.without_effect == (
        "vmodule",
        "kube-api-url",
        "kube-annotation-prefix",
    )
    assert replace(settings, without_effect=()) == parse([], {})


@pytest.mark.parametrize(
    "pattern", ["^eth|^en", r"^10\.", "(?i)ETH[0-9]+$", "[^[]", r"\d{1,3}", "(?P<n>a)"]
)
def test_regular_expressions_that_both_languages_read_alike(pattern: str) -> None:
    assert parse([f"--iface-regex={pattern}"], {}).iface_regex == (pattern,)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("eth[", "it is no regular expression: unterminated character set"),
        (r"eth\pN", r"it is no regular expression: bad escape \p"),
        ("eth[[:digit:]]", "write [0-9] for [[:digit:]]"),
        ("a{99999999999}", "it is no regular expression"),
        ("(" * 5000 + ")" * 5000, "it is no regular expression"),
        ("(?u)x", "it is no regular expression"),
    ],
)
def test_other_regular_expressions_are_refused(pattern: str, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as outside of tests, more or less
        with pytest.raises(ConfigError) as caught:
            parse([f"--iface-regex={pattern}"], {})
    assert message in str(caught.value)


def test_health_may_be_asked_for_at_a_link_local_address() -> None:
    assert str(parse(["--healthz-ip=fe80::1%eth0"], {}).healthz_ip) == "fe80::1%eth0"


@pytest.mark.parametrize("name", ["localhost", "node-1.example.", "7.x", "a_b", "0xg"])
def test_health_may_be_asked_for_at_a_hosts_name(name: str) -> None:
    assert parse([f"--healthz-ip={name}"], {}).healthz_ip == name


@pytest.mark.parametrize("name", ["localhost\n", "x." * 127])
def test_what_no_name_server_would_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="a host's name is wanted"):
        parse([f"--healthz-ip={name}"], {})


def test_health_may_be_asked_for_at_no_address_in_particular() -> None:
    """An empty variable is none at all (C1), which comes to the same."""
    assert parse(["--healthz-ip="], {}) == parse([], {})


def test_the_usage_has_every_flag_in_its_group() -> None:
    lines = usage().splitlines()
    assert max(map(len, lines)) <= 80
    listed = [line.split()[0] for line in lines if line.startswith("  --")]
    assert listed == [f"--{flag.name}" for flag in FLAGS]
    assert [line for line in lines if line.endswith(":")] == [f"{it}:" for it in GROUPS]


def test_the_usage_says_each_default() -> None:
    text = " ".join(usage().split())
    for row in ROWS:
        if row.default not in ("", "false"):
            entry = text.partition(f"--{row.flag} ")[2].partition(" --")[0]
            assert f"(default {row.default})" in entry
