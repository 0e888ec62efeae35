"""Traffic rules of real daemons, and packets through them: who is masqueraded.

The outside is the other host: its address lies in no overlay. A server tells from what
address it was spoken to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flannelette.benchmarks.cluster import FLANNELETTE, OVERLAY, OVERLAY6, write_network
from flannelette.benchmarks.netns import tool
from tests.helpers.firewalls import needs_firewalls
from tests.helpers.lab import Lab, lab
from tests.helpers.ns import needs_namespaces, until

pytestmark = [needs_namespaces, needs_firewalls]

BACKENDS = pytest.mark.parametrize("nftables", [False, True], ids=["iptables", "nft"])
FAMILIES = {4: 2, 6: 10}
"""AF_INET and AF_INET6 by IP version."""


def up(it: Lab, nftables: bool, dual: bool = False) -> None:
    """As Lab.up(), with that backend of rules."""
    it.start_store()
    network = {"Network": str(OVERLAY), "EnableNFTables": nftables}
    if dual:
        network |= {"EnableIPv6": True, "IPv6Network": str(OVERLAY6)}
    write_network(it.directory / "store.sqlite", network)
    it.cluster.start()
    for number in it.rig.numbers:
        until(lambda number=number: it.is_ready(number))  # type: ignore[misc]
    it.add_pods()
    for version in (4, 6) if dual else (4,):
        it.until_reaches(1, 2, version=version)
        it.until_reaches(2, 1, version=version)


def seen(
    it: Lab, source: tuple[str, str], target: tuple[str, str], version: int = 4
) -> str:
    """The address from which the target was spoken to; both are namespace and address,
    the source's may be empty. It answers, and the answer must come back."""
    family = FAMILIES[version]
    with (
        it.socket_in(target[0], family=family) as server,
        it.socket_in(source[0], family=family) as client,
    ):
        server.bind((target[1], 0))
        if source[1]:
            client.bind((source[1], 0))
        client.connect(server.getsockname()[:2])
        client.send(b"who am I?")
        _, peer = server.recvfrom(100)
        server.sendto(b"you are", peer)
        assert client.recv(100) == b"you are"
    return str(peer[0])


def pod(it: Lab, number: int, version: int = 4) -> tuple[str, str]:
    return it.pods[number].ns, it.address(number, version)


def host(it: Lab, number: int, version: int = 4) -> tuple[str, str]:
    rig = it.rig
    address = rig.address(number) if version == 4 else rig.address6(number)
    return rig.host(number), str(address)


@BACKENDS
def test_masquerade(tmp_path: Path, nftables: bool) -> None:
    """8.1, rule by rule, seen from the packets."""
    with lab(tmp_path, flags=["--ip-masq"]) as it:
        up(it, nftables)
        one, two = pod(it, 1), pod(it, 2)
        assert seen(it, one, host(it, 2)) == "192.0.2.1", "rule 5"
        assert seen(it, one, two) == one[1], "rule 2"
        assert seen(it, two, one) == two[1], "rule 3"
        assert seen(it, host(it, 1), one) == "192.0.2.1", "rule 4"
        flannel = it.status(1)["lease"]["subnet"].partition("/")[0]
        assert seen(it, host(it, 1), two) == flannel, "rule 6"
        assert "FLANNEL_IPMASQ=true\n" in (tmp_path / "h1/subnet.env").read_text()


@BACKENDS
@pytest.mark.parametrize("mark", ["0x4000", "0x4001"])
def test_kube_proxys_mark_is_honoured(
    tmp_path: Path, nftables: bool, mark: str
) -> None:
    """Rule 1: what kube-proxy takes care of is left alone, and its bit is what counts.
    Nobody masquerades here, so the pod's own address is seen."""
    with lab(tmp_path, flags=["--ip-masq"]) as it:
        up(it, nftables)
        marking = (
            "table ip test { chain pre { type filter hook prerouting priority mangle; "
            f"ip saddr {it.pods[1].address} meta mark set {mark}; }}; }}"
        )
        it.rig.run(it.rig.host(1), [tool("nft"), "-f", "-"], input=marking)
        assert seen(it, pod(it, 1), host(it, 2)) == it.address(1)


@BACKENDS
def test_masquerade_in_dual_stack(tmp_path: Path, nftables: bool) -> None:
    with lab(tmp_path, ipv6=True, flags=["--ip-masq"]) as it:
        up(it, nftables, dual=True)
        for version, own in (4, "192.0.2.1"), (6, str(it.rig.address6(1))):
            one, two = pod(it, 1, version), pod(it, 2, version)
            assert seen(it, one, host(it, 2, version), version) == own
            assert seen(it, one, two, version) == one[1]
            assert seen(it, host(it, 1, version), one, version) == own


