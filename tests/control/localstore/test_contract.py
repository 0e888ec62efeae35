"""The local store keeps the promises of every store."""

from __future__ import annotations

import pytest

from tests.control.store_contract import StoreContract
from tests.helpers.localrig import LocalRig


class TestContract(StoreContract):
    @pytest.fixture
    def rig(self, rig: LocalRig) -> LocalRig:
        return rig
