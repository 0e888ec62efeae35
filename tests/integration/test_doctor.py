"""Something of a node is broken on the rig: the doctor names it, and its command cures
it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flannelette.benchmarks import netns
from flannelette.benchmarks.cluster import FLANNELETTE
from tests.helpers.doctors import Doctor
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = needs_namespaces

TABLE = "table inet filter"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that are well, and have to be left so. The daemons leave the firewall
    to the tests."""
    flags = ["--iptables-forward-rules=false"]
    with lab(tmp_path_factory.mktemp("doctor"), store="static", flags=flags) as it:
        it.up()
        yield it


@pytest.fixture(autouse=True)
def well_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "pair" in request.fixturenames:
        it = request.getfixturevalue("pair")
        assert Doctor(it).findings() == []
        it.reach(1, 2)
        it.reach(2, 1)


# ---- who is well ---------------------------------------------------------------------


def test_nothing_is_wrong_with_a_healthy_pair(pair: Lab) -> None:
    it = Doctor(pair)
    assert it.text().startswith("Nothing is wrong.\n")
    document = it.examine()
    assert document["findings"] == document["unchecked"] == []
    (peer,) = document["peers"]
    assert (peer["address"], peer["port"]) == ("192.0.2.2", 8285)
    assert peer["knows_us"] is True
    assert peer["probe"] > 0
    assert peer["full_probe"] > 0
    assert peer["overlay"]["10.5.2.0/24"] > 0


@pytest.mark.parametrize(
    "backend",
    [
        {"Type": "vxlan"},
        {"Type": "vxlan", "DirectRouting": True},
        {"Type": "vxlan", "Datapath": "kernel"},
        {"Type": "host-gw"},
        {"Type": "udp"},
    ],
    ids=["vxlan", "direct", "kernel", "host-gw", "udp"],
)
def test_nor_with_a_dual_stack_one(tmp_path: Path, backend: dict[str, object]) -> None:
    with lab(tmp_path, ipv6=True, backend=backend) as it:
        it.up()
        document = Doctor(it).examine()
        assert document["findings"] == document["unchecked"] == []


# ---- this node's own settings --------------------------------------------------------


def test_forwarding_is_off(pair: Lab) -> None:
    netns.sysctl(pair.rig.host(1), "net.ipv4.ip_forward", 0)
    assert not pair.reaches(1, 2)
    it = Doctor(pair)
    it.cure(it.only("forwarding-off"))


def test_a_strict_filter_hurts_only_beside_a_route_that_goes_elsewhere(
    pair: Lab,
) -> None:
    host, it = pair.rig.host(1), Doctor(pair)
    netns.sysctl(host, "net.ipv4.conf.all.rp_filter", 1)
    assert it.findings() == []
    pair.reach(1, 2)
    pair.rig.ip(host, "route add 10.5.2.0/24 via 192.0.2.2 dev eth0")
    assert not pair.reaches(1, 2), "the answers come by flannel0"
    route, strict = it.findings()
    assert (route["check"], strict["check"]) == ("route-elsewhere", "reverse-path")
    it.cure(strict)
    pair.reach(1, 2)
    it.cure(it.only("route-elsewhere"))
    netns.sysctl(host, "net.ipv4.conf.all.rp_filter", 0)


def test_the_external_interface_was_made_narrow(pair: Lab) -> None:
    pair.rig.ip(pair.rig.host(1), "link set eth0 mtu 1400")
    it = Doctor(pair)
    finding = it.only("external-mtu")
    assert finding["what"] == "eth0 takes 1400 bytes; the overlay's packets need 1500"
    it.cure(finding)


def test_offloads_are_off(tmp_path: Path) -> None:
    with lab(tmp_path, flags=["--offload=none"]) as it:
        it.up()
        finding = Doctor(it).only("offloads-off")
        assert finding["severity"] == "warning"
        assert "--offload=auto" in finding["cure"]["command"]
        assert "--offload=none" not in finding["cure"]["command"]


# ---- the device, which the daemon repairs by itself, but not at once -----------------


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ("link set flannel0 mtu 1300", "device-mtu"),
        ("link set flannel0 down", "device-down"),
        ("address flush dev flannel0", "device-address"),
        ("route delete 10.5.0.0/16", "route-missing"),
    ],
)
def test_the_device_is_wrong(pair: Lab, wrong: str, check: str) -> None:
    it, host = Doctor(pair), pair.rig.host(1)

    def is_found() -> bool:
        pair.rig.ip(host, wrong)
        findings = it.findings()
        if check not in [finding["check"] for finding in findings]:
            return False  # the daemon was faster
        for finding in findings:
            pair.rig.run(host, ["sh", "-c", finding["cure"]["command"]], check=False)
        return True

    until(is_found)


