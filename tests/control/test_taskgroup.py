"""Errors of tasks come out as they are."""

from __future__ import annotations

import asyncio

import pytest

from flannelette.control.errors import ConfigError
from flannelette.control.taskgroup import TaskGroup


def fail() -> None:
    try:
        open("/nowhere/cert.pem", "rb").close()
    except OSError as error:
        raise ConfigError(f"--etcd-certfile: {error.strerror}") from None


async def fails() -> None:
    fail()


async def wait_beside_a_task_that_fails() -> None:
    async with TaskGroup() as tasks:
        tasks.create_task(fails())
        await asyncio.Event().wait()


async def test_an_error_of_the_body_tells_what_it_came_of() -> None:
    with pytest.raises(ConfigError) as caught:
        async with TaskGroup():
            fail()
    assert isinstance(caught.value.__context__, FileNotFoundError)


async def test_an_error_of_a_task_tells_what_it_came_of() -> None:
    with pytest.raises(ConfigError) as caught:
        await wait_beside_a_task_that_fails()
    assert isinstance(caught.value.__context__, FileNotFoundError)
