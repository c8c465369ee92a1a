"""What the options of `hc-client` ask for, as requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.shares import Shares
from hypercluster.node.client.request import Allowance, Asker, BadRequest, Request, Sampling, Wishes
from hypercluster.node.home.settings import Settings
from hypercluster.node.rows import WireDtype

if TYPE_CHECKING:
    from pathlib import Path

    from hypercluster.node.cli.client.options import AuditorName
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.draft_model import Drafting
    from hypercluster.node.client.own_layers import Ends
    from hypercluster.node.engine.chat import Message


@dataclass(frozen=True, slots=True)
class Asked:
    """How far a completion may go and how it is sampled."""

    tokens: int
    max_cost: int | None
    wait: float
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: tuple[str, ...]

    def request(self, prompt: str | tuple[Message, ...]) -> Request:
        """The request for a prompt. Raises BadRequest."""
        return Request(
            prompt=prompt,
            allowance=Allowance(tokens=self.tokens, cost_wei=self.max_cost, patience=self.wait),
            sampling=Sampling(
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                seed=self.seed,
            ),
            stop=self.stop,
            asker=Asker(app="hc-client", endpoint="cli"),
        )


def shares_of(hops: float | None, requests: float | None, trials: float | None) -> Shares:
    """How much one operator gets, and those who never served: as the flags say, else as the settings do."""
    known = Settings().shares
    return Shares(
        hops=known.hops if hops is None else hops,
        requests=known.requests if requests is None else requests,
        trials=known.trials if trials is None else trials,
    )


def wishes_of(
    alpha: float,
    spread: bool = False,
    dtype: str = "f32",
    draft: int = 0,
    deposit: int | None = None,
    shares: Shares | None = None,
    stays: bool = False,
    in_flight: int | None = None,
    spare: bool = False,
) -> Wishes:
    """Over whom to go; `draft` in tokens, `deposit` in wei, `in_flight` in steps. Without `shares` they are as the
    settings say. With `stays` a later request may go on from where this one ended, with `spare` others stand by.
    """
    return Wishes(
        market=MarketParameters(alpha=alpha),
        shares=shares or Settings().shares,
        spread=spread,
        wire_dtype=None if dtype == "auto" else WireDtype.named(dtype),
        deposit_wei=deposit,
        drafts=draft,
        stays=stays,
        in_flight=in_flight,
        spare=spare,
    )


def drafts_of(draft: int | None, draft_model: str | None, in_flight: int | None = None) -> int:
    """Tokens guessed ahead in a step. Raises BadRequest for a draft model that is to guess nothing, and for nothing
    that is to be in flight.
    """
    from hypercluster.node.client.draft_model import DRAFTS

    if draft == 0 and draft_model is not None:
        raise BadRequest(
            "--draft 0 guesses nothing, and --draft-model is for guessing: leave one of them out."
        )
    if in_flight and not draft and draft_model is None:
        raise BadRequest("--in-flight is for guesses, and nothing is guessed: give --draft or --draft-model.")
    return draft if draft is not None else DRAFTS if draft_model is not None else 0


def drafting_of(draft_model: str | None, settings: Settings, sessions: int = 1) -> Drafting | None:
    """Which model guesses, for so many completions at once. Raises what opening a model raises."""
    from hypercluster.node.cli.opening import opened
    from hypercluster.node.client.draft_model import Drafting

    return None if draft_model is None else Drafting(stored=opened(draft_model, settings), sessions=sessions)


def own_of(local: list[str] | None, sessions: int = 1) -> Ends | None:
    """What is computed here, for so many completions at once."""
    from hypercluster.node.client.own_layers import Ends

    return Ends(ranges=tuple(local), sessions=sessions) if local else None


def auditing_of(
    rate: float, auditor: AuditorName, traps: float, disputes: bool, trust: Path | None = None
) -> Auditing | None:
    """How completions are looked over; None where they are not. Raises BadTrust for the file of who is trusted."""
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.auditing.policy import Policy
    from hypercluster.node.client.auditing.trusting import read_trusted

    trusted = read_trusted(trust) if trust is not None else frozenset[str]()
    if not rate:
        return None
    return Auditing(
        policy=Policy(rate=rate, traps=traps, disputes=disputes, trusted=trusted), auditor=auditor
    )
