"""Go's flag package, as its documentation and flanneld's users know it (C1, C4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from flannelette.control import goflags
from flannelette.control.errors import ConfigError
from flannelette.control.goflags import Flag, HelpWanted, boolean, integer

FLAGS = (
    Flag("name", str, "the `NAME`", "nobody"),
    Flag("on", boolean, "switch it on", "false"),
    Flag("count", integer, "how many", "3"),
    Flag("iface", str, "an `INTERFACE`", repeated=True),
)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["-name", "x"], {"name": "x"}),
        (["--name", "x"], {"name": "x"}),
        (["-name=x"], {"name": "x"}),
        (["--name=x"], {"name": "x"}),
        (["--name="], {"name": ""}),
        (["--name=a=b"], {"name": "a=b"}),
        (["--name", "-x"], {"name": "-x"}),
        (["--name", "--"], {"name": "--"}),
        (["--name", ""], {"name": ""}),
        (["--name=x", "-name", "y"], {"name": "y"}),
        (["-on"], {"on": True}),
        (["--on=false"], {"on": False}),
        (["--on=0", "-count", "4"], {"on": False, "count": 4}),
        (["-iface=a", "--iface", "b", "-iface=a"], {"iface": ("a", "b", "a")}),
        (["-on", "--"], {"on": True}),
        (["--"], {}),
    ],
)
def test_flags_are_read_as_go_reads_them(
    argv: list[str], expected: dict[str, Any]
) -> None:
    assert goflags.from_argv(FLAGS, argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-foo=1"], "unknown flag: --foo"),
        (["--nam", "x"], "unknown flag: --nam"),  # no abbreviations
        (["-v4"], "unknown flag: --v4"),
        (["---name"], "bad flag syntax: ---name"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-=x"], "bad flag syntax: -=x"),
        (["--name"], "flag --name needs a value"),
        (["--on=maybe"], "invalid value 'maybe' for --on: true or false is wanted"),
        (["--on="], "invalid value '' for --on: true or false is wanted"),
        (["--on", "false"], "unexpected argument: false"),
        (["--count", "x"], "invalid value 'x' for --count: a whole number is wanted"),
        (["--count=x", "--count=1"], "invalid value 'x' for --count: "),
        (["name"], "unexpected argument: name"),
        (["-"], "unexpected argument: -"),
        (["--", "--name=x"], "unexpected argument: --name=x"),
        (["--on", "x", "--foo"], "unexpected argument: x"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        goflags.from_argv(FLAGS, argv)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["-help"], ["--on", "--h"]])
def test_help_is_wanted(argv: list[str]) -> None:
    with pytest.raises(HelpWanted):
        goflags.from_argv(FLAGS, argv)


def test_the_first_thing_that_is_wrong_counts() -> None:
    with pytest.raises(HelpWanted):
        goflags.from_argv(FLAGS, ["-h", "--foo"])
    with pytest.raises(ConfigError, match="--foo"):
        goflags.from_argv(FLAGS, ["--foo", "-h"])


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_true_has_six_spellings(text: str) -> None:
    assert boolean(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_false_has_six_spellings(text: str) -> None:
    assert boolean(text) is False


@pytest.mark.parametrize("text", ["", "yes", "tRUE", " true", "on", "2"])
def test_no_other_word_is_a_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="true or false"):
        boolean(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("60", 60),
        ("0x3c", 60),
        ("-0X3C", -60),
        ("0b111100", 60),
        ("0o74", 60),
        ("074", 60),
        ("0_74", 60),
        ("1_000", 1000),
        ("0x_ff", 255),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_numbers_may_have_gos_prefixes(text: str, value: int) -> None:
    assert integer(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1.0", "1e3", "08", "0x", "_1", "1__0", "1_", "٣", "--1", "0b2"],
)
def test_no_other_text_is_a_number(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number"):
        integer(text)


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", "9" * 5000]
)
def test_a_number_has_64_bits(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        integer(text)


def test_the_environment_gives_what_is_not_empty() -> None:
    environ = {
        "X_NAME": "n",
        "X_ON": "",
        "X_IFACE": "a,b",
        "X_COUNT": "0x10",
        "X_OTHER": "?",
        "NAME": "?",
    }
    given = goflags.from_environ(FLAGS, environ, "X_")
    assert given == {"name": "n", "iface": ("a,b",), "count": 16}


def test_a_dash_becomes_an_underscore() -> None:
    flag = Flag("two-words", str, "")
    assert goflags.from_environ([flag], {"X_TWO_WORDS": "v"}, "X_") == {
        "two-words": "v"
    }


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        goflags.from_environ(FLAGS, {"X_ON": "maybe"}, "X_")
    assert str(caught.value) == (
        "invalid value 'maybe' for the variable X_ON: true or false is wanted"
    )


def test_defaults_are_read_like_values() -> None:
    assert goflags.defaults(FLAGS) == {
        "name": "nobody",
        "on": False,
        "count": 3,
        "iface": (),
    }


def test_the_usage_names_values_and_defaults() -> None:
    assert goflags.usage({"Some": FLAGS[:2], "Others": FLAGS[2:]}).splitlines() == [
        "",
        "Some:",
        "  --name NAME",
        "      the NAME (default nobody)",
        "  --on",
        "      switch it on",
        "",
        "Others:",
        "  --count",
        "      how many (default 3)",
        "  --iface INTERFACE",
        "      an INTERFACE (may be repeated)",
    ]


@given(st.lists(st.text(max_size=8) | st.sampled_from(["-on", "--name", "--count="])))
def test_any_arguments_give_values_or_one_error(argv: list[str]) -> None:
    try:
        given = goflags.from_argv(FLAGS, argv)
    except (ConfigError, HelpWanted):
        return
    assert given.keys() <= {"name", "on", "count", "iface"}
