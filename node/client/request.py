"""What is asked of a client: one completion, how its tokens are drawn, how far it may go, and over whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.shares import Shares
from hypercluster.market.money.budget import Budget
from hypercluster.node.engine.chat import Chat, Message
from hypercluster.node.engine.grammar import BadFormat, Format, check_format
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.messages import MOST_IN_FLIGHT

MOST_STOPS = 16
MOST_LAST_N = 1 << 16
MOST_BIASES = 1024
MOST_LOGPROBS = 20
MOST_DRAFTS = 16
MOST_AHEAD = 64
MOST_CANDIDATES = 1024
"""that a provider gives unless it is told otherwise"""
BAN = -100.0
"""a bias that low bans a token"""


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
    presence_penalty: float = 0.0
    """-2 to 2, taken from the logit of what has come among the last `penalty_last_n` tokens; 0 is off"""
    frequency_penalty: float = 0.0
    """-2 to 2, the same for each time; 0 is off"""
    repetition_penalty: float = 1.0
    """above 0, up to 10: such a logit is divided by it, or multiplied where negative; 1 is off"""
    penalty_last_n: int = 64
    """tokens of prompt and answer that penalties look back on; 0 is off"""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """token ids and what is added to their logits, -100 to 100; -100 bans the token"""

    @property
    def penalises(self) -> bool:
        """Whether what has come changes what may come."""
        off = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) == (0, 0, 1)
        return bool(self.penalty_last_n) and not off

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
        for name in ("presence", "frequency"):
            value = getattr(self, f"{name}_penalty")
            if not -2 <= value <= 2:
                raise BadRequest(f"The {name} penalty is {value}: it must lie between -2 and 2; 0 is off.")
        if not 0 < self.repetition_penalty <= 10:
            raise BadRequest(
                f"The repetition penalty is {self.repetition_penalty}: it must lie above 0 and be 10 at most; "
                "1 is off."
            )
        if not 0 <= self.penalty_last_n <= MOST_LAST_N:
            raise BadRequest(
                f"Penalties cannot look back on {self.penalty_last_n} tokens: 0 (off) to {MOST_LAST_N} can be."
            )
        if len(self.logit_bias) > MOST_BIASES:
            raise BadRequest(f"{len(self.logit_bias)} tokens have a bias; {MOST_BIASES} are the most.")
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise BadRequest("A token has two biases.")
        for token, bias in self.logit_bias:
            if token < 0 or not -100 <= bias <= 100:
                raise BadRequest(f"The bias of token {token} is {bias}: it must lie between -100 and 100.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How far a completion may go. Raises BadRequest for a value outside its range."""

    tokens: int
    """to generate at most"""
    cost_wei: int | None = None
    """to pay to providers at most; None: no bound"""
    shared: Budget | None = None
    """that others pay their providers from as well; beside its own bound"""
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

    def budgets(self) -> tuple[Budget, ...]:
        """Each of them has to hold what goes to providers. The first one begins anew with each call."""
        own = Budget("limit of this request", self.cost_wei)
        return (own,) if self.shared is None else (own, self.shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Over whom a completion goes."""

    market: MarketParameters = field(default_factory=MarketParameters)
    """how price, time and trust are weighed"""
    shares: Shares = field(default_factory=Shares)
    """how much one operator gets, and those who never served before"""
    spread: bool = False
    """draw the path by weight (paper eq. 3) instead of taking the lightest, so that many clients share providers"""
    avoid: frozenset[str] = frozenset()
    """peer ids that are on no path"""
    only: frozenset[str] | None = None
    """peer ids beside which nobody is on a path; None: anybody may be"""
    prefer: tuple[str, ...] = ()
    """peer ids that serve as many layers as they can, the first before the next; weight decides among the others"""
    max_price_wei: int | None = None
    """per generated token over the whole path, at most"""
    max_prompt_price_wei: int | None = None
    """per prompt token over the whole path, at most"""
    wire_dtype: WireDtype | None = WireDtype.F32
    """how activations travel; None: in as few bytes as do the model no harm, where a path takes them"""
    deposit_wei: int | None = None
    """put into a channel that is opened or topped up, at least; None: what the wallet's policy says"""
    stays: bool = False
    """have the providers keep what they hold of this, and go back to what they keep of an earlier request"""
    chain: bool = True
    """rows go from provider to provider where both offer it, not through this client"""
    drafts: int = 0
    """tokens guessed ahead in one step, at most, where that is worth what it costs; 0: none"""
    pay_ahead: int = 1
    """tokens that one voucher pays for at most: less work, and a provider that leaves may keep the price of the rest"""

    spare: bool = False
    """have others stand by for the providers of the path, kept level and paid for that, to take over at once"""

    in_flight: int | None = None
    """steps with guesses that are sent before the ones before them are answered, at most; 0 or 1: none, None: as many
    as may be, where a step waits longer than it is computed
    """

    def __post_init__(self) -> None:
        if self.in_flight is not None and not 0 <= self.in_flight <= MOST_IN_FLIGHT:
            raise BadRequest(
                f"{self.in_flight} steps cannot be in flight: 0 (none before the answer) to {MOST_IN_FLIGHT} can be."
            )
        if not 1 <= self.pay_ahead <= MOST_AHEAD:
            raise BadRequest(
                f"A voucher cannot pay for {self.pay_ahead} tokens: 1 (each its own) to {MOST_AHEAD} can be."
            )
        if not 0 <= self.drafts <= MOST_DRAFTS:
            raise BadRequest(
                f"{self.drafts} tokens cannot be guessed ahead: 0 (none) to {MOST_DRAFTS} can be."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asked, as the ledger keeps it.

    `key_id` is that of an API key, `app` what the program calls itself, `endpoint` the door that it came through,
    and `model_name` what it called the model.
    """

    key_id: str | None = None
    app: str = ""
    endpoint: str = "python"
    model_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion.

    Raises BadRequest for a prompt that is empty or none of its forms, an empty stop text, and a format that cannot be
    enforced.
    """

    prompt: str | tuple[int, ...] | tuple[Message, ...] | Chat
    """a text to continue, its token ids, or a chat that the model is to answer"""
    allowance: Allowance
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """texts that end the completion; none of them is part of the answer"""
    budgets: tuple[Budget, ...] = ()
    """each has to hold what it costs, audits included, beside its own limit and those of the wallet"""
    asker: Asker = Asker()
    wishes: Wishes | None = None
    """None: those of the client"""
    model: str | None = None
    """model id, 64 hex digits; None: whatever the client is for"""
    candidates: int = 64
    """that the last provider gives for each token at least"""
    logprobs: int | None = None
    """so many of the likeliest tokens are told with each token, 0 to 20, and what it was itself; None tells nothing"""
    format: Format | None = None
    """form that the answer must have"""

    def __post_init__(self) -> None:
        if not (self.prompt.messages if isinstance(self.prompt, Chat) else self.prompt):
            raise BadRequest("The prompt is empty: give at least one character.")
        if not isinstance(self.prompt, str | Chat) and not (
            all(isinstance(part, Message) for part in self.prompt)
            or all(type(part) is int and part >= 0 for part in self.prompt)
        ):
            raise BadRequest("A prompt is a text, token ids (whole numbers from 0 on), or turns of a chat.")
        if "" in self.stop:
            raise BadRequest("A text to stop at is empty: it would stop before the first token.")
        if len(self.stop) > MOST_STOPS:
            raise BadRequest(f"There are {len(self.stop)} texts to stop at; {MOST_STOPS} are the most.")
        if self.candidates < 1:
            raise BadRequest(f"{self.candidates} candidates leave no choice: ask for 1 at least.")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOGPROBS:
            raise BadRequest(
                f"{self.logprobs} of the likeliest tokens were asked for: 0 to {MOST_LOGPROBS} can be told."
            )
        if self.format is not None:
            try:
                check_format(self.format)
            except BadFormat as error:
                raise BadRequest(str(error)) from error

    @property
    def top_k(self) -> int:
        """Candidates that the last provider must give."""
        bans = sum(bias <= BAN for _, bias in self.sampling.logit_bias)
        spare = min(self.candidates + bans, MOST_CANDIDATES)
        return max(self.candidates, spare, self.sampling.top_k, self.logprobs or 0)

    @property
    def wanted_top_k(self) -> int:
        """Candidates to ask it for, if it gives so many: what penalties, biases and a format may need."""
        own = self.sampling
        if self.format is not None or any(bias > 0 for _, bias in own.logit_bias):
            return max(self.top_k, MOST_CANDIDATES)
        penalised = own.penalty_last_n if own.penalises else 0
        return max(self.top_k, min(self.top_k + penalised, MOST_CANDIDATES))