def test_the_device_is_gone(pair: Lab) -> None:
    """Moved away: when it is removed the daemon has another at once."""
    it, host = Doctor(pair), pair.rig.host(1)

    def is_found() -> bool:
        device = pair.status(1)["node"]["device"]
        pair.rig.ip(host, f"link set {device} netns {pair.rig.pod_ns(1)}")
        found = "device-missing" in it.names()
        until(lambda: it.findings() == [], 30)
        return found

    until(is_found, 60)


# ---- firewalls -----------------------------------------------------------------------


def nft(it: Lab, number: int, *lines: str) -> None:
    rules = "\n".join(lines).replace("}", "\n}")
    it.rig.run(it.rig.host(number), [netns.tool("nft"), "-f", "-"], input=rules)


@pytest.fixture
def no_rules(pair: Lab) -> Iterator[None]:
    yield
    for number in (1, 2):
        nft(pair, number, "flush ruleset")


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize(
    "rule",
    [
        "ct state vmap { established : accept, new : jump deeper }",
        "iifname eth0 ip saddr @bad drop",
    ],
)
def test_a_rule_of_ours_drops_the_port(pair: Lab, rule: str) -> None:
    nft(
        pair,
        1,
        f"{TABLE} {{ set bad {{ type ipv4_addr; elements = {{ 192.0.2.2 }} }}",
        "chain deeper { ip protocol udp drop; }",
        f"chain input {{ type filter hook input priority 0; {rule}; }} }}",
    )
    it = Doctor(pair)
    finding = it.only("firewall-port")
    assert "inet filter input" in finding["cause"]
    it.cure(finding)


@pytest.mark.usefixtures("no_rules")
def test_a_rule_of_ours_lets_nothing_out(pair: Lab) -> None:
    nft(
        pair,
        1,
        f"{TABLE} {{ chain output {{ type filter hook output priority 0; policy drop;",
        "oif lo accept; icmp type echo-request accept; } }",
    )
    it = Doctor(pair)
    rule, send = it.findings()
    assert (rule["check"], send["check"]) == ("firewall-port", "peer-forbidden")
    it.cure(rule)


@pytest.mark.usefixtures("no_rules")
def test_a_rule_on_the_other_side_drops_the_port(pair: Lab) -> None:
    chain = "{ type filter hook input priority 0; udp dport 8285 drop; }"
    nft(pair, 2, f"{TABLE} {{ chain input {chain} }}")
    finding = Doctor(pair).only("peer-filtered")
    assert finding["cure"] == {"command": "flannelette doctor", "on": "192.0.2.2"}
    there = Doctor(pair, 2)
    there.cure(there.only("firewall-port"))


@pytest.mark.usefixtures("no_rules")
@pytest.mark.parametrize("family", ["inet", "ip"])
def test_nothing_may_be_forwarded(pair: Lab, family: str) -> None:
    """As with Docker: policy drop, and its own networks let through."""
    nft(
        pair,
        1,
        f"table {family} filter {{ chain FORWARD {{",
        "type filter hook forward priority 0; policy drop;",
        "ct state established,related accept; iifname docker0 accept; } }",
    )
    assert not pair.reaches(1, 2)
    it = Doctor(pair)
    finding = it.only("firewall-forward")
    assert finding["cure"]["command"].startswith(f"nft insert rule {family} filter")
    it.cure(finding)


@pytest.mark.usefixtures("no_rules")
def test_what_cannot_be_decided_is_no_finding(pair: Lab) -> None:
    """What lets packets through for a mark is not known to be closed."""
    nft(
        pair,
        1,
        f"{TABLE} {{ chain input {{ type filter hook input priority 0; policy drop;",
        "meta mark 0 accept; } }",
    )
    assert Doctor(pair).findings() == []


# ---- daemons -------------------------------------------------------------------------


def test_a_daemon_that_hangs_is_named_from_either_side(pair: Lab) -> None:
    process = pair.cluster.daemons[2].process
    process.send_signal(signal.SIGSTOP)
    try:
        finding = Doctor(pair).only("peer-filtered")
        assert "its daemon hangs" in finding["cause"]
        there = Doctor(pair, 2)
        stopped = there.findings()[0]
        assert stopped["check"] == "daemon-stopped"
        there.cure(stopped)
    finally:
        process.send_signal(signal.SIGCONT)


def doctor_of(it: Lab, number: int) -> list[str]:
    return [*FLANNELETTE, "doctor", f"--operator-socket={Doctor(it, number).socket}"]


def test_the_daemon_is_in_another_namespace(pair: Lab) -> None:
    command = [*doctor_of(pair, 1), "--json"]
    done = pair.rig.run(pair.rig.host(2), command, check=False)
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    pid = pair.cluster.daemons[1].process.pid
    assert finding["check"] == "daemon-elsewhere"
    assert finding["cure"]["command"] == f"nsenter -t {pid} -n flannelette doctor"
