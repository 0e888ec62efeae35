"""What a CNI plugin answers when something is wrong: a code and a message, as JSON.

CNI 1.1, "Errors".
"""

from __future__ import annotations

from flannelette.control.errors import ControlError

INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
UNDECODABLE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
SUBNET_CHANGED = 100
"""A code of our own: the container's subnet is not the node's any more."""
INTERNAL = 999
"""The library's, for a plugin that failed without saying how."""


class CniError(ControlError):
    """The operation failed; str() is CNI's msg."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def document(self, version: str) -> dict[str, object]:
        """The error result, in that version of the protocol."""
        document: dict[str, object] = {
            "cniVersion": version,
            "code": self.code,
            "msg": str(self),
        }
        if self.details:
            document["details"] = self.details
        return document
