"""Rows that travel in fewer bytes: asked for, or chosen where they do the model no harm and cost no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.routing import Path as Route
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.leanness import leanest_path
from hypercluster.node.client.needs import NoRoute
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.rows import WireDtype
from tests.node.client.test_client import CHEAP, PROMPT, World, honest, world
from tests.node.helpers.providers import new_wallet
from tests.node.helpers.rounding import certify, greedy

__all__ = ["honest", "world"]
TOKENS = 24
RANGES = (0, 2), (2, 4)


async def completed(
    client: Client, dtype: WireDtype | None, prompt: list[int] = PROMPT, tokens: int = TOKENS
) -> Completion:
    wishes = replace(client.wishes, wire_dtype=dtype)
    request = Request(prompt=tuple(prompt), allowance=Allowance(tokens=tokens, patience=1.0), wishes=wishes)
    with trio.fail_after(300):
        return await client.complete(request).finished()


def travelled(world: World, done: Completion) -> list[WireDtype]:
    """How rows travelled, by the transcripts of the providers."""
    sessions = {
        record.session: record.wire_dtype
        for served in (world.head, world.tail, world.whole)
        for _, record in served.provider.transcripts.records()
    }
    return [sessions[bill.session] for bill in done.bills]


@pytest.mark.parametrize("chained", [False, True], ids=["relay", "chain"])
@pytest.mark.parametrize("dtype", [WireDtype.F16, WireDtype.Q8])
async def test_rounded_rows_give_what_the_shards_give_at_the_same_price(
    world: World, tmp_path: Path, dtype: WireDtype, chained: bool
) -> None:
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path) as client:
        client.wishes = replace(client.wishes, chain=chained)
        done = await completed(client, dtype)
    assert done.tokens == greedy(world.stored, RANGES, PROMPT, TOKENS, dtype)
    assert travelled(world, done) == [dtype, dtype]
    assert done.spent_wei == 2 * (charge(CHEAP, CHEAP // 4, len(PROMPT)) + (TOKENS - 1) * CHEAP)
    assert world.best_vouchers(wallet) == done.spent_wei


async def test_what_does_the_model_no_harm_is_taken_where_that_is_left_open(
    world: World, tmp_path: Path
) -> None:
    wallet = new_wallet(world.chain)
    other = replace(world.stored, folder=tmp_path / "model")
    for number, (certified, taken) in enumerate(
        (
            (("q8",), WireDtype.Q8),
            (("q8", "f16"), WireDtype.Q8),
            (("f16",), WireDtype.F16),
            ((), WireDtype.F32),
        )
    ):
        certify(other, *certified)
        known = replace(world, stored=other)
        async with known.client(wallet, tmp_path / str(number)) as client:
            done = await completed(client, None, tokens=4)
        assert travelled(world, done) == [taken, taken]


async def test_a_talk_goes_on_in_the_rows_in_which_it_began(world: World, tmp_path: Path) -> None:
    text = [*PROMPT, *world.greedy]
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        client.wishes = replace(client.wishes, stays=True)
        first = await completed(client, None, text[:40], 4)
        second = await completed(client, None, text[:50], 4)
        # Another form is another session.
        third = await completed(client, WireDtype.F32, text[:54], 4)
    assert (first.cached, second.cached, third.cached) == (0, 43, 0)
    sent = [travelled(world, done) for done in (first, second, third)]
    assert sent == [[WireDtype.Q8] * 2, [WireDtype.Q8] * 2, [WireDtype.F32] * 2]


def found(weights: Mapping[WireDtype, float]) -> object:
    async def route(wishes: Wishes) -> Route:
        assert wishes.wire_dtype is not None
        if wishes.wire_dtype not in weights:
            raise NoRoute(f"none for {wishes.wire_dtype.name}")
        return Route((), weights[wishes.wire_dtype], 1, 1, 1.0)

    return route


Q8, F16, F32 = WireDtype.Q8, WireDtype.F16, WireDtype.F32


@pytest.mark.parametrize(
    ("weights", "harmless", "taken"),
    [
        ({Q8: 1.0, F16: 1.0, F32: 1.0}, {"q8", "f16"}, Q8),
        ({Q8: 1.0, F16: 1.0, F32: 1.0}, {"f16"}, F16),
        ({Q8: 1.0, F16: 1.0, F32: 1.0}, set(), F32),
        ({Q8: 1.04, F32: 1.0}, {"q8"}, Q8),
        # Nobody is paid more because of the bytes.
        ({Q8: 1.06, F16: 1.06, F32: 1.0}, {"q8", "f16"}, F32),
        ({Q8: 1.2, F16: 1.0, F32: 1.1}, {"q8", "f16"}, F16),
        ({F32: 1.0}, {"q8", "f16"}, F32),
        ({Q8: 1.0}, {"q8"}, Q8),
    ],
)
async def test_fewer_bytes_are_taken_where_they_cost_no_more(
    weights: dict[WireDtype, float], harmless: set[str], taken: WireDtype
) -> None:
    _, wishes = await leanest_path(found(weights), Wishes(wire_dtype=None), harmless)  # type: ignore[arg-type]
    assert wishes.wire_dtype is taken


async def test_what_is_asked_for_is_asked_for_and_why_there_is_none_is_said() -> None:
    for dtype in WireDtype:
        with pytest.raises(NoRoute, match=dtype.name):
            await leanest_path(found({}), Wishes(wire_dtype=dtype), {"q8", "f16"})  # type: ignore[arg-type]
    with pytest.raises(NoRoute, match="F32"):
        await leanest_path(found({}), Wishes(wire_dtype=None), {"q8", "f16"})  # type: ignore[arg-type]
