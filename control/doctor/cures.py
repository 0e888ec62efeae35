"""The commands that cure. Pure; none of them holds a secret."""

from __future__ import annotations

import shlex

from flannelette.control.config import Config
from flannelette.control.doctor.firewall import Chain
from flannelette.control.flagvalues import Etcd, Local, Static
from flannelette.control.lease import Lease

_EXAMPLE = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'


def start_elsewhere(config: Config) -> str:
    """Start a node on another host of the same cluster."""
    match config.store:
        case Etcd():
            store = f"--etcd-endpoints={','.join(config.etcd_endpoints)}"
        case Local(path):
            store = f"--store=local:{path}"
        case Static(path):
            store = f"--store=static:{path}"
    return shlex.join(["flannelette", "run", store])


def etcdctl(config: Config, *words: str) -> str:
    """In words that the operator's etcdctl takes; a password is for them to add."""
    flags = [f"--endpoints={','.join(config.etcd_endpoints)}"]
    for name, value in (
        ("cacert", config.etcd_cafile),
        ("cert", config.etcd_certfile),
        ("key", config.etcd_keyfile),
        ("user", config.etcd_username),
    ):
        if value:
            flags.append(f"--{name}={value}")
    return shlex.join(["etcdctl", *flags, *words])


def reach_store(config: Config) -> str:
    match config.store:
        case Etcd():
            return etcdctl(config, "endpoint", "health")
        case Local():
            return put_network(config)
        case Static(path):
            return shlex.join(["vi", str(path)])


def put_network(config: Config) -> str:
    """An example of a network configuration, put where there is none."""
    match config.store:
        case Etcd():
            return etcdctl(config, "put", f"{_prefix(config)}/config", _EXAMPLE)
        case Local(path):
            store = f"--store=local:{path}"
            return shlex.join(["flannelette", "net-config", store, _EXAMPLE])
        case Static(path):
            return shlex.join(["vi", str(path)])


def delete_lease(config: Config, lease: Lease) -> str:
    match config.store:
        case Etcd():
            return etcdctl(config, "del", f"{_prefix(config)}/subnets/{lease.key}")
        case Local(path):
            statement = f"DELETE FROM lease WHERE key = '{lease.key}'"
            return shlex.join(["sqlite3", str(path), statement])
        case Static(path):
            return shlex.join(["vi", str(path)])


def _prefix(config: Config) -> str:
    return f"/{config.etcd_prefix.strip('/')}"


def let_pass_port(chain: Chain, port: int) -> str:
    """What is encapsulated, before the chain's other rules."""
    if chain.syntax == "nft":
        return f"{_nft_insert(chain)} udp dport {port} accept"
    return f"{_iptables_insert(chain)} -p udp --dport {port} -j ACCEPT"


def let_pass_network(chain: Chain, version: int, network: str) -> str:
    """What pods send to each other."""
    if chain.syntax == "nft":
        ip = "ip" if version == 4 else "ip6"
        within = f"{ip} saddr {network} {ip} daddr {network}"
        return f"{_nft_insert(chain)} {within} accept"
    return f"{_iptables_insert(chain)} -s {network} -d {network} -j ACCEPT"


def _nft_insert(chain: Chain) -> str:
    return shlex.join(["nft", "insert", "rule", chain.family, chain.table, chain.name])


def _iptables_insert(chain: Chain) -> str:
    table = [] if chain.table == "filter" else ["-t", chain.table]
    return shlex.join([chain.syntax, *table, "-I", chain.name])
