"""Flags of `flannelette run`: their defaults, their variables, and another value.

flannel-behaviour.md section 4.1 and C1, typed in by hand: it is what we are held to.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    flag: str
    default: str
    """As the usage says it; empty: none."""
    variable: str
    other: str
    """Some value that is not the default."""
    beside: tuple[str, ...] = ()
    """Flags that it is refused without."""


_ENDPOINTS = "http://127.0.0.1:4001,http://127.0.0.1:2379"
_ANNOTATIONS = "flannel.alpha.coreos.com"

FLANNELDS = (
    Row("etcd-endpoints", _ENDPOINTS, "FLANNELD_ETCD_ENDPOINTS", "https://etcd:1"),
    Row("etcd-prefix", "/coreos.com/network", "FLANNELD_ETCD_PREFIX", "/overlay"),
    Row("etcd-keyfile", "", "FLANNELD_ETCD_KEYFILE", "key", ("--etcd-certfile=c",)),
    Row("etcd-certfile", "", "FLANNELD_ETCD_CERTFILE", "cert", ("--etcd-keyfile=k",)),
    Row("etcd-cafile", "", "FLANNELD_ETCD_CAFILE", "ca"),
    Row("etcd-username", "", "FLANNELD_ETCD_USERNAME", "u", ("--etcd-password=p",)),
    Row("etcd-password", "", "FLANNELD_ETCD_PASSWORD", "p", ("--etcd-username=u",)),
    Row("iface", "", "FLANNELD_IFACE", "eth0"),
    Row("iface-regex", "", "FLANNELD_IFACE_REGEX", "^eth,"),
    Row("iface-can-reach", "", "FLANNELD_IFACE_CAN_REACH", "2001:db8::1"),
    Row("subnet-file", "/run/flannel/subnet.env", "FLANNELD_SUBNET_FILE", "/s.env"),
    Row("public-ip", "", "FLANNELD_PUBLIC_IP", "192.0.2.1"),
    Row("public-ipv6", "", "FLANNELD_PUBLIC_IPV6", "2001:db8::1"),
    Row("subnet-lease-renew-margin", "60", "FLANNELD_SUBNET_LEASE_RENEW_MARGIN", "1"),
    Row("ip-masq", "false", "FLANNELD_IP_MASQ", "true"),
    Row(
        "ip-masq-fully-random-disable",
        "false",
        "FLANNELD_IP_MASQ_FULLY_RANDOM_DISABLE",
        "true",
    ),
    Row("kube-subnet-mgr", "false", "FLANNELD_KUBE_SUBNET_MGR", "true"),
    Row("kube-api-url", "", "FLANNELD_KUBE_API_URL", "https://192.0.2.1:6443"),
    Row("kubeconfig-file", "", "FLANNELD_KUBECONFIG_FILE", "/etc/kubeconfig"),
    Row("kube-annotation-prefix", _ANNOTATIONS, "FLANNELD_KUBE_ANNOTATION_PREFIX", "x"),
    Row(
        "net-config-path",
        "/etc/kube-flannel/net-conf.json",
        "FLANNELD_NET_CONFIG_PATH",
        "/etc/net-conf.json",
    ),
    Row(
        "set-node-network-unavailable",
        "true",
        "FLANNELD_SET_NODE_NETWORK_UNAVAILABLE",
        "false",
    ),
    Row("version", "false", "FLANNELD_VERSION", "true"),
    Row("healthz-ip", "0.0.0.0", "FLANNELD_HEALTHZ_IP", "::1"),
    Row("healthz-port", "0", "FLANNELD_HEALTHZ_PORT", "10230"),
    Row("iptables-resync", "5", "FLANNELD_IPTABLES_RESYNC", "60"),
    Row("iptables-forward-rules", "true", "FLANNELD_IPTABLES_FORWARD_RULES", "false"),
    Row("ip-blackhole-route", "false", "FLANNELD_IP_BLACKHOLE_ROUTE", "true"),
    Row("v", "0", "FLANNELD_V", "1"),
    Row("vmodule", "", "FLANNELD_VMODULE", "network=1"),
    Row("log_backtrace_at", "", "FLANNELD_LOG_BACKTRACE_AT", "main.go:42"),
)
OURS = (
    Row("store", "etcd", "FLANNELD_STORE", "local:/store.db"),
    Row("operator-socket", "", "FLANNELD_OPERATOR_SOCKET", "/o.sock"),
    Row("take-over", "false", "FLANNELD_TAKE_OVER", "true"),
    Row("keep-privileges", "false", "FLANNELD_KEEP_PRIVILEGES", "true"),
    Row("datapath", "native", "FLANNELD_DATAPATH", "python"),
    Row("driver", "thread", "FLANNELD_DRIVER", "loop"),
    Row("queues", "1", "FLANNELD_QUEUES", "2"),
    Row("offload", "auto", "FLANNELD_OFFLOAD", "none"),
    Row("batch", "64", "FLANNELD_BATCH", "1"),
    Row("peer-check", "peer", "FLANNELD_PEER_CHECK", "strict"),
    Row("time-stages", "0", "FLANNELD_TIME_STAGES", "64"),
)
