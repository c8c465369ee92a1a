"""What is asked of the gateway, in no API's words: each API reads its bodies into this, and this becomes requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.budget import Budget
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.preferences import ANYBODY, Preferences

if TYPE_CHECKING:
    from hypercluster.node.client.client import Client
    from hypercluster.node.engine.chat import Chat
    from hypercluster.node.engine.grammar import Format
    from hypercluster.node.traffic.entries import ModelEntry

MOST_TOKENS = 1 << 20
"""to generate; whoever asks for more, or for no number, gets what the path holds"""
MOST_CHOICES = 32
DEFAULT = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
"""how tokens are drawn where neither the caller nor the model says it: llama.cpp's own choice"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of an API that generates."""

    model: str
    """name, alias or id"""
    prompts: tuple[str | tuple[int, ...] | Chat, ...]
    """one, or where an API allows it several, each of which is answered `n` times"""
    prompt_field: str = "messages"
    """of the body, which the prompts come in"""
    tokens: int | None = None
    """to generate at most; None: as many as the path and the budgets hold"""
    cost_wei: int | None = None
    """to pay at most; None: what the budgets of the key hold"""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """fields of Sampling that the caller sets; the model's own choice, or else DEFAULT, has the others"""
    stop: tuple[str, ...] = ()
    n: int = 1
    logprobs: int | None = None
    """alternatives to tell of each token, 0 to 20; None: no probabilities at all"""
    format: Format | None = None
    preferences: Preferences = ANYBODY
    stream: bool = False
    usage: bool = True
    """whether a stream is to end with what it took"""

    @property
    def choices(self) -> int:
        """Answers that are wanted."""
        return len(self.prompts) * self.n

    def drawn(self, entry: ModelEntry) -> Sampling:
        """How tokens are drawn. Raises BadRequest."""
        return replace(entry.sampling or DEFAULT, **self.sampling)

    def requests(self, entry: ModelEntry, client: Client, patience: float) -> tuple[Request, ...]:
        """One for each choice; those of one prompt differ by their seed. Each waits `patience` seconds for a path.

        Raises BadRequest, ApiError.
        """
        drawn = self.drawn(entry)
        several = self.choices > 1
        # One limit for all of them, whichever of them needs how much of it.
        shared = Budget("limit of this request", self.cost_wei) if several else None
        wishes = self.preferences.wishes(client)
        found = []
        for prompt in self.prompts:
            if isinstance(prompt, tuple) and (most := max(prompt)) >= client.model.n_vocab:
                raise bad("prompt", f"prompt holds the token {most}; this model has {client.model.n_vocab}.")
            for k in range(self.n):
                sampling = drawn
                if sampling.seed is not None:
                    sampling = replace(sampling, seed=(sampling.seed + k) % (2**32 - 1))
                found.append(
                    Request(
                        prompt=prompt,
                        allowance=Allowance(
                            tokens=min(self.tokens or MOST_TOKENS, MOST_TOKENS),
                            cost_wei=None if several else self.cost_wei,
                            shared=shared,
                            patience=patience,
                        ),
                        sampling=sampling,
                        stop=self.stop,
                        wishes=wishes,
                        model=client.model.model_id,
                        logprobs=self.logprobs,
                        format=self.format,
                    )
                )
        return tuple(found)