def test_not_unless_told(tmp_path: Path) -> None:
    """4.1: --ip-masq is off. The answer finds its way, host 2 is in the overlay too."""
    with lab(tmp_path) as it:
        up(it, nftables=False)
        assert seen(it, pod(it, 1), host(it, 2)) == it.address(1)
        assert "FLANNEL_IPMASQ=false\n" in (tmp_path / "h1/subnet.env").read_text()


FORBID = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"


def forbid(it: Lab) -> None:
    """Forward nothing on host 1, as Docker does (#872)."""
    command = [tool("iptables-restore"), "--noflush"]
    it.rig.run(it.rig.host(1), command, input=FORBID)


def forbidden(it: Lab) -> Callable[[], bool]:
    """Has host 1 dropped a packet by that policy?"""

    def check() -> bool:
        saved = it.rig.run(it.rig.host(1), [tool("iptables-save"), "-c"]).stdout
        [line] = [text for text in saved.splitlines() if text.startswith(":FORWARD")]
        return not line.endswith("[0:0]")

    return check


def test_forwarding_where_it_is_forbidden(tmp_path: Path) -> None:
    """8.2; they are on unless told."""
    with lab(tmp_path, flags=["--ip-masq"]) as it:
        up(it, nftables=False)
        forbid(it)
        it.reach(1, 2, count=3)
        it.reach(2, 1, count=3)
        assert seen(it, pod(it, 1), host(it, 2)) == "192.0.2.1"
        assert not forbidden(it)()


def test_forbidden_without_our_rules(tmp_path: Path) -> None:
    with lab(tmp_path, flags=["--iptables-forward-rules=false"]) as it:
        up(it, nftables=False)
        forbid(it)
        assert not it.reaches(1, 2)
        assert forbidden(it)()


def test_nftables_cannot_accept_for_others(tmp_path: Path) -> None:
    """8.3: the tables of nftables are asked one after the other, and each may drop."""
    with lab(tmp_path) as it:
        up(it, nftables=True)
        forbid(it)
        assert not it.reaches(1, 2)
        assert forbidden(it)()


@BACKENDS
def test_a_stop_leaves_them_and_a_start_finds_them(
    tmp_path: Path, nftables: bool
) -> None:
    """M6; and a daemon with other settings takes away what it does not want."""
    with lab(tmp_path, flags=["--iptables-resync=1"]) as it:
        up(it, nftables)
        daemon = it.cluster.start_daemon
        ns = it.rig.host(1)

        def rules() -> str:
            texts = [it.rig.run(ns, [tool("iptables-save")]).stdout]
            texts.append(it.rig.run(ns, [tool("nft"), "list", "ruleset"]).stdout)
            lines = "\n".join(texts).splitlines()
            ours = [it for it in lines if "-j FLANNEL" in it or "10.5." in it]
            # nft lists those of iptables, too, and with what they counted.
            return "\n".join(it for it in ours if " counter packets " not in it)

        def restart(*flags: str) -> None:
            it.rig.stop(it.cluster.daemons[1].process)
            daemon(1, *flags)
            until(lambda: it.is_ready(1))

        before = rules()
        assert before
        it.rig.stop(it.cluster.daemons[1].process)
        assert rules() == before
        restart("--ip-masq")
        assert seen(it, pod(it, 1), host(it, 2)) == "192.0.2.1"
        restart()
        assert rules() == before
        restart("--iptables-forward-rules=false")
        assert rules() == ""


def test_a_flushed_firewall_is_repaired(tmp_path: Path) -> None:
    """M3, and said in the log and in the status."""
    with lab(tmp_path, flags=["--ip-masq", "--iptables-resync=1"]) as it:
        up(it, nftables=False)
        it.rig.run(it.rig.host(1), [tool("iptables"), "-t", "nat", "-F"])
        until(lambda: "repaired: " in it.log(1))
        assert it.status(1)["repairs"] >= 1
        assert seen(it, pod(it, 1), host(it, 2)) == "192.0.2.1"


@pytest.mark.parametrize("nftables", [False, True])
def test_missing_program_ends_the_start_before_the_lease(
    tmp_path: Path, nftables: bool
) -> None:
    """Exit 1, one line; no lease was taken, nothing written."""
    with lab(tmp_path) as it:
        it.start_store()
        network = {"Network": "10.5.0.0/16", "EnableNFTables": nftables}
        store = f"--store=local:{tmp_path / 'store.sqlite'}"
        write_network(tmp_path / "store.sqlite", network)
        hide = 'mount -t tmpfs none /usr/sbin && exec "$@"'
        hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"]
        run = ["run", "--iface=eth0", "--ip-masq", store]
        run.append(f"--subnet-file={tmp_path / 'subnet.env'}")
        command = [*hidden, *FLANNELETTE, *run]
        done = it.rig.run(it.rig.host(1), command, check=False)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        missing = "nft" if nftables else "iptables-restore"
        assert f"the program {missing} is not installed: install it" in last
        assert "lease: " not in done.stderr
        assert not (tmp_path / "subnet.env").exists()
