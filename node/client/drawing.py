"""How the tokens of one completion are drawn: the sampler, and what is told of each token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from hypercluster.node.client.events import Candidate
from hypercluster.node.client.request import BadRequest
from hypercluster.node.engine.grammar import BadFormat

if TYPE_CHECKING:
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.model import Model
    from hypercluster.node.client.request import Request, Sampling
    from hypercluster.node.engine.sampler import Sampler
    from hypercluster.node.rows import TopK


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token that was drawn; the fields that Token has too mean the same.

    `ends` is whether it ends the answer, `last` whether nothing but the end may follow it.
    """

    id: int
    piece: bytes
    ends: bool
    last: bool
    logprob: float | None
    top: tuple[Candidate, ...]


class Drawing:
    """Draws the tokens of one request, within its format. To be closed.

    Penalties look back on the prompt as well. It outlives the paths that the completion goes over, so that a replaced
    hop changes nothing of what is drawn. Its seed and its counts stand in `completion`. May take a second to begin,
    in any thread. Raises BadRequest for what this model's vocabulary does not have.
    """

    def __init__(self, model: Model, request: Request, completion: Completion) -> None:
        from hypercluster.node.engine.sampler import BadSampling

        self._tokenizer = model.tokenizer
        self._tell = request.logprobs
        self._request = request
        self._completion = completion
        self._draws = np.random.default_rng(request.sampling.seed or 0)
        try:
            self._matching = model.matching(request)
            self._sampler = sampler_of(request.sampling, self._tokenizer.n_vocab)
        except (BadFormat, BadSampling) as error:
            raise BadRequest(str(error)) from error
        self._sampler.accept(completion.prompt[-max(1, request.sampling.penalty_last_n) :])
        completion.seed = self._sampler.seed if request.sampling.temperature else None

    @property
    def wanted_top_k(self) -> int:
        """Candidates to ask the last provider for, if it gives so many."""
        idle = self._matching is None and self._request.format is not None
        return (replace(self._request, format=None) if idle else self._request).wanted_top_k

    def draw(self, best: TopK) -> Drawn:
        """Choose from the candidates [1, k] that follow all tokens so far.

        Raises NothingToDraw or FormatLost where nothing may come.
        """
        token = self._choose(best)
        ends = token in self._tokenizer.end_ids
        last = False
        if self._matching is not None and not ends:
            self._matching.accept(token)
            last = self._matching.complete
        self._sampler.accept([token])
        self._completion.cut_short = self._sampler.cut_short
        return Drawn(token, self._tokenizer.piece(token), ends, last, *self._told(best, token))

    def _choose(self, best: TopK) -> int:
        if self._matching is None:
            return self._sampler.sample(best)
        from hypercluster.node.engine.sampler import NothingToDraw

        mask = self._matching.mask()
        try:
            return self._sampler.sample(best, mask=mask)
        except NothingToDraw:
            mask[self._sampler.banned] = False
            allowed = np.flatnonzero(mask)
            if not len(allowed):
                raise
        if len(allowed) == 1:
            return int(allowed[0])
        # Nobody knows how likely these are: an end, what the format leaves no choice about, or any of them.
        self._completion.grammar_forced += 1
        likely = self._matching.likely(allowed)
        return int(self._draws.choice(allowed)) if likely is None else likely

    def _told(self, best: TopK, token: int) -> tuple[float | None, tuple[Candidate, ...]]:
        if self._tell is None:
            return None, ()
        ids = best.ids[-1].tolist()
        logprobs = (best.logits[-1].astype(float) - best.logsumexp[-1]).tolist()
        top = tuple(
            Candidate(i, self._tokenizer.piece(i, special=True), logprob)
            for i, logprob in zip(ids[: self._tell], logprobs, strict=False)
        )
        return (logprobs[ids.index(token)] if token in ids else None), top

    def close(self) -> None:
        """Free the sampler."""
        self._sampler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sampler_of(sampling: Sampling, n_vocab: int) -> Sampler:
    """llama.cpp's samplers for it. Raises BadSampling for a bias outside the vocabulary."""
    from hypercluster.node.engine.penalties import Penalties
    from hypercluster.node.engine.sampler import Sampler

    return Sampler(
        n_vocab,
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.seed,
        penalties=Penalties(
            presence=sampling.presence_penalty,
            frequency=sampling.frequency_penalty,
            repetition=sampling.repetition_penalty,
            last_n=sampling.penalty_last_n,
        ),
        bias=sampling.logit_bias,
    )
