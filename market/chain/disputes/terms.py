"""What faults cost and how long disputes take: fixed when the contracts are deployed."""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.market.errors import ChainError
from hypercluster.market.money.units import HCT, format_hct

MAX_SEATS = 15
TRIES = 3
"""cases that one accuser can make of one receipt"""
_BPS = 10_000


@dataclass(frozen=True, kw_only=True)
class DisputeTerms:
    """Parameters of the dispute contracts, in the order of their struct.

    Attributes:
        fault: wei of stake that a proven fault costs.
        silence: wei of stake that a member of a committee loses who does not reveal a vote.
        bond: wei that an accuser puts on a case, and loses if the accused is found innocent.
        demand_bond: wei that a demand costs if it is served.
        reward_bps: the reporter's part of ``fault``, in 1/10,000.
        member_bps: the part of each member that voted guilty. At least half of ``fault`` is always burned.
        seats: members of a committee, 1 to 15.
        skew: seconds by which the clock of a signer may be wrong.
        evidence_window: seconds from a receipt's issue in which a case or a demand can be made of it.
        draw_window: seconds to draw a committee.
        commit_window: seconds to judge and commit.
        reveal_window: seconds to reveal.
        serve_window: seconds to serve a demand.
        draw_delay: blocks between that in which a case is opened and that whose randomness draws its committee. With 0
            whoever opens a case sees its committee and can take the opening back: for networks of one's own.
    """

    fault: int = 100 * HCT
    silence: int = 5 * HCT
    bond: int = 20 * HCT
    demand_bond: int = HCT
    reward_bps: int = 1000
    member_bps: int = 200
    seats: int = 5
    skew: int = 900
    evidence_window: int = 2 * 3600
    draw_window: int = 3600
    commit_window: int = 6 * 3600
    reveal_window: int = 6 * 3600
    serve_window: int = 12 * 3600
    draw_delay: int = 64

    @property
    def case_seconds(self) -> int:
        """The longest that a case or a demand can be open."""
        return max(self.serve_window, self.draw_window + self.commit_window + self.reveal_window)

    @property
    def single_seconds(self) -> int:
        """The longest from a receipt's issue to the end of the first case or demand about it."""
        return self.skew + self.evidence_window + self.case_seconds

    @property
    def longest_seconds(self) -> int:
        """The longest from a receipt's issue to the end of the last case about it; stake must not thaw faster."""
        case = self.draw_window + self.commit_window + self.reveal_window
        cases = TRIES * (self.evidence_window + case)
        return self.skew + max(cases, self.evidence_window + self.serve_window)

    def check(self, unbonding_seconds: int, min_stake: int) -> None:
        """Raise ChainError where the contract would refuse to be deployed beside such a registry."""
        if not 1 <= self.seats <= MAX_SEATS:
            raise ChainError(f"A committee has 1 to {MAX_SEATS} seats, not {self.seats}.")
        if self.reward_bps + self.seats * self.member_bps > _BPS // 2:
            raise ChainError(
                f"The rewards for a fault with {self.seats} members come to more than half of it: "
                "lower the rewards or the number of seats."
            )
        if min_stake < self.fault:
            raise ChainError(
                f"A fault costs {format_hct(self.fault)} HCT, and a node could not pay for one with a minimum stake of "
                f"{format_hct(min_stake)} HCT: raise that, or let faults cost less."
            )
        if unbonding_seconds < self.longest_seconds:
            raise ChainError(
                f"Stake that thaws in {unbonding_seconds} s would be gone before a case is over: let it thaw for "
                f"{self.longest_seconds} s at least, or make the windows of disputes shorter."
            )


LOCAL_TERMS = DisputeTerms(
    seats=3,
    skew=10,
    evidence_window=60,
    draw_window=10,
    commit_window=20,
    reveal_window=20,
    serve_window=20,
    draw_delay=0,
)
"""For networks on one machine, where nobody waits for hours: for an unbonding delay of 340 s or more."""
