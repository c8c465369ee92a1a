"""Drawing over real providers: log probabilities are the unsplit model's, and a replaced hop changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import Event, Token
from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling
from hypercluster.node.engine import reference
from hypercluster.node.engine.chat import Tool
from hypercluster.node.engine.grammar import JsonSchema, Lark, ToolUse
from tests.node.client.test_client import PROMPT, World, hang_up, honest, world
from tests.node.client.test_completing import events_of
from tests.node.helpers.providers import new_wallet

__all__ = ["honest", "world"]
TOKENS = 6
THING = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "maxLength": 4},
        "b": {"type": "integer", "maximum": 99, "minimum": 0},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}


def request(tokens: int = TOKENS, **changes: Any) -> Request:
    return Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=tokens), **changes)


def tokens_of(events: list[Event]) -> list[Token]:
    return [event for event in events if isinstance(event, Token)]


async def test_log_probabilities_are_those_of_the_unsplit_model(world: World, tmp_path: Path) -> None:
    """Over two providers, from logsumexp; whatever temperature and penalties made of them."""
    wanted = request(
        logprobs=5, sampling=Sampling(temperature=1.5, seed=3, frequency_penalty=1.0, logit_bias=((7, 5.0),))
    )
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        events, done = await events_of(client, wanted)
        assert done.seed == 3
        pieces = [client.model.tokenizer.piece(i, special=True) for i in range(client.model.n_vocab)]
    drawn = iter(done.tokens)
    assert world.stored.source
    unsplit = reference.generate(world.stored.source, PROMPT, TOKENS, 1, choose=lambda logits: next(drawn))
    for token, logits in zip(tokens_of(events), unsplit.logits.astype(float), strict=True):
        logprobs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert token.logprob == pytest.approx(logprobs[token.id], abs=1e-6)
        best = np.argsort(-logits, kind="stable")[:5]
        assert [each.id for each in token.top] == best.tolist()
        assert [each.logprob for each in token.top] == pytest.approx(logprobs[best], abs=1e-6)
        assert token.top[0].piece == pieces[int(best[0])]


async def test_nothing_is_told_that_was_not_asked_for(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        plain, done = await events_of(client, request())
        assert done.seed is None
        own, _ = await events_of(client, request(logprobs=0))
        _, drawn = await events_of(client, request(sampling=Sampling(temperature=1.0)))
        again = request(sampling=Sampling(temperature=1.0, seed=drawn.seed))
        assert (await events_of(client, again))[1].tokens == drawn.tokens
    assert {(token.logprob, token.top) for token in tokens_of(plain)} == {(None, ())}
    assert all(token.logprob is not None and token.top == () for token in tokens_of(own))


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": Sampling(temperature=1.2, seed=5, presence_penalty=1.0, repetition_penalty=1.2)},
        {"format": JsonSchema(THING), "sampling": Sampling(temperature=1.5, seed=2)},
        {"format": JsonSchema(THING)},
        {"stop": ("zzz", "\0"), "sampling": Sampling(temperature=1.2, seed=5)},
    ],
)
async def test_a_replaced_hop_changes_nothing_of_what_is_drawn(
    world: World, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Sampler, penalties, grammar and held back texts stand where they stood."""
    asked = request(40, **changes)
    async with world.client(new_wallet(world.chain), tmp_path / "a") as client:
        _, whole = await events_of(client, asked)
    assert whole.failures == []
    world.tail_lies.results, world.tail_lies.tell = 0, hang_up
    async with world.client(new_wallet(world.chain), tmp_path / "b") as client:
        _, broken = await events_of(client, asked)
    assert len(broken.failures) == 1
    assert (broken.tokens, broken.text, broken.finish) == (whole.tokens, whole.text, whole.finish)
    if "format" in changes:
        assert set(json.loads(broken.text)) == {"a", "b"}


async def test_a_format_asks_the_tail_for_all_that_it_gives(world: World, tmp_path: Path) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        events, done = await events_of(client, request(40, format=JsonSchema(THING), candidates=8))
        assert {token.candidates for token in tokens_of(events)} == {client.model.n_vocab}
        assert (done.finish, done.grammar_forced, done.cut_short) == ("stop", 0, 0)
        # nothing is paid for an end that must come
        assert done.bill.hops[0].tokens == len(PROMPT) + len(done.tokens) - 1
        penalised = request(sampling=Sampling(frequency_penalty=0.5, penalty_last_n=16), candidates=8)
        events, _ = await events_of(client, penalised)
        assert {token.candidates for token in tokens_of(events)} == {24}
        # a model that writes calls without a mark is free until it has written one
        events, _ = await events_of(client, request(format=ToolUse((Tool("look"),)), candidates=8))
        assert {token.candidates for token in tokens_of(events)} == {8}


async def test_what_the_vocabulary_does_not_have_is_refused_before_anything_is_paid(
    world: World, tmp_path: Path
) -> None:
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        for changes, said in (
            ({"sampling": Sampling(logit_bias=((99_999, 1.0),))}, "Token 99999 has a bias"),
            ({"format": Lark("start: <|nothing|>")}, "nothing"),
        ):
            _, done = await events_of(client, request(**changes))
            assert isinstance(done.error, BadRequest)
            assert said in str(done.error)
            assert done.bills == []


async def stopped_at(client: Client, *stops: str) -> Completion:
    return (await events_of(client, request(stop=stops)))[1]


async def test_texts_to_stop_at_in_the_first_token_and_over_several(world: World, tmp_path: Path) -> None:
    """None of them is in the text, nor in any token's text, however they overlap."""
    async with world.client(new_wallet(world.chain), tmp_path) as client:
        whole = (await events_of(client, request()))[1].text
        assert len(whole) >= 4
        first = await stopped_at(client, whole[0])
        assert (first.text, first.finish, first.stop) == ("", "stop", whole[0])
        middle = await stopped_at(client, whole[1:3])
        assert (middle.text, middle.finish) == (whole[:1], "stop")
        both = await stopped_at(client, whole[2:4], whole[1:3], "never")
        assert (both.text, both.stop) == (whole[:1], whole[1:3])
        none = await stopped_at(client, whole + "x")
        assert (none.text, none.finish, none.stop) == (whole, "length", None)
