"""Libraries that only some commands need: they come with flannelette[tools]."""

from __future__ import annotations

import importlib
from types import ModuleType

from flannelette.control.errors import HostError


def need(module: str, command: str) -> ModuleType:
    """The module of that name, for that command.

    Raises HostError, which says how to install it, or why it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise HostError(
                f"{command} needs {library}: pip install 'flannelette[tools]'"
            ) from None
        raise HostError(
            f"{command} needs {library}, which cannot be imported here: {error}"
        ) from None
