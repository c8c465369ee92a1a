"""What a completion tells while it runs, in this order: a path, its channels, the prompt, tokens, the end.

After a HopReplaced or a Waiting it begins again with a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.client.completion import Bill, FinishReason

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.payer import Funding


@dataclass(frozen=True, slots=True)
class PathChosen:
    """Sessions are opened over this path next."""

    path: Path


@dataclass(frozen=True, slots=True)
class ChannelsPlanned:
    """The wallet is about to send these deposits; `planned.gas_wei` is an estimate.

    Whoever ends the completion here has spent nothing.
    """

    planned: Funding


@dataclass(frozen=True, slots=True)
class ChannelsOpened:
    """The deposits are on chain; `funding.gas_wei` is what it cost."""

    funding: Funding


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The prompt, or what is replayed of it and the answer, went through all layers."""

    tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that might have come: its own bytes, and the natural logarithm of the model's probability for it."""

    id: int
    piece: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer.

    Attributes:
        text: what may be shown now: whole characters, none that may be the beginning of a text to stop at.
        piece: the token's own bytes.
        candidates: among how many it was drawn.
        ms: since the token before, or since the prompt went out.
        logprob: natural logarithm of the probability that the model itself gave it, whatever penalties, biases and
            temperature made of that; None where it was not asked for, or the token was beyond the candidates.
        top: the likeliest tokens, as many as were asked for, best first.
    """

    id: int
    text: str
    piece: bytes
    candidates: int
    ms: float
    logprob: float | None = None
    top: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class HopReplaced:
    """A session ended early and the completion goes on, with another provider or with a new session.

    `blamed` is whether the provider was held to account for it, `code` the reason in one word (HopFailed.word).
    """

    peer: str
    reason: str
    blamed: bool
    code: str


@dataclass(frozen=True, slots=True)
class SparesChanged:
    """Who stands by for the providers of the path has changed: `peers` do from now on, and nobody does for the layers
    in `without`, each [start, stop). `reason` says why somebody was let go, where that is it.
    """

    peers: tuple[str, ...]
    without: tuple[tuple[int, int], ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Queued:
    """All sessions are taken; `position` is 1 for the next in turn, `seconds` how long the request has waited."""

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """There is no path at this moment; it is looked for again after so many seconds."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The end, always the last event, and missing only where the completion was cancelled.

    Attributes:
        rest: text that was held back until now.
        error: why it failed; None for any other reason.
    """

    reason: FinishReason
    bill: Bill
    rest: str
    error: Exception | None


Event = (
    PathChosen
    | ChannelsPlanned
    | ChannelsOpened
    | Prefilled
    | Token
    | HopReplaced
    | SparesChanged
    | Queued
    | Waiting
    | Finished
)
