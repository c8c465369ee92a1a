"""Waiting for a path while providers are still being found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.needs import AllBusy, NoRoute

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.network.discovery import Discovery


async def patiently(route: Callable[[], Awaitable[Path]], discovery: Discovery, seconds: float) -> Path:
    """A path as soon as there is one. Raises NoRoute or AllBusy when there is none in time, or no hope for one."""
    deadline = trio.current_time() + seconds
    while True:
        try:
            return await route()
        except (NoRoute, AllBusy):
            if trio.current_time() >= deadline or discovery.hopeless:
                raise
        await trio.sleep(0.1)
