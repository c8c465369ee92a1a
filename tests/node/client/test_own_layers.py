"""Layers that the client runs itself: the same tokens, and a bill without them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.money.voucher import charge
from hypercluster.node.client import kept
from hypercluster.node.client import own_layers as own_module
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.draft_model import Drafting, ModelDrafter
from hypercluster.node.client.kept import NotKept
from hypercluster.node.client.needs import AllBusy, NoRoute
from hypercluster.node.client.own_layers import BadLayers, Ends, OwnLayers
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from tests.node.client.test_client import CHEAP, PROMPT, World, honest, world
from tests.node.client.test_draft_model import PRICE_ONLY
from tests.node.helpers.providers import Wallet, new_wallet

__all__ = ["honest", "world"]
LONG = 20
"""more than a step of these providers has, so that the prompt goes in chunks"""


def own(*ranges: str, sessions: int = 1) -> Ends:
    return Ends(ranges=ranges, sessions=sessions, threads=1)


async def completed(world: World, wallet: Wallet, home: Path, ends: Ends, **more: Any) -> Completion:
    async with world.client(wallet, home, own=ends, **more) as client:
        wishes = replace(client.wishes, drafts=8 if more else 0, market=PRICE_ONLY)
        asked = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=LONG), wishes=wishes)
        with trio.fail_after(300):
            done = await client.complete(asked).finished()
    assert world.best_vouchers(wallet) == done.spent_wei + done.risked_wei
    return done


@pytest.mark.parametrize(
    ("ranges", "paid"), [(["0:2"], [(2, 4)]), (["2:4"], [(0, 2)]), (["0:2", "2:4"], []), (["0:4"], [])]
)
@pytest.mark.parametrize("drafting", [False, True])
async def test_the_same_tokens_come_and_only_the_others_are_paid(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ranges: list[str],
    paid: list[tuple[int, int]],
    drafting: bool,
) -> None:
    came = ModelDrafter.came

    def read(self: ModelDrafter, tokens: Sequence[int]) -> None:
        """Layers of one's own may be quicker than the draft model reads the prompt; then others guess, and worse."""
        came(self, tokens)
        if self._running is not None:
            self._running.exception(300)

    monkeypatch.setattr(ModelDrafter, "came", read)
    more = {"drafting": Drafting(stored=world.stored)} if drafting else {}
    done = await completed(world, new_wallet(world.chain), tmp_path, own(*ranges), **more)
    assert done.tokens == world.greedy[:LONG]
    assert [(bill.layer_start, bill.layer_stop) for bill in done.bills] == paid
    if drafting:
        assert done.draft_held == done.drafted > 0
    else:
        assert done.spent_wei == len(paid) * (charge(CHEAP, CHEAP // 4, len(PROMPT)) + (LONG - 1) * CHEAP)


async def test_a_long_prompt_goes_in_chunks_and_draws_are_the_same(world: World, tmp_path: Path) -> None:
    prompt = [*PROMPT, *world.greedy[:45]]

    async def run(home: Path, **more: Any) -> Completion:
        sampling = Sampling(temperature=0.7, seed=3)
        async with world.client(new_wallet(world.chain), home, **more) as client:
            request = Request(prompt=tuple(prompt), allowance=Allowance(tokens=12), sampling=sampling)
            with trio.fail_after(300):
                return await client.complete(request).finished()

    plain = await run(tmp_path / "plain")
    assert (await run(tmp_path / "own", own=own("0:2"))).tokens == plain.tokens
    assert (await run(tmp_path / "tail", own=own("2:4"))).tokens == plain.tokens


@pytest.mark.parametrize("ranges", [["0:2"], ["2:4"], ["0:2", "2:4"]])
async def test_the_next_turn_goes_on_in_own_layers_too(
    world: World, tmp_path: Path, ranges: list[str]
) -> None:
    wallet, text = new_wallet(world.chain), [*PROMPT, *world.greedy]

    async with world.client(wallet, tmp_path, own=own(*ranges)) as client:
        staying = replace(client.wishes, stays=True)

        async def asked(prompt: list[int], tokens: int = 4) -> Completion:
            request = Request(prompt=tuple(prompt), allowance=Allowance(tokens=tokens), wishes=staying)
            with trio.fail_after(300):
                return await client.complete(request).finished()

        first = await asked(text[:40])
        second = await asked(text[:50])
        # One session only: whoever asks something else takes its room, and nothing is lost but what was held.
        other = await asked(text[1:40])
        third = await asked(text[:50])
    assert first.tokens == text[40:44]
    assert second.tokens == third.tokens == text[50:54]
    assert [done.cached for done in (first, second, other, third)] == [0, 43, 0, 0]
    price = len(first.bills) * (CHEAP // 80 * 43 + charge(CHEAP, CHEAP // 4, 7) + 3 * CHEAP)
    assert second.spent_wei == price
    assert [bill.session for bill in second.bills] == [bill.session for bill in first.bills]


@pytest.mark.parametrize("dtype", [WireDtype.F16, WireDtype.Q8])
async def test_fewer_bytes_round_what_own_layers_give_as_what_others_do(
    world: World, tmp_path: Path, dtype: WireDtype
) -> None:
    async def run(home: Path, **more: Any) -> list[int]:
        async with world.client(new_wallet(world.chain), home, **more) as client:
            wishes = replace(client.wishes, wire_dtype=dtype)
            asked = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=LONG), wishes=wishes)
            return (await client.complete(asked).finished()).tokens

    assert await run(tmp_path / "own", own=own("0:2")) == await run(tmp_path / "plain")


async def test_whose_layers_are_not_between_is_not_asked_and_that_is_said(
    world: World, tmp_path: Path
) -> None:
    async with world.client(new_wallet(world.chain), tmp_path, own=own("0:1")) as client:
        asked = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=4, patience=0.5))
        with trio.fail_after(300), pytest.raises(NoRoute, match=r"of providers layers 1:4 are asked"):
            await client.complete(asked).finished()


