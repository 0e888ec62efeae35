"""A peer without any daemon: the kernel's VXLAN, programmed by hand as flannel does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from flannelette.benchmarks import netns
from flannelette.benchmarks.rig import Rig
from tests.helpers.lab import Lab

SUBNETS = {n: IPv4Network(f"10.5.{n}.0/24") for n in range(1, 4)}
SUBNETS6 = {n: IPv6Network(f"fd00:5:0:{n}::/64") for n in range(1, 4)}
"""Those that a Cluster's static store gives the hosts."""


def mac_of(number: int) -> str:
    """The MAC of a host in a Cluster's static store."""
    return f"02:00:00:00:00:{number:02x}"


@dataclass(frozen=True)
class Handmade:
    """Devices flannel.<VNI> and flannel-v6.<VNI> of one host (V5, V8), each with one
    peer (V12, V13)."""

    rig: Rig
    number: int
    peer: int
    mac: str
    vni: int = 1
    port: int = 8472
    options: str = ""
    """More of ip-link(8)'s for the IPv4 device."""
    dual: bool = True

    @property
    def device(self) -> str:
        return f"flannel.{self.vni}"

    @property
    def device6(self) -> str:
        return f"flannel-v6.{self.vni}"

    def make(self, peer_mac: str) -> None:
        """Put them up, as if just booted."""
        own, peer = SUBNETS[self.number], SUBNETS[self.peer]
        self.rig.ip(
            self._host,
            *self._made(self.device, self.rig.address(self.number), 1450, self.options),
            f"address add {own[0]}/32 dev {self.device}",
            f"route add {peer} via {peer[0]} dev {self.device} onlink",
        )
        if self.dual:
            own6, peer6 = SUBNETS6[self.number], SUBNETS6[self.peer]
            address6 = self.rig.address6(self.number)
            self.rig.ip(
                self._host,
                *self._made(self.device6, address6, 1430),
                f"address add {own6[0]}/128 dev {self.device6} nodad",
                f"route add {peer6} via {peer6[0]} dev {self.device6} onlink",
            )
        self.learn(peer_mac)

    def _made(
        self, name: str, local: object, mtu: int, options: str = ""
    ) -> Iterator[str]:
        yield (
            f"link add {name} type vxlan id {self.vni} local {local} dev eth0"
            f" dstport {self.port} nolearning {options}"
        )
        yield f"link set {name} address {self.mac} mtu {mtu} up"

    def learn(self, peer_mac: str) -> None:
        """The peer has this MAC."""
        rig, peer = self.rig, self.peer
        ways: list[tuple[str, Any, Any]] = [
            (self.device, SUBNETS[peer][0], rig.address(peer))
        ]
        if self.dual:
            ways.append((self.device6, SUBNETS6[peer][0], rig.address6(peer)))
        for device, base, address in ways:
            neighbour = f"neighbour replace {base} lladdr {peer_mac} dev {device}"
            rig.ip(self._host, f"{neighbour} nud permanent")
            entry = [peer_mac, "dev", device, "dst", str(address), "self", "permanent"]
            netns.call([netns.tool("bridge"), "fdb", "replace", *entry], self._host)

    def remove(self) -> None:
        devices = [self.device, *([self.device6] if self.dual else [])]
        self.rig.ip(self._host, *(f"link delete {device}" for device in devices))

    def with_mac(self, mac: str) -> Handmade:
        return replace(self, mac=mac)

    def add_pod(self, it: Lab) -> None:
        subnet6 = SUBNETS6[self.number] if self.dual else None
        mtu = 1430 if self.dual else 1450
        it.pods[self.number] = self.rig.pod(
            self.number, SUBNETS[self.number], mtu, subnet6
        )

    @property
    def _host(self) -> str:
        return self.rig.host(self.number)
