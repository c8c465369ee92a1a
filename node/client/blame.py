"""Whose doing it is that a session ended early, and what is to be done next: the one place that decides it.

What a client did itself (too long, too late, asleep, out of money, a race with another of its own) and what is
nobody's doing (a provider that is full, or has moved its price) is no evidence against anybody and takes nobody out of
the order book. A refusal is a provider's word, so it is hardly ever evidence: what weighs is what was seen.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import ErrorCode


class Then(enum.Enum):
    """What to do about a session that ended early."""

    REOPEN = enum.auto()
    """open it again with the same provider and replay"""
    ASK = enum.auto()
    """get the provider's current advert, then choose again"""
    REST = enum.auto()
    """leave it alone for a moment, over another path if there is one"""
    FUND = enum.auto()
    """forget the channel, so that another one is opened or this one is topped up"""
    LEAVE = enum.auto()
    """finish this completion without it"""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a failure: what to do, what it says of the provider, and whether its advert is worthless."""

    then: Then
    evidence: Evidence | None = None
    forget: bool = False


_LEAVE = Consequence(Then.LEAVE)
_REST = Consequence(Then.REST)
_FAULT = Consequence(Then.LEAVE, Evidence.REFUSAL)

_WRONG = (ErrorCode.BAD_SIGNATURE, ErrorCode.BAD_SHAPE, ErrorCode.NOT_FINITE)
"""codes of an answer that cannot be honest work"""

REFUSALS: dict[ErrorCode, Consequence] = {
    # Our message was bad, or so it says: another provider may be of the same version as we are.
    ErrorCode.BAD_REQUEST: _LEAVE,
    ErrorCode.UNSUPPORTED_VERSION: _LEAVE,
    ErrorCode.OUT_OF_ORDER: _LEAVE,
    ErrorCode.BAD_SHAPE: _LEAVE,
    ErrorCode.NOT_FINITE: _LEAVE,
    ErrorCode.TOO_LONG: _LEAVE,
    # It offers something else than when its advert was made.
    ErrorCode.WRONG_MODEL: Consequence(Then.ASK),
    ErrorCode.WRONG_RANGE: Consequence(Then.ASK),
    ErrorCode.PRICE_TOO_LOW: Consequence(Then.ASK),
    # Others were quicker.
    ErrorCode.FULL: Consequence(Then.REST),
    # Its view of the chain is behind ours.
    ErrorCode.UNKNOWN_CHANNEL: Consequence(Then.REST),
    ErrorCode.OVER_DEPOSIT: Consequence(Then.REST),
    # Our channel is not what we took it for, or another process of ours uses it.
    ErrorCode.FOREIGN_CHANNEL: Consequence(Then.FUND),
    ErrorCode.CHANNEL_CLOSING: Consequence(Then.FUND),
    ErrorCode.BAD_SIGNATURE: _LEAVE,
    ErrorCode.VOUCHER_TOO_LOW: Consequence(Then.REOPEN),
    # We were silent for too long, or it was started again.
    ErrorCode.TIMEOUT: Consequence(Then.REOPEN),
    ErrorCode.UNKNOWN_SESSION: Consequence(Then.REOPEN),
    # It failed by its own word.
    ErrorCode.INTERNAL: _FAULT,
    ErrorCode.ENGINE_FAILED: _FAULT,
}
"""What a provider's refusal means; a test holds that every code is here."""


def judge(
    failure: HopFailed, *, absent: bool, clock_confirmed: bool, tried: int, alone: bool = False
) -> Consequence:
    """Say what follows from a session that ended early.

    Args:
        absent: this process was stopped, asleep or idle since the session's last step, so that whatever timed out
            did so through us.
        clock_confirmed: another provider's receipts are dated as our clock says.
        alone: nobody else answers either, so that it is likely we who are cut off.
        tried: how often this provider was already given another chance in this completion.
    """
    match failure.how:
        case How.REFUSED:
            found = REFUSALS[failure.code]
        case How.EXPIRED:
            found = Consequence(Then.ASK)
        case How.LOST:
            gone = Consequence(Then.LEAVE, seen_in(failure), forget=True)
            found = Consequence(Then.REOPEN) if absent else _REST if alone else gone
        case How.DATED:
            found = _FAULT if clock_confirmed else _LEAVE
        case How.UNLINKED:
            found = Consequence(Then.REOPEN)
        case How.BROKE:
            found = Consequence(Then.LEAVE, seen_in(failure))
    if not tried or found.then in (Then.LEAVE, Then.REST):
        return found
    if failure.how is How.REFUSED and failure.code is ErrorCode.PRICE_TOO_LOW:
        # It was asked for its price, named one, and does not stand by it.
        return _FAULT
    return found if tried < MOST_TRIES else _LEAVE


def seen_in(failure: HopFailed) -> Evidence:
    """What a failure shows that is its peer's doing.

    Nobody there, or a connection lost, is a death; no answer in time over a connection that holds is a silence; an
    answer that cannot be honest work is wrong; anything else that does not hold is taken for a refusal.
    """
    if failure.code is ErrorCode.TIMEOUT:
        return Evidence.SILENCE
    if failure.how is How.LOST:
        return Evidence.DEATH
    return Evidence.WRONG if failure.how is How.BROKE and failure.code in _WRONG else Evidence.REFUSAL


MOST_TRIES = 3
"""other chances that one provider gets in one completion"""
