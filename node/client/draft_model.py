"""A small model of the client's own that guesses ahead: a smaller one of the family, or a coarser quantisation.

It runs whole, in a process beside the client's. Each completion has a session in it, which follows what comes: what was
guessed and did not hold is forgotten with the next guess.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from math import exp
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import trio

from hypercluster.node.engine.steps import EngineError, StepOutput
from hypercluster.node.errors import NodeError
from hypercluster.node.shards.vocabulary import same_tokens
from hypercluster.node.threads import completed

if TYPE_CHECKING:
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.shards.store import StoredModel

log = logging.getLogger(__name__)

DRAFTS = 8
"""tokens guessed ahead in a step at most, where there is a draft model and nobody says how many"""
SESSION_TOKENS = 4096
"""of each session in it; longer texts are guessed from what came before"""
GUESS_SECONDS = 2.0
"""that a guess may take: who waits longer for it goes on without"""
EDGES = (0.2, 0.4, 0.6, 0.8, 0.95)
"""probabilities, by the draft model itself, that part its guesses into kinds"""
PRIORS = (0.2, 0.5, 0.75, 0.9, 0.95, 0.98)
"""surer than it is itself: the two models err alike"""
USUAL = 0.6
"""share of its guesses that is taken to hold before any was made"""


class NoDraftModel(NodeError):
    """A model cannot guess for another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Which model guesses, for how many completions at once, with how many threads."""

    stored: StoredModel
    sessions: int = 1
    threads: int = max(1, (os.cpu_count() or 1) // 2)

    def fits(self, stored: StoredModel) -> bool:
        """Whether both models have the same tokens. Raises ModelMissing, ShardError."""
        return same_tokens(self.stored.vocabulary(), stored.vocabulary())

    def check(self, models: Sequence[StoredModel]) -> None:
        """Raise NoDraftModel unless it can guess for one of the models. Raises ModelMissing, ShardError."""
        own = self.stored.manifest
        if not own.rewinds:
            raise NoDraftModel(
                f"A model like {own.summary} cannot go back behind a wrong guess: take another draft model."
            )
        if not any(self.fits(each) for each in models):
            raise NoDraftModel(
                f"The draft model ({own.summary}) has other tokens than {models[0].manifest.summary}: take a smaller "
                "one of the same family, or a coarser quantisation of the same."
            )


class DraftModel:
    """A draft model, loaded. To be closed. Raises ModelMissing, ShardError, LlamaError; takes its time."""

    def __init__(self, drafting: Drafting) -> None:
        from hypercluster.node.engine.engine import Engine

        manifest = drafting.stored.manifest
        self._engine = Engine(
            drafting.stored.shard(0, manifest.layers),
            first=True,
            last=True,
            n_ctx_total=drafting.sessions * min(SESSION_TOKENS, manifest.context),
            max_sessions=drafting.sessions,
            threads=drafting.threads,
        )

    def drafter(self) -> ModelDrafter:
        """For one completion. To be closed."""
        return ModelDrafter(self._engine)

    def close(self) -> None:
        """End it."""
        self._engine.stop()


class ModelDrafter:
    """Guesses the token that a draft model holds for the likeliest; a kind is how likely that is by its own word.

    It reads the prompt in the background; until then, and where there is no room for it or the model fails, it is not
    ready.
    """

    priors = MappingProxyType(dict(enumerate(PRIORS)))
    usual = USUAL

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slot: int | None = None
        self._off = False
        self._history: list[int] = []
        self._held: list[int] = []
        """what the session holds when its last step has run"""
        self._same = 0
        """of that, how many tokens are known to have come"""
        self._running: Future[StepOutput] | None = None

    @property
    def ready(self) -> bool:
        """Whether it can guess now."""
        if self._running is not None and self._running.done():
            self._off |= self._running.exception() is not None
            self._running = None
        room = len(self._history) < self._engine.max_capacity
        return self._slot is not None and not self._off and self._running is None and room

    def came(self, tokens: Sequence[int]) -> None:
        """Note that these tokens are there now."""
        self._history += tokens
        if self._slot is None and not self._off and self._history:
            try:
                self._slot = self._engine.open(self._engine.max_capacity)
                self._running = self._submit(self._history)
            except EngineError as error:
                log.info("nothing is guessed by the draft model: %s", error)
                self._off = True

    def seen(self) -> None:
        """Nothing: its guesses take time."""
        return

    async def next(self, guessed: Sequence[int]) -> tuple[int, int] | None:
        """The likeliest token and its kind; None where that takes too long or is not to be had."""
        if not self.ready or len(self._history) + len(guessed) > self._engine.max_capacity:
            return None
        try:
            self._running = self._submit([*self._history, *guessed])
            with trio.move_on_after(GUESS_SECONDS):
                output = await completed(self._running)
                self._running = None
                return _likeliest(output)
        except EngineError as error:
            log.info("the draft model guesses no more: %s", error)
            self._off = True
        return None

    def close(self) -> None:
        """End its session."""
        self._off = True
        if self._slot is not None:
            try:
                self._engine.close(self._slot)
            except EngineError as error:
                log.debug("the session of a draft model was gone: %s", error)
            self._slot = None

    def _submit(self, tokens: Sequence[int]) -> Future[StepOutput]:
        """Have the model read these tokens, those of them that it does not hold yet. Raises EngineError."""
        assert self._slot is not None
        same, most = self._same, min(len(self._held), len(tokens) - 1)
        while same < most and self._held[same] == tokens[same]:
            same += 1
        self._same = min(same, len(self._history))
        self._held = list(tokens)
        return self._engine.submit(self._slot, same, np.array(tokens[same:], np.int32), "last", 1)


def _likeliest(output: StepOutput) -> tuple[int, int]:
    assert output.topk is not None
    sure = exp(min(0.0, float(output.topk.logits[-1, 0]) - float(output.topk.logsumexp[-1])))
    return int(output.topk.ids[-1, 0]), sum(sure >= edge for edge in EDGES)
