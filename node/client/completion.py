"""What came of a completion, why it ended, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from hypercluster.market.money.units import format_hct
from hypercluster.node.client.timing import Timing
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.market.money.budget import LimitReached
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.payer import Funding

FinishReason = Literal["stop", "length", "cost", "failed", "cancelled"]
"""the model or a text ended it; as many tokens as allowed; the next would cost too much; an error; whoever asked"""


class TooExpensive(NodeError):
    """The prompt alone costs more than a limit leaves; `limit` names it."""

    def __init__(self, limit: LimitReached) -> None:
        left = max(0, limit.limit_wei - limit.spent_wei)
        super().__init__(
            f"The prompt costs {format_hct(limit.needed_wei)} HCT, and of the {limit.name} "
            f"({format_hct(limit.limit_wei)} HCT) {format_hct(left)} HCT are left: raise it, or shorten the prompt."
        )
        self.limit = limit


class PathLost(NodeError):
    """A provider is gone from the path, or full, and there is no way around it."""


@dataclass(frozen=True, slots=True)
class HopBill:
    """What one provider did and was paid for one completion."""

    peer: str
    operator: str
    layer_start: int
    layer_stop: int
    price_wei: int
    prompt_price_wei: int
    tokens: int = 0
    paid_wei: int = 0
    risked_wei: int = 0
    """of steps that never got a good answer, or were paid ahead; their vouchers are with the provider"""
    channel_id: bytes = b""
    session: bytes = b""
    timing: Timing = field(default_factory=Timing)
    linked: int = 0
    """steps, of those in `timing`, whose rows went to the provider after over a link, not through the client"""
    stood_by: bool = False
    """whether it only stood by for another"""

    @classmethod
    def of(cls, hop: Hop) -> HopBill:
        """The bill of a session as it stands."""
        advert = hop.advert
        return cls(
            peer=advert.peer,
            operator=advert.operator,
            layer_start=advert.layer_start,
            layer_stop=advert.layer_stop,
            price_wei=hop.price_wei,
            prompt_price_wei=hop.prompt_price_wei,
            tokens=hop.tokens,
            paid_wei=hop.paid_wei,
            risked_wei=hop.at_risk_wei,
            channel_id=hop.account.channel_id,
            session=hop.record.session,
            timing=hop.timing,
            linked=hop.linked,
            stood_by=hop.stands_by,
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """All that a completion cost, sessions that failed midway included.

    Deposits are not spent: what is not paid out of them comes back when the channel is closed.
    """

    hops: tuple[HopBill, ...] = ()
    fundings: tuple[Funding, ...] = ()

    @property
    def spent_wei(self) -> int:
        """Paid to providers."""
        return sum(hop.paid_wei for hop in self.hops)

    @property
    def risked_wei(self) -> int:
        """What providers may claim on top, for steps they never answered well."""
        return sum(hop.risked_wei for hop in self.hops)

    @property
    def deposited_wei(self) -> int:
        """Moved from the wallet into channels."""
        return sum(funding.deposit_wei for funding in self.fundings)

    @property
    def gas_wei(self) -> int:
        """Paid for that to the chain, in wei of its own coin."""
        return sum(funding.gas_wei for funding in self.fundings)


@dataclass(slots=True)
class Completion:
    """What has come of a request so far; whole when its last event is out or its block has ended."""

    request_id: str
    begins: int = 0
    """the first layer that providers are asked for; those before it the client computes itself"""
    prompt: tuple[int, ...] = ()
    tokens: list[int] = field(default_factory=list)
    allowed: int = 0
    """tokens to generate at most, as many as the last path holds; 0 before there is one"""
    text: str = ""
    finish: FinishReason = "cancelled"
    stop: str | None = None
    """the text at which it ended, of those that were to end it"""
    error: Exception | None = None
    first_token: datetime | None = None
    """when its first token came"""
    seed: int | None = None
    """of the draws; None where there are none"""
    cut_short: int = 0
    """tokens that were drawn from fewer candidates than sampling on all logits would have had"""
    limit: LimitReached | None = None
    """what ended it where that was its cost"""
    cached: int = 0
    """tokens of the prompt that the sessions of the last path held from an earlier request"""
    drafted: int = 0
    """tokens that were guessed ahead"""
    draft_held: int = 0
    """those of them that came"""
    grammar_forced: int = 0
    """tokens that were picked among what the format allows because none of the candidates was"""
    bills: list[HopBill] = field(default_factory=list)
    fundings: list[Funding] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """peers that were left on the way"""
    reports: list[Report] = field(default_factory=list)
    """audits of its stages, filled in as they come after the end"""
    paying: Spending | None = None
    """what it spends, its audits included"""
    auditing: Spending | None = None
    """what its audits spend, those without a report yet too; None before they begin"""

    @property
    def bill(self) -> Bill:
        """The bill as it stands."""
        return Bill(tuple(self.bills), tuple(self.fundings))

    @property
    def covered_wei(self) -> int:
        """Of what it costs and risks, what vouchers pay that earlier requests had risked."""
        return self.paying.covered_wei if self.paying else 0

    @property
    def audit_wei(self) -> int:
        """Paid to auditors, on top of what was spent."""
        return self.auditing.spent_wei if self.auditing else 0

    @property
    def audit_risked_wei(self) -> int:
        """Signed for audits and never answered."""
        return self.auditing.risked_wei if self.auditing else 0

    @property
    def doubtful(self) -> bool:
        """Whether a provider on the path was found at fault: the text may be wrong."""
        return any(report.fault == report.peer for report in self.reports)

    @property
    def spent_wei(self) -> int:
        """Sum over all hops, those that failed midway included."""
        return self.bill.spent_wei

    @property
    def risked_wei(self) -> int:
        """What providers that failed may claim on top, for steps they never answered."""
        return self.bill.risked_wei
