"""Which store the settings ask for."""

from __future__ import annotations

from flannelette.control.config import Config
from flannelette.control.flagvalues import Local, Static
from flannelette.control.store import Store


def open_store(config: Config) -> Store:
    """The store of the settings, not yet connected.

    Raises ConfigError for a file it cannot use. Only the store in use is imported:
    grpc alone costs 20 MiB."""
    match config.store:
        case Local(path):
            from flannelette.control.localstore import LocalStore

            return LocalStore(path)
        case Static(path):
            from flannelette.control.staticstore import StaticStore

            return StaticStore(path)
        case _:
            from flannelette.control.etcd.channel import EtcdSettings
            from flannelette.control.etcd.store import EtcdStore

            return EtcdStore(
                EtcdSettings(
                    endpoints=config.etcd_endpoints,
                    prefix=config.etcd_prefix,
                    keyfile=config.etcd_keyfile,
                    certfile=config.etcd_certfile,
                    cafile=config.etcd_cafile,
                    username=config.etcd_username,
                    password=config.etcd_password,
                )
            )
