"""A forwarder as the settings ask for it."""

from __future__ import annotations

from flannelette.control.config import Config
from flannelette.dataplane.forwarder import Forwarder
from flannelette.dataplane.underlay import Underlay


def open_forwarder(config: Config, underlay: Underlay) -> Forwarder:
    """The underlay is the forwarder's from here on."""
    return Forwarder(
        underlay,
        config.datapath,
        config.driver,
        config.offload,
        config.batch,
        config.peer_check,
        config.time_stages,
    )


def wishes(config: Config) -> frozenset[str]:
    """The offloads that descriptors are opened for: the Python path uses none."""
    return config.offload if config.datapath == "native" else frozenset()
