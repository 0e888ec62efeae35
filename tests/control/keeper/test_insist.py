"""A store that does not answer is asked until it does; that is said once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flannelette.control.errors import LeaseLost, StoreError, StoreUnavailable
from flannelette.control.keeper import insist


@pytest.mark.parametrize("error", [StoreError("wrong password"), LeaseLost("theirs")])
async def test_a_refusal_before_the_first_lease_is_fatal(error: StoreError) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        await asyncio.wait_for(insist("wait", call, lease_held=False), 10)


@pytest.mark.parametrize("lease_held", [False, True])
async def test_insist_says_once(
    lease_held: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([StoreUnavailable("one"), StoreUnavailable("two"), "done"])

    async def call() -> str:
        answer = next(answers)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return str(answer)

    assert await insist("wait", call, lease_held) == "done"
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the store: to='wait' error=one",
        "the store answers again: to='wait'",
    ]
