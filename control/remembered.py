"""What a node was, for the next time that it starts: its subnets, and its MAC.

The subnet file tells the subnets (E15), and the MAC lies beside it. Mostly that is in
/run, which a reboot clears. flanneld then comes back by its public IP, if its lease
still lives: 24 hours (E14). A service with a directory that outlives a reboot has both
there (systemd.exec(5) StateDirectory=).

subnet.env itself comes back only with a lease: with an old one, containers might get
addresses that are another node's by now.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flannelette.control import mac, subnetfile
from flannelette.control.config import Config
from flannelette.control.errors import one_line
from flannelette.control.lease import Lease, Subnets
from flannelette.control.netconfig import NetworkConfig

log = logging.getLogger(__name__)


def previous_subnets(config: Config) -> Subnets | None:
    """Those that we ask for again. Raises OSError when the subnet file cannot be
    read."""
    subnets = subnetfile.previous_subnets(config.subnet_file)
    if subnets is not None or config.state_directory is None:
        return subnets
    try:
        return subnetfile.previous_subnets(_place(config))
    except OSError as error:
        log.warning("the last subnet is forgotten: error=%s", one_line(error))
        return None


def write(config: Config, network: NetworkConfig, lease: Lease, mtu: int) -> None:
    """Write the subnet file, for others as well (S1). Raises OSError."""
    subnetfile.write(config.subnet_file, network, lease, mtu, config.ip_masq)
    if config.state_directory is None:
        return
    try:
        subnetfile.write(_place(config), network, lease, mtu, config.ip_masq)
    except OSError as error:
        log.warning("a reboot will forget the subnet: error=%s", one_line(error))


def own_mac(config: Config) -> int:
    """That of our end of a VXLAN. Raises OSError."""
    place = _place(config)
    subnetfile.make_directory(place.parent)
    return mac.keep(place.with_name(f"{place.name}.mac"))


def _place(config: Config) -> Path:
    directory = config.state_directory or config.subnet_file.parent
    return directory / config.subnet_file.name
