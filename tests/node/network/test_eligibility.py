"""What the chain says of stakes, and who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from hypercluster.market.errors import ChainError, NodeUnreachable
from hypercluster.node.network import eligibility
from hypercluster.node.network.eligibility import Backing, Eligibility

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

SESSION = 10
OPERATOR = "0xOperator"
RICH = {(f"rich {number}", OPERATOR): 100 + number for number in range(3)}


class Registry:
    """Stands for the chain where it must be slow, or silent: what is at stake, and which calls there were."""

    session_stake = SESSION

    def __init__(self) -> None:
        self.staking = self
        self.stakes = dict(RICH)
        self.calls: list[list[tuple[str, str]]] = []
        self.silent = False
        self.open = threading.Event()
        self.open.set()

    def backings(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        self.calls.append(list(pairs))
        self.open.wait(10)
        if self.silent:
            raise NodeUnreachable("The node does not answer.")
        return [self.stakes.get(pair, 0) for pair in pairs]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def eligible(registry: Registry) -> Eligibility:
    chain: Chain = registry  # type: ignore[assignment]
    return Eligibility(chain)


async def test_a_backing_and_the_sessions_that_it_carries(registry: Registry, eligible: Eligibility) -> None:
    assert await eligible("rich 0", OPERATOR) == Backing(100, 10)
    assert await eligible("rich 1", OPERATOR) == Backing(101, 10)
    assert await eligible("rich 0", "somebody else") is None
    assert await eligible("nobody", OPERATOR) is None
    asked = len(registry.calls)
    for node in ("rich 0", "nobody"):
        await eligible(node, OPERATOR)
    assert len(registry.calls) == asked


async def test_those_who_ask_at_once_share_a_call(registry: Registry, eligible: Eligibility) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(120):
            nursery.start_soon(eligible, f"stranger {number}", OPERATOR)
    assert [len(call) for call in registry.calls] == [50, 50, 20]


async def test_who_has_a_stake_does_not_wait_behind_those_who_have_none(
    registry: Registry, eligible: Eligibility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.0)
    await eligible("rich 0", OPERATOR)
    registry.open.clear()
    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(eligible, f"stranger {number}", OPERATOR)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(eligible, "rich 0", OPERATOR)
        await trio.testing.wait_all_tasks_blocked(0.05)
        registry.open.set()
    assert registry.calls[1][0][0].startswith("stranger")
    assert registry.calls[2][0] == ("rich 0", OPERATOR)


async def test_answers_that_are_used_and_run_out_soon_are_renewed_together(
    registry: Registry, eligible: Eligibility, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in ("rich 0", "rich 1", "rich 2"):
        await eligible(node, OPERATOR)
    for node in ("rich 0", "rich 1"):
        await eligible(node, OPERATOR)
    asked = len(registry.calls)
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.0)
    await eligible("rich 0", OPERATOR)
    assert [sorted(call) for call in registry.calls[asked:]] == [[("rich 0", OPERATOR), ("rich 1", OPERATOR)]]


async def test_names_without_stake_push_out_nobody_who_has_one(
    registry: Registry, eligible: Eligibility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eligibility, "MAX_KEPT", 3)
    for node, _ in RICH:
        await eligible(node, OPERATOR)
    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(eligible, f"stranger {number}", OPERATOR)
    asked = len(registry.calls)
    for node, _ in RICH:
        assert await eligible(node, OPERATOR)
    assert len(registry.calls) == asked


async def test_while_the_chain_is_silent_an_older_yes_holds_and_nothing_else(
    registry: Registry, eligible: Eligibility, monkeypatch: pytest.MonkeyPatch
) -> None:
    await eligible("rich 0", OPERATOR)
    registry.silent = True
    monkeypatch.setattr(eligibility, "KEEP_SECONDS", 0.0)
    assert await eligible("rich 0", OPERATOR) == Backing(100, 10)
    with pytest.raises(ChainError, match="does not answer"):
        await eligible("rich 1", OPERATOR)
    registry.silent = False
    assert await eligible("rich 1", OPERATOR) == Backing(101, 10)


async def test_who_is_cancelled_while_asking_leaves_the_others_their_answer(
    registry: Registry, eligible: Eligibility
) -> None:
    registry.open.clear()
    found: list[Backing | None] = []

    async def ask() -> None:
        found.append(await eligible("rich 2", OPERATOR))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.1):
            await eligible("rich 1", OPERATOR)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        registry.open.set()
    assert found == [Backing(102, 10)]
