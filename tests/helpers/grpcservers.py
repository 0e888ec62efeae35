"""Servers of gRPC that tests run in their own loop."""

from __future__ import annotations

import asyncio

import grpc.aio

DEADLINE = 20.0


async def stop(server: grpc.aio.Server) -> None:
    """At once, and until the last of its calls has ended, which is a little later."""
    await server.stop(None)
    calls = {task for task in asyncio.all_tasks() if task.get_name() == "rpc_task"}
    if calls:
        await asyncio.wait(calls, timeout=DEADLINE)