async def test_who_comes_second_waits_for_the_session_and_gets_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=4))
    async with world.client(new_wallet(world.chain), tmp_path, own=own("0:4")) as client:
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                done: list[Completion] = []

                async def run() -> None:
                    done.append(await client.complete(asked).finished())

                for _ in range(3):
                    nursery.start_soon(run)
        assert [each.tokens for each in done] == [world.greedy[:4]] * 3
        assert client.own_layers is not None
        session = await client.own_layers.open(8, 1, WireDtype.F32)
        monkeypatch.setattr(own_module, "WAIT_SECONDS", 0.1)
        with pytest.raises(AllBusy, match="your own layers"):
            await client.complete(asked).finished()
        session.close()
        session.close()
        assert (await client.complete(asked).finished()).tokens == world.greedy[:4]


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        (["1:3"], "no end of this model, which has 4"),
        (["0:5"], "no end of this model"),
        (["0:1", "9:12"], "no end of this model"),
    ],
)
def test_what_is_no_end_of_the_model_is_refused(
    stored_tiny: StoredModel, ranges: list[str], why: str
) -> None:
    with pytest.raises(BadLayers, match=why):
        own(*ranges).of(stored_tiny)


async def test_what_first_layers_put_out_is_kept_for_who_takes_over_up_to_a_bound(
    stored_tiny: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(OwnLayers(own("0:2"), stored_tiny)) as layers:
        session = await layers.open(32, 1, WireDtype.F32)
        (stage,) = session.stages
        four, fifth = await stage.step(PROMPT[:4], 4), await stage.step([7], 1)
        assert isinstance(four, bytes)
        assert isinstance(fifth, bytes)
        assert stage.kept(0, 5) == four + fifth
        stage.position = 3
        other = await stage.step([9], 1)
        assert isinstance(other, bytes)
        assert stage.kept(2, 4) == four[len(fifth) * 2 : len(fifth) * 3] + other
        with pytest.raises(NotKept, match="not kept any more"):
            stage.kept(0, 5)
        monkeypatch.setattr(kept, "MOST_BYTES", 4 * len(fifth))
        await stage.step([7], 1)
        with pytest.raises(NotKept):
            stage.kept(0, 1)
        session.close()


def test_where_the_model_cannot_be_cut_or_all_layers_read_tokens_there_are_no_own_layers(
    stored_tiny: StoredModel,
) -> None:
    def like(**changes: Any) -> StoredModel:
        return replace(stored_tiny, manifest=replace(stored_tiny.manifest, **changes))

    with pytest.raises(BadLayers, match="cannot be cut before layer 1: its parts begin at 0, 2"):
        own("0:1").of(like(starts=(0, 2)))
    assert own("0:2").of(like(starts=(0, 2))) == (2, 4)
    with pytest.raises(BadLayers, match="each provider is sent them"):
        own("0:2").of(like(reads_tokens=True))
    assert own("0:3", "2:4").of(like(reads_tokens=True)) == (4, 4)
