"""Command lines of flanneld's, given to `flannelette` as they are."""

from __future__ import annotations

import pytest

from flannelette.control.main import main


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_a_flag_without_run_is_told_where_it_belongs(
    dashes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its value is not shown: it may be a password (C7)."""
    assert main([f"{dashes}etcd-password=hush", "--ip-masq"]) == 2
    assert capsys.readouterr().err == (
        f"flannelette: unknown command: {dashes}etcd-password "
        "(the daemon's flags go behind `flannelette run`)\n"
    )


@pytest.mark.parametrize(
    ("argv", "cure"),
    [
        (["--ip-masq", "true"], " (write --ip-masq=true)"),
        (["-ip-masq", "F", "--iface=eth0"], " (write --ip-masq=F)"),
        (["--ip-masq", "eth0"], ""),
        (["--ip-masq=true", "true"], ""),
        (["--ip-masq", "--iface", "eth0", "true"], ""),
        (["--ip-masq", "--", "true"], ""),
    ],
)
def test_the_value_of_a_boolean_behind_a_space(
    argv: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """flanneld ignores it, and all that follows."""
    assert main(["run", *argv]) == 2
    said = capsys.readouterr().err
    assert said.startswith("flannelette: unexpected argument: ")
    assert said.endswith(f"{cure}\n")
    assert ("write" in said) == bool(cure)
