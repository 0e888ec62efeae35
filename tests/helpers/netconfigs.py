"""Network configurations by their members, as an operator writes them."""

from __future__ import annotations

import json
from typing import Any

from flannelette.control.netconfig import NetworkConfig

DUAL = {"Network": "10.3.0.0/16", "EnableIPv6": True, "IPv6Network": "fc00::/48"}


def parse(**members: Any) -> NetworkConfig:
    return NetworkConfig.parse(json.dumps(members))


def dual(**members: Any) -> NetworkConfig:
    return parse(**{**DUAL, **members})
