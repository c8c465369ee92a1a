"""Asking a provider one thing, and what it means when the answer is none."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypercluster.market.errors import InvalidSignature
from hypercluster.node.errors import ConnectionLost, ErrorCode, FrameTimeout, NodeError, PeerRefused
from hypercluster.node.identity import address_of_peer
from hypercluster.node.rows import BadCandidates, check, unpack_activations, unpack_topk
from hypercluster.node.wire.messages import Error

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.money.voucher import Quote
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.patience import TooSlow
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.rows import TopK, WireDtype
    from hypercluster.node.wire.codec import Message
    from hypercluster.node.wire.messages import Accept, Open, StepResult


class How(enum.Enum):
    """In which way a session came to an end before its time."""

    REFUSED = enum.auto()
    """the provider said so, with a code"""
    LOST = enum.auto()
    """it cannot be reached, or did not answer in time"""
    BROKE = enum.auto()
    """its answer does not hold"""
    DATED = enum.auto()
    """its receipt is not of now: its clock or ours is wrong"""
    EXPIRED = enum.auto()
    """its advert ran out before the session began"""
    UNLINKED = enum.auto()
    """rows were lost or changed between it and the provider before, and nobody can say by whom"""


class HopFailed(NodeError):
    """The session with `peer` ended early. `code` is the provider's where it refused, `wait` in how many seconds it
    may be asked again by its own word, 0 if it said nothing; see node.client.blame for whose doing it is.
    """

    def __init__(
        self,
        peer: str,
        reason: str,
        code: ErrorCode = ErrorCode.INTERNAL,
        how: How = How.BROKE,
        wait: float = 0.0,
        billed_wei: int = 0,
    ) -> None:
        verb = "refused" if how is How.REFUSED else "failed"
        super().__init__(f"Provider {peer} {verb}: {reason}")
        self.peer = peer
        self.reason = reason
        self.code = code
        self.how = how
        self.wait = wait
        self.billed_wei = billed_wei
        """on the channel in all, by its own word where it refused"""
        self.best: TopK | None = None
        """what the end of the path had put out by then, over rows that nobody vouches for any more"""

    @property
    def word(self) -> str:
        """The reason in one word: the name of the code, as "full", or how it ended where the code says nothing."""
        told = self.how is How.REFUSED or self.code is not ErrorCode.INTERNAL
        return (self.code if told else self.how).name.lower()

    def through_us(self) -> HopFailed:
        """The same where nobody else answers either."""
        reason = f"{self.reason} No other provider answers either: is this machine cut off?"
        return HopFailed(self.peer, reason, self.code, self.how, self.wait, self.billed_wei)


async def exchange(connection: Connection, peer: str, message: Message, seconds: float) -> Message:
    """Send a message and return the answer. Raises HopFailed: no answer, or an Error."""
    await telling(connection, peer, message, seconds)
    return await hearing(connection, peer, seconds)


async def telling(connection: Connection, peer: str, message: Message, seconds: float) -> None:
    """Send a message. Raises HopFailed."""
    with _failing(peer):
        await connection.send(message, seconds)


async def hearing(connection: Connection, peer: str, seconds: float) -> Message:
    """The next message. Raises HopFailed: none came, or an Error."""
    with _failing(peer):
        answer = await connection.receive(seconds)
        if isinstance(answer, Error):
            raise PeerRefused(answer.code, answer.message, answer.billed_wei, answer.wait_ms / 1000)
    return answer


@contextmanager
def _failing(peer: str) -> Iterator[None]:
    try:
        yield
    except ConnectionLost:
        raise HopFailed(peer, "the connection is lost.", how=How.LOST) from None
    except PeerRefused as refusal:
        raise HopFailed(
            peer, str(refusal), refusal.code, How.REFUSED, refusal.wait, refusal.billed_wei
        ) from None
    except FrameTimeout as error:
        raise HopFailed(peer, str(error), error.code, How.LOST) from None
    except NodeError as error:
        raise HopFailed(peer, str(error), error.code) from error


def too_slow(peer: str, slow: TooSlow) -> HopFailed:
    """What it is that a wait was ended while somebody else could go on: a silence."""
    reason = f"it did not answer in {slow.seconds:.1f} s, which is long for it, and others could go on."
    return HopFailed(peer, reason, ErrorCode.TIMEOUT, How.LOST)


def check_quote(accepted: Accept, opening: Open, advert: Advert, account: OutgoingAccount) -> Quote:
    """The terms, if they are those asked for or better and signed by the node key. Raises HopFailed."""
    if accepted.price_wei > opening.max_price_wei or accepted.prompt_price_wei > opening.max_prompt_price_wei:
        raise HopFailed(advert.peer, "it quotes more than it advertised.")
    if accepted.position not in (0, opening.position):
        raise HopFailed(advert.peer, "it goes on from another place than it was asked to.")
    if accepted.position and accepted.cached_price_wei > opening.max_cached_price_wei:
        raise HopFailed(advert.peer, "it quotes more for what it holds than it advertised.")
    if accepted.capacity < opening.capacity:
        raise HopFailed(advert.peer, f"it has room for {accepted.capacity} tokens only.", ErrorCode.TOO_LONG)
    if accepted.width != advert.width:
        raise HopFailed(
            advert.peer, "its activations have another width than it advertised.", ErrorCode.BAD_SHAPE
        )
    quote = opening.quote(
        account.channel_id,
        price_wei=accepted.price_wei,
        prompt_price_wei=accepted.prompt_price_wei,
        capacity=accepted.capacity,
        expires=accepted.expires,
        cached_price_wei=accepted.cached_price_wei,
        goes_on=accepted.position > 0,
    )
    try:
        account.check_quote(quote, accepted.quote_signature, address_of_peer(advert.peer))
    except InvalidSignature:
        raise HopFailed(
            advert.peer, "its quote is not signed by its node key.", ErrorCode.BAD_SIGNATURE
        ) from None
    return quote


def rows_of(result: StepResult, peer: str, rows: int, width: int, dtype: WireDtype) -> bytes:
    """The packed activations that a step of `rows` tokens was answered with. Raises HopFailed.

    Checked here, so that the next provider is not blamed for what this one sent.
    """
    _check_count(result, peer, rows)
    try:
        unpack_activations(result.output, rows, width, dtype)
    except NodeError as error:
        raise HopFailed(peer, str(error), error.code) from None
    return result.output


def candidates_of(result: StepResult, peer: str, rows: int, top_k: int, n_vocab: int) -> TopK:
    """The `top_k` candidates, of so many tokens, that a step was answered with for `rows` of them. Raises HopFailed."""
    _check_count(result, peer, rows)
    try:
        best = unpack_topk(result.output, rows)
        check(best, n_vocab)
    except BadCandidates as error:
        raise HopFailed(peer, str(error), ErrorCode.BAD_SHAPE) from None
    except NodeError as error:
        raise HopFailed(peer, str(error), error.code) from None
    if best.ids.shape[1] != top_k:
        raise HopFailed(peer, f"it did not answer with {top_k} candidates.", ErrorCode.BAD_SHAPE)
    return best


def _check_count(result: StepResult, peer: str, rows: int) -> None:
    if result.rows != rows:
        raise HopFailed(peer, f"it answered with {result.rows} rows, not {rows}.", ErrorCode.BAD_SHAPE)
