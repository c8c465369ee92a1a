"""The client's side of one session with one provider: open, pay for each step, check what comes back."""

import secrets
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from hypercluster.market.advert import Advert
from hypercluster.market.errors import Overbilled
from hypercluster.node.client.exchanging import HopFailed, How, check_quote, exchange, telling, too_slow
from hypercluster.node.client.flying import Flying
from hypercluster.node.client.patience import Leash, TooSlow
from hypercluster.node.client.stays import Origin, Stay
from hypercluster.node.client.stepping import OPEN_SECONDS, STEP_SECONDS
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.identity import peer_of_public_key
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.links import Expect, Link, Rows, Show
from hypercluster.node.wire.messages import Accept, Close, LinkState, Open, Parked

if TYPE_CHECKING:
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.linking import Joint
    from hypercluster.node.evidence.transcript import Held
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.wire.records import AuditStep, StepRoots


class Hop(Flying):
    """An open session with the provider of layers [start, stop)."""

    @classmethod
    async def open(
        cls,
        connection: "Connection",
        advert: Advert,
        account: "OutgoingAccount",
        *,
        wire_dtype: WireDtype,
        capacity: int,
        top_k: int,
        n_vocab: int,
        is_last: bool,
        domain: "DisputeDomain",
        spending: "Spending",
        transcripts: "TranscriptStore | None" = None,
        leash: Leash | None = None,
        stay: Stay | None = None,
        begun: "Sequence[AuditStep | StepRoots]" = (),
        position: int = 0,
        joint: "Joint | None" = None,
        pay_ahead: int = 1,
    ) -> "Hop":
        """Open a session of `capacity` tokens at the advertised prices or better, paid within `spending`.

        Receipts are checked in `domain`; what is sent and answered is kept in `transcripts` if given. With a `leash`
        its steps have limits of their own. The provider before may bring rows over a `joint`, if given.
        A session that the provider keeps goes on from `position` with its `stay`,
        which is the hop's then, or one begins with a copy of it, of the steps in `begun`; where it is gone a new one
        begins, see `cached`. A voucher pays for up to `pay_ahead` tokens.

        Raises:
            HopFailed: the provider refuses, does not answer, or its quote does not hold.
        """
        opening = Open(
            session=secrets.token_bytes(16),
            model_id=advert.model_id,
            layer_start=advert.layer_start,
            layer_stop=advert.layer_stop,
            channel=account.descriptor,
            wire_dtype=wire_dtype,
            capacity=capacity,
            max_price_wei=advert.price_wei,
            max_prompt_price_wei=advert.prompt_price_wei,
            top_k=top_k if is_last else 0,
            resume=stay.record.session if stay else b"",
            position=position if stay else 0,
            max_cached_price_wei=advert.cached_price_wei,
            ticket=joint.ticket if joint else b"",
            previous=joint.before.peer if joint else "",
            branch=len(begun),
        )
        try:
            accepted = await exchange(connection, advert.peer, opening, OPEN_SECONDS)
        except HopFailed as failure:
            if failure.code is ErrorCode.OVER_DEPOSIT:
                account.too_little(failure.billed_wei)
            raise
        if not isinstance(accepted, Accept):
            raise HopFailed(advert.peer, f"it answered Open with {type(accepted).__name__}.")
        quote = check_quote(accepted, opening, advert, account)
        if not accepted.position:
            stay, begun = None, ()
        elif stay is None or not _goes_on(accepted, stay, branch=bool(begun)):
            raise HopFailed(advert.peer, "it goes on with another session than the one that it kept.")
        try:
            account.resume(accepted.billed_wei, accepted.paid_wei, accepted.paid_signature)
        except Overbilled as error:
            raise HopFailed(advert.peer, str(error)) from error
        bound = frame_bound(accepted.max_step_tokens, accepted.width, top_k if is_last else 0)
        connection.raise_bound(bound + 64 * len(begun))
        client = peer_of_public_key(account.session_key.public_key)
        return cls(
            connection, advert, account, accepted, opening, is_last, n_vocab,
            domain, transcripts, client, spending, quote, leash, stay, pay_ahead, begun,
        )  # fmt: skip

    async def held(self) -> "Held":
        """What there is here of what was asked and answered. Raises NotKept."""
        return await trio.to_thread.run_sync(self._kept.held)

    def origin(self) -> Origin:
        """Its steps so far, for sessions that begin with a copy of it. Raises NotKept."""
        return Origin(self.receipts.next_seq, self._kept.for_later())

    async def join(self, joint: "Joint") -> None:
        """Have the provider make a link to the one after, which knows its ticket. Raises HopFailed."""
        link = Link(joint.after.peer, joint.after.direct, joint.ticket)
        await telling(self._connection, self.advert.peer, link, OPEN_SECONDS)
        self.link, self.relayed = LinkState.NONE, False

    async def expect(self, joint: "Joint") -> None:
        """Tell the provider who brings its rows from now on. Raises HopFailed."""
        told = Expect(joint.before.peer, joint.ticket)
        await telling(self._connection, self.advert.peer, told, OPEN_SECONDS)

    async def shown(self) -> bytes:
        """The packed rows of the last step, which was answered and went on to the provider after, as the provider
        shows them. Raises HopFailed: it does not, or they are not those that it signed for.
        """
        last = self.receipts.last
        assert last is not None
        withheld = HopFailed(
            self.advert.peer, "it does not show what it signed for and says that it sent on."
        )
        watched = nullcontext() if self.leash is None else self.leash.showing(last.tokens)
        try:
            with watched:
                rows = await exchange(self._connection, self.advert.peer, Show(last.seq), STEP_SECONDS)
        except TooSlow as slow:
            raise too_slow(self.advert.peer, slow) from None
        except HopFailed as failure:
            # It had the session a moment ago: to open it again would pay once more for what it withholds.
            gone = failure.how is How.REFUSED and failure.code is ErrorCode.UNKNOWN_SESSION
            raise (withheld if gone else failure) from None
        if not isinstance(rows, Rows):
            raise withheld
        return self._checks.shown(rows, last)

    async def park(self) -> Stay | None:
        """End the visit, and have the provider keep what the session holds; None where it does not.

        What is returned has the session's transcript: it is to be closed.
        """
        stay: Stay | None = None
        try:
            answer = await exchange(self._connection, self.advert.peer, Close(park=True), OPEN_SECONDS)
            if isinstance(answer, Parked) and answer.seconds:
                if self._transcript:
                    self._transcript.rest()
                rows = self.rows_before + self.tokens
                stay = Stay(self.record, self.receipts, self._transcript, rows, answer.seconds)
        except HopFailed:
            pass
        finally:
            await self._left(keeping=stay is not None)
        return stay

    async def close(self) -> None:
        """Tell the provider that the session is over; a lost connection says it as well."""
        try:
            await self._connection.send(Close(), OPEN_SECONDS)
        except NodeError:
            pass
        finally:
            await self._left(keeping=False)

    async def _left(self, *, keeping: bool) -> None:
        self.give_up()
        self._ahead.end()
        self._reserve_less(self._reserved)
        self._kept.close()
        if self._transcript and not keeping:
            self._transcript.close()
        await self._connection.close()


def _goes_on(accepted: Accept, stay: Stay, *, branch: bool) -> bool:
    """Whether what a provider accepted is what it kept: the stage itself, or one that begins like it."""
    same = accepted.nonce == stay.record.nonce
    return accepted.profile == stay.record.profile and same is not branch
