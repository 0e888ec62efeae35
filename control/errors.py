"""What can go wrong in the control plane, as a tree.

Every error here reaches the operator as one line and an exit code, never as a
traceback. OSError is not wrapped: whoever lets it pass adds a note.

ControlError            1
├── ConfigError         2   the command line, the environment or a file named by it
├── HostError           1   this machine lacks something: interface, TUN, port
├── NetworkConfigError  1   the network configuration in the store
└── StoreError          1
    ├── StoreUnavailable    no answer in time: always tried again
    ├── LeaseLost           somebody else holds our subnet
    └── NoFreeSubnet        every subnet of the network is taken

Once a lease is held, LeaseLost is the only StoreError that is fatal (keeper.py).
"""


def one_line(error: Exception) -> str:
    """All that an error says: its message, then its notes."""
    return "; ".join((str(error), *getattr(error, "__notes__", ())))


class ControlError(Exception):
    """The daemon cannot do what it was asked; the message is for the operator."""

    exit_code = 1


class ConfigError(ControlError):
    """A setting is wrong: flag, variable or file."""

    exit_code = 2


class HostError(ControlError):
    """This machine lacks what the daemon needs: interface, address, TUN, port."""


class NetworkConfigError(ControlError):
    """The network configuration in the store is absent or wrong."""


class StoreError(ControlError):
    """The subnet store refused."""


class StoreUnavailable(StoreError):
    """The store did not answer in time; the outcome of a write is unknown."""


class LeaseLost(StoreError):
    """Another node holds our subnet."""


class NoFreeSubnet(StoreError):
    """Every subnet of the network is taken."""
