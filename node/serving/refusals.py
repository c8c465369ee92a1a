"""How a node that is paid says no: a coded Error, whatever went wrong, and the node lives on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hypercluster.market.errors import LedgerError, Refusal, VoucherRefused
from hypercluster.market.trust.merkle import BadProof
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.identity import address_of_peer
from hypercluster.node.wire.messages import Error

if TYPE_CHECKING:
    from hypercluster.market.money.voucher import ChannelDescriptor
    from hypercluster.node.network.connection import Connection

log = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
SEND_SECONDS = 30.0
QUOTE_SECONDS = 3600
LEDGER_WAIT = 60.0
"""until asking again is worth it where the disk is full: somebody has to see to it"""

_CODES = {
    Refusal.BAD_SIGNATURE: ErrorCode.BAD_SIGNATURE,
    Refusal.TOO_LOW: ErrorCode.VOUCHER_TOO_LOW,
    Refusal.OVER_DEPOSIT: ErrorCode.OVER_DEPOSIT,
    Refusal.CLOSING: ErrorCode.CHANNEL_CLOSING,
    Refusal.UNKNOWN_CHANNEL: ErrorCode.UNKNOWN_CHANNEL,
    Refusal.FOREIGN_CHANNEL: ErrorCode.FOREIGN_CHANNEL,
}


class Refused(NodeError):
    """This node refuses an opening or a step; `wait` is in how many seconds asking again is worth it, 0 if unknown."""

    def __init__(self, code: ErrorCode, sentence: str, *, wait: float = 0.0) -> None:
        super().__init__(sentence)
        self.code = code
        self.wait = wait


def check_payer(peer: str, channel: ChannelDescriptor) -> None:
    """The peer must hold the channel's session key: else a stranger who read the chain could use up its credit."""
    if address_of_peer(peer) != channel.signer:
        raise Refused(ErrorCode.FOREIGN_CHANNEL, "The channel is signed for by another key than this peer's.")


async def refuse(connection: Connection, error: Exception, billed: int = 0) -> None:
    """Tell the peer why; `billed` is what its channel was charged so far, in wei. Never raises for a lost peer."""
    code, billed = code_of(error), billed or getattr(error, "billed_wei", 0)
    if isinstance(error, LedgerError):
        log.error(
            "%s Nothing is answered that cannot be written down: make room, or mend the database.", error
        )
        sentence = "This node cannot write anything down now; try another one."
    elif code is ErrorCode.INTERNAL:
        log.error("a session failed", exc_info=error)
        sentence = "This node failed; try another one."
    else:
        sentence = str(error)
        log.info("refused: %s (%s)", sentence, code.name)
    try:
        await connection.send(Error.of(code, sentence, billed, wait=wait_of(error)), SEND_SECONDS)
    except NodeError as lost:
        log.debug("the refusal could not be delivered: %s", lost)


def wait_of(error: Exception) -> float:
    """Seconds after which asking again is worth it, 0 if unknown: what the error itself says of it."""
    if isinstance(error, LedgerError):
        return LEDGER_WAIT
    wait = getattr(error, "wait", 0.0)
    return float(wait) if isinstance(wait, int | float) else 0.0


def code_of(error: Exception) -> ErrorCode:
    """What a peer is told about whatever went wrong."""
    if isinstance(error, VoucherRefused):
        return _CODES[error.reason]
    if isinstance(error, BadProof):
        return ErrorCode.BAD_SHAPE
    if isinstance(error, LedgerError):
        return ErrorCode.FULL
    if isinstance(error, NodeError):
        return error.code
    return ErrorCode.INTERNAL
