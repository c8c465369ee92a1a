"""A small model of the client's own guesses: fewer trips where it is right, the same tokens whatever it says."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.node.client import draft_model as draft_module
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.draft_model import Drafting, DraftModel, NoDraftModel
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.engine import reference
from hypercluster.node.engine.apart import Apart
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.shards.writing import texts
from tests.node.client.test_client import PROMPT, World, hang_up, honest, world
from tests.node.helpers.mamba import write_random_mamba
from tests.node.helpers.providers import new_wallet
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

__all__ = ["honest", "world"]
PRICE_ONLY = MarketParameters(alpha=1.0, p_ref=1)
"""where three drafts beside a token cost no more than the token, as in this world, three are sent"""
GREEDY = Sampling()
LONG = 40


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """A model with the same tokens that knows nothing of the first one: two layers, half as wide."""
    folder = tmp_path_factory.mktemp("other")
    shape = Shape(layers=2, n_embd=32, seed=5)
    return open_model(write_random_model(folder / "other.gguf", shape), folder / "home")


async def completed(
    client: Client, sampling: Sampling = GREEDY, prompt: tuple[int, ...] = tuple(PROMPT)
) -> Completion:
    wishes = replace(client.wishes, drafts=8, in_flight=0, market=PRICE_ONLY)
    asked = Request(prompt=prompt, allowance=Allowance(tokens=LONG), sampling=sampling, wishes=wishes)
    with trio.fail_after(300):
        return await client.complete(asked).finished()


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=0.7, seed=7)])
async def test_who_is_always_right_saves_three_trips_of_four_and_the_bill_is_exact(
    world: World, tmp_path: Path, sampling: Sampling
) -> None:
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path / "with", drafting=Drafting(stored=world.stored)) as client:
        done = await completed(client, sampling)
    assert world.best_vouchers(wallet) == done.spent_wei + done.risked_wei
    for bill in done.bills:
        assert bill.tokens == len(PROMPT) + LONG - 1 + done.drafted - done.draft_held
    if sampling.temperature:
        async with world.client(new_wallet(world.chain), tmp_path / "without") as client:
            plain = await client.complete(
                Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=LONG), sampling=sampling)
            ).finished()
        assert done.tokens == plain.tokens
    else:
        assert done.tokens == world.greedy[:LONG]
        assert done.drafted == done.draft_held
        assert len(done.bills[0].timing.total) <= 2 + -(-LONG // 4)


async def test_who_knows_nothing_changes_nothing(world: World, other: StoredModel, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path, drafting=Drafting(stored=other)) as client:
        done = await completed(client)
    assert done.tokens == world.greedy[:LONG]
    assert done.drafted > done.draft_held


async def test_a_provider_lost_amid_guesses_changes_nothing(world: World, tmp_path: Path) -> None:
    world.tail_lies.tell = hang_up
    async with world.client(
        new_wallet(world.chain), tmp_path, drafting=Drafting(stored=world.stored)
    ) as client:
        done = await completed(client)
    assert done.tokens == world.greedy[:LONG]
    assert done.failures == [world.tail.advert.peer]


async def test_the_next_turn_over_a_path_that_stayed_is_guessed_for_as_well(
    world: World, tmp_path: Path
) -> None:
    wallet, prompt = new_wallet(world.chain), tuple(PROMPT) * 9
    async with world.client(wallet, tmp_path, drafting=Drafting(stored=world.stored)) as client:
        wishes = replace(client.wishes, drafts=8, in_flight=0, market=PRICE_ONLY, stays=True)
        turns: list[Completion] = []
        for more in ((), (7, 8)):
            prompt = (*prompt, *(turns[-1].tokens if turns else ()), *more)
            asked = Request(prompt=prompt, allowance=Allowance(tokens=12), wishes=wishes)
            with trio.fail_after(300):
                turns.append(await client.complete(asked).finished())
    assert turns[1].cached >= 36
    assert [done.draft_held == done.drafted > 0 for done in turns] == [True, True]
    assert world.best_vouchers(wallet) == sum(done.spent_wei for done in turns)
    assert world.stored.source
    for done in turns:
        whole = reference.generate(world.stored.source, done.prompt, 12, threads=1)
        assert done.tokens == [int(token) for token in whole.ids]


async def test_a_draft_model_that_dies_changes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    begin = Apart.__init__

    def remember(self: Apart, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        started.append(self.pid)

    monkeypatch.setattr(Apart, "__init__", remember)
    async with world.client(
        new_wallet(world.chain), tmp_path, drafting=Drafting(stored=world.stored)
    ) as client:
        guess = draft_module.ModelDrafter.next
        made = 0

        async def dying(self: draft_module.ModelDrafter, guessed: list[int]) -> tuple[int, int] | None:
            nonlocal made
            made += 1
            if made == 5:
                os.kill(started[-1], signal.SIGKILL)
            return await guess(self, guessed)

        monkeypatch.setattr(draft_module.ModelDrafter, "next", dying)
        done = await completed(client)
    assert done.tokens == world.greedy[:LONG]
    assert 0 < done.draft_held < 8


async def test_a_text_that_it_has_no_room_for_and_a_second_one_at_once_go_without(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_module, "SESSION_TOKENS", len(PROMPT) + 12)
    async with world.client(
        new_wallet(world.chain), tmp_path, drafting=Drafting(stored=world.stored)
    ) as client:
        assert client.draft_model is not None
        other = client.draft_model.drafter()
        other.came(PROMPT)
        taken = await completed(client)
        assert taken.tokens == world.greedy[:LONG]
        other.close()
        short = await completed(client)
    assert short.tokens == world.greedy[:LONG]
    assert 0 < short.draft_held <= 12


def test_other_tokens_are_refused_and_so_is_who_cannot_go_back(
    stored_tiny: StoredModel, tiny_model: Path, tmp_path: Path
) -> None:
    names = [f"t{number}" for number in range(320)]
    renamed = rewritten(
        tiny_model, tmp_path / "renamed.gguf", metadata={"tokenizer.ggml.tokens": texts(names)}
    )
    stranger = open_model(renamed, tmp_path / "home")
    with pytest.raises(NoDraftModel, match="has other tokens than"):
        Drafting(stored=stranger).check([stored_tiny])
    Drafting(stored=stranger).check([stored_tiny, stranger])
    recurrent = open_model(write_random_mamba(tmp_path / "mamba.gguf"), tmp_path / "home")
    with pytest.raises(NoDraftModel, match="cannot go back"):
        Drafting(stored=recurrent).check([recurrent])


async def test_what_is_held_is_read_once_and_a_wrong_guess_is_forgotten(stored_tiny: StoredModel) -> None:
    assert stored_tiny.source
    greedy = [int(i) for i in reference.generate(stored_tiny.source, PROMPT, 6, threads=1).ids]
    with closing(DraftModel(Drafting(stored=stored_tiny))) as model:
        drafter = model.drafter()
        drafter.came(PROMPT)
        with trio.fail_after(300):
            while not drafter.ready:
                await trio.sleep(0.01)
            guessed: list[int] = []
            for expected in greedy:
                found = await drafter.next(guessed)
                assert found is not None
                assert found[0] == expected
                guessed.append(found[0])
            # Something else came than the second guess: what it says next is what follows that.
            drafter.came([guessed[0], 7])
            after = await drafter.next([])
            fresh = model.drafter()
            fresh.came([*PROMPT, guessed[0], 7])
            assert not fresh.ready  # there is one session
            drafter.close()
            again = model.drafter()
            again.came([*PROMPT, guessed[0], 7])
            while not again.ready:
                await trio.sleep(0.01)
            assert await again.next([]) == after
