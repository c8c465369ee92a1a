"""What is asked of a client: one completion, how its tokens are drawn, how far it may go, and over whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.units import HCT
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from hypercluster.node.engine.chat import Message

MOST_STOPS = 16


class BadRequest(NodeError):
    """A request that cannot be run wherever it is sent to."""

    code = ErrorCode.BAD_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen: see node.engine.sampler.

    Raises BadRequest for a value outside its range.
    """

    temperature: float = 0.0
    """0 is greedy"""
    top_k: int = 0
    """0 switches it off"""
    top_p: float = 1.0
    """above 0, up to 1, which switches it off"""
    min_p: float = 0.0
    """from 0, which switches it off, to below 1"""
    seed: int | None = None
    """0 to 2^32 - 2; drawn where None"""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise BadRequest(f"The temperature is {self.temperature}: it must be a number from 0 on.")
        if self.top_k < 0:
            raise BadRequest(f"top-k is {self.top_k}: it must be 0 (off) or more.")
        if not 0 < self.top_p <= 1:
            raise BadRequest(f"top-p is {self.top_p}: it must lie above 0 and be 1 (off) at most.")
        if not 0 <= self.min_p < 1:
            raise BadRequest(f"min-p is {self.min_p}: it must be 0 (off) or more and lie below 1.")
        if self.seed is not None and not 0 <= self.seed < 2**32 - 1:
            raise BadRequest(f"The seed is {self.seed}: it must lie between 0 and {2**32 - 2}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How far a completion may go. Raises BadRequest for a value outside its range."""

    tokens: int
    """to generate at most"""
    cost_wei: int | None = None
    """to pay to providers at most; None: no bound"""
    failures: int = 3
    """providers to lose at most"""
    patience: float = 30.0
    """seconds to wait for a path, while there is none or those on it are full"""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise BadRequest(f"{self.tokens} tokens cannot be generated: ask for 1 at least.")
        if self.cost_wei is not None and self.cost_wei < 0:
            raise BadRequest("The most that may be spent is below zero.")
        if not (0 <= self.patience < math.inf):
            raise BadRequest(f"{self.patience} s cannot be waited: give a number from 0 on.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Over whom a completion goes."""

    market: MarketParameters = field(default_factory=MarketParameters)
    """how price, time and trust are weighed"""
    spread: bool = False
    """draw the path by weight (paper eq. 3) instead of taking the lightest, so that many clients share providers"""
    avoid: frozenset[str] = frozenset()
    """peer ids that are on no path"""
    wire_dtype: WireDtype = WireDtype.F32
    deposit_wei: int = HCT // 100
    """put into a channel that is opened or topped up, at least"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion.

    Raises BadRequest for an empty prompt or stop text.
    """

    prompt: str | tuple[int, ...] | tuple[Message, ...]
    """a text to continue, its token ids, or the turns of a chat that the model is to answer"""
    allowance: Allowance
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """texts that end the completion; none of them is part of the answer"""
    wishes: Wishes | None = None
    """None: those of the client"""
    model: str | None = None
    """model id, 64 hex digits; None: whatever the client is for"""
    candidates: int = 64
    """that the last provider gives for each token at least"""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise BadRequest("The prompt is empty: give at least one character.")
        if "" in self.stop:
            raise BadRequest("A text to stop at is empty: it would stop before the first token.")
        if len(self.stop) > MOST_STOPS:
            raise BadRequest(f"There are {len(self.stop)} texts to stop at; {MOST_STOPS} are the most.")
        if self.candidates < 1:
            raise BadRequest(f"{self.candidates} candidates leave no choice: ask for 1 at least.")

    @property
    def top_k(self) -> int:
        """Candidates to ask the last provider for."""
        return max(self.candidates, self.sampling.top_k)
