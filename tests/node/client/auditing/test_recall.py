"""Questions for steps that a provider signed for: as it hears them."""

from __future__ import annotations

import trio
import trio.testing

from hypercluster.node.client.auditing.recall import Turns
from hypercluster.node.network.budgets import BOUNDS, LOCAL, Budget, Source


async def test_however_many_questions_there_are_a_provider_hears_each(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it does not hear it resets, and who is reset takes it for gone."""
    turns, budgets = Turns(), {peer: Budget(BOUNDS["recall"]) for peer in ("one", "other")}
    heard: list[str] = []

    async def ask(peer: str) -> None:
        async with turns.of(peer):
            with budgets[peer].holding(Source(peer, LOCAL)):
                await trio.sleep(0.01)
                heard.append(peer)

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(ask, "one")
        nursery.start_soon(ask, "other")
    assert sorted(heard) == 60 * ["one"] + ["other"]
    # Nobody waits for questions to somebody else.
    assert "other" in heard[:5]
