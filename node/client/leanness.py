"""In how few bytes rows travel where a request leaves it open: the fewest that do the model no harm and cost little."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from hypercluster.node.errors import NodeError
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.request import Wishes

LEANEST_FIRST = WireDtype.Q8, WireDtype.F16
WORTH = 1.05
"""times the weight of the lightest path: who takes rows in fewer bytes gets no more for it"""


async def leanest_path(
    route: Callable[[Wishes], Awaitable[Path]], wishes: Wishes, harmless: Collection[str]
) -> tuple[Path, Wishes]:
    """The path that `route` finds, and what was wished of it: the type in which rows travel is the one wished for, or
    of f32 and those that are `harmless`, by name, the one with the fewest bytes. Raises as `route` does.
    """
    if wishes.wire_dtype is not None:
        return await route(wishes), wishes
    found: list[tuple[Path, Wishes]] = []
    for dtype in (*(each for each in LEANEST_FIRST if each.name.lower() in harmless), WireDtype.F32):
        settled = replace(wishes, wire_dtype=dtype)
        try:
            found.append((await route(settled), settled))
        except NodeError:
            if dtype is WireDtype.F32 and not found:
                raise
    most = WORTH * min(path.weight for path, _ in found)
    return next((path, settled) for path, settled in found if path.weight <= most)
