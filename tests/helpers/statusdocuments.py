"""Status documents of a busy node, of any size, at any time of its life."""

from __future__ import annotations

from typing import Any


def traffic(packets: int, size: int = 1400) -> dict[str, int]:
    return {"packets": packets, "bytes": packets * size}


def direction(packets: int, burst: int = 40, **drops: int) -> dict[str, Any]:
    return {
        **traffic(packets),
        "answers": 0,
        "answers_limited": 0,
        "drops": {"no_route": 0, "bad_checksum": 0, **drops},
        "frames": packets // 30,
        "frame_bytes": packets * 1400,
        "tun_calls": packets // 30,
        "messages": packets // burst,
        "message_bytes": packets * 1400,
        "wire_calls": packets // 60,
        "pumps": packets // 600,
        "stages": {},
        "timed_packets": 0,
    }


def peer(number: int, tx: int, rx: int, idle: float | None = 0.0) -> dict[str, Any]:
    third, last = divmod(number, 250)
    return {
        "address": f"192.0.{third}.{last + 1}",
        "subnets": [f"10.{5 + third}.{last + 1}.0/24"],
        "tx": traffic(tx),
        "rx": traffic(rx),
        "idle": idle,
    }


def document(
    uptime: float = 100.0,
    peers: list[dict[str, Any]] | None = None,
    tx: int = 1_000_000,
    rx: int = 2_000_000,
    **changes: Any,
) -> dict[str, Any]:
    """`tx`, `rx`: packets so far."""
    return {
        "version": "0.1.0",
        "started": True,
        "ready": True,
        "not_ready": None,
        "uptime": uptime,
        "node": {
            "public_ip": "192.0.2.1",
            "public_ipv6": None,
            "interface": "eth0",
            "address": "192.0.2.1",
            "device": "flannel0",
            "mtu": 1472,
            "mtu6": None,
            "backend": "udp",
            "port": 8285,
            "vni": None,
            "mac": None,
            "peer_check": "peer",
            "datapath": "native",
            "driver": "thread",
            "queues": 1,
            "steering": None,
            "offloads": ["vnet", "merge_tcp", "merge_udp", "gso", "gro"],
        },
        "network": "10.0.0.0/8",
        "lease": {"subnet": "10.5.1.0/24", "subnet6": None, "expires_in": 86390.1},
        "store": {
            "kind": "etcd",
            "connected": True,
            "revision": 4210,
            "resyncs": 0,
            "skipped": 0,
            "error": None,
            "outage": 0.0,
            "age": 0.5,
        },
        "routes": [],
        "ignored": [],
        "counters": {"tx": direction(tx), "rx": direction(rx, burst=25)},
        "peers": peers if peers is not None else [peer(1, tx, rx)],
        "sockets": [
            {
                "queue": 0,
                "version": 4,
                "rx_bytes": 1_000_000,
                "rx_room": 8_388_608,
                "rx_drops": 0,
            }
        ],
        "tun_drops": 0,
        "repairs": 0,
        "last_error": None,
    } | changes
