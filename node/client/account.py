"""One channel that is paid from. Vouchers are signed here and nowhere else: within all limits, written down first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.errors import InvalidSignature, Overbilled
from hypercluster.market.money.units import format_hct

if TYPE_CHECKING:
    import coincurve

    from hypercluster.market.money.channel import PayerChannel
    from hypercluster.market.money.voucher import ChannelDescriptor, Quote, VoucherDomain
    from hypercluster.node.client.journal import Journal
    from hypercluster.node.client.limits import Spending


FAR = 64
"""times what a hop takes at once that every budget has to hold before anything is paid ahead"""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is paid over one channel: the operator gets the money, its node does the work and keeps the books."""

    operator: str
    node: str


@dataclass(eq=False, slots=True)
class OutgoingAccount:
    """One channel that we pay from, shared by all our sessions with one node."""

    descriptor: ChannelDescriptor
    channel_id: bytes
    channel: PayerChannel
    domain: VoucherDomain
    session_key: coincurve.PrivateKey
    journal: Journal | None = None
    reserved: int = 0
    """wei that our open sessions reserve with the provider, less what they paid"""
    held: int = 0
    """wei of what was signed that our open sessions have set aside, each for its own next steps"""
    unseen: int = 0
    """wei that the provider says it billed beyond what we know of; it gets a deposit for that, and no voucher"""
    _last: tuple[int, bytes] = (-1, b"")
    """the voucher that was signed last"""
    _foreseen: tuple[int, bytes] = (-1, b"")
    """one that was signed before anybody asked for it; it is nobody's until it is authorised"""

    @property
    def unreserved(self) -> int:
        """Wei that a further session can reserve."""
        return max(0, self.channel.available - self.reserved - self.unseen)

    @property
    def credit(self) -> int:
        """Wei that are signed for, that nobody was paid for, and that no session holds: an earlier one risked them.

        Below zero: the deposit was too small for what they hold, and others of them were paid with it.
        """
        channel = self.channel
        return channel.signed - channel.spent - channel.in_flight - self.held

    def too_little(self, billed: int) -> None:
        """Take note that the deposit does not cover another session, as `billed` wei are billed by its word."""
        known = self.channel.spent + self.channel.in_flight
        self.unseen = max(0, min(billed, self.channel.deposit) - known)

    def authorise(self, amount: int, spending: Spending) -> tuple[int, bytes]:
        """Set `amount` wei aside and return the voucher for it: cumulative wei and its signature, 64 bytes.

        Raises:
            LimitReached: a budget does not hold enough; OverDeposit: the channel does not. Nothing was signed.
        """
        cumulative, signature, _ = self.authorise_ahead(amount, spending, 0, 0)
        return cumulative, signature

    def authorise_ahead(
        self, amount: int, spending: Spending, held: int, ahead: int
    ) -> tuple[int, bytes, int]:
        """The same for a step of which its session paid `held` wei before, with up to `ahead` wei for later ones if a
        new voucher is needed. Returns besides how much of that the budgets hold now. Raises as `authorise`.
        """
        kept = self.held - held
        ahead = self._ahead(amount, spending, ahead, kept)
        taken = amount - held + ahead
        covered = max(0, min(amount - held, self.credit))
        spending.take(taken, covered)
        try:
            cumulative = self.channel.authorise(amount, ahead, kept)
        except BaseException:
            spending.give_back(taken, covered)
            raise
        if self.journal and (taken or cumulative != self._last[0]):
            self.journal.signed(self.channel_id, spending.request_id, taken, cumulative)
        if self.journal and covered:
            self.journal.covered(self.channel_id, spending.request_id, covered)
        if cumulative != self._last[0]:
            self._last = self._foreseen if cumulative == self._foreseen[0] else self._signed(cumulative)
        return *self._last, ahead

    def foresee(self, amount: int, spending: Spending, held: int, ahead: int) -> None:
        """Sign what `authorise_ahead` would be asked for next, if that is for `amount` wei: while there is time.

        Nothing is set aside or written down for it, and it leaves only if it is authorised then.
        """
        kept = self.held - held
        if not self.channel.covers(amount, kept) and amount <= self.channel.available:
            cumulative = self.channel.next_voucher(amount, self._ahead(amount, spending, ahead, kept), kept)
            if cumulative != self._foreseen[0]:
                self._foreseen = self._signed(cumulative)

    def _signed(self, cumulative: int) -> tuple[int, bytes]:
        return cumulative, self.domain.sign(self.session_key, self.channel_id, cumulative)

    def _ahead(self, amount: int, spending: Spending, ahead: int, kept: int) -> int:
        """What of `ahead` wei is paid: nothing on credit, or near the end of a budget, which other hops draw on."""
        if not ahead or self.channel.covers(amount, kept):
            return 0
        left = spending.left_wei
        if left is not None and left < FAR * (amount + ahead):
            return 0
        return max(0, min(ahead, self.channel.available - amount - kept))

    def acknowledge(self, amount: int, billed: int, spending: Spending) -> None:
        """Book an answered step. Raises Overbilled."""
        spending.book(amount, answered=True)
        try:
            self.channel.acknowledge(amount, billed)
        finally:
            if self.journal:
                self.journal.answered(self.channel_id, spending.request_id, amount, self.channel.spent)

    def release(self, amount: int, spending: Spending) -> None:
        """Book a step that was refused or never answered: its voucher is out, so it counts in every budget."""
        self.share(amount, spending)
        spending.book(amount, answered=False)
        self.channel.release(amount)

    def share(self, amount: int, spending: Spending) -> None:
        """Note what of `amount` wei, which are about to count as risked, was signed once for several sessions."""
        if shared := min(amount, max(0, -self.credit)):
            spending.cover(shared)
            if self.journal:
                self.journal.covered(self.channel_id, spending.request_id, shared)

    def dropped(self, amount: int, billed: int) -> None:
        """Book a step that the provider says it did not begin: its `amount` stays set aside for the next ones.

        Raises Overbilled.
        """
        self.channel.drop(amount, billed)

    def resume(self, billed: int, paid: int, signature: bytes) -> None:
        """Take over the provider's totals; what it says it was paid must carry our own signature.

        Raises:
            Overbilled: it says more than we ever signed.
        """
        if paid > self.channel.signed:
            try:
                signer = self.domain.recover(self.channel_id, paid, signature)
            except InvalidSignature:
                signer = ""
            if signer != self.descriptor.signer:
                raise Overbilled(
                    f"The provider shows a voucher of {format_hct(paid)} HCT that we never signed: leave it."
                )
        self.channel.resume(billed, paid)
        self.unseen = 0

    def check_quote(self, quote: Quote, signature: bytes, node: str) -> None:
        """Raise InvalidSignature unless the Ethereum address `node` signed the quote."""
        if self.domain.recover_quote(quote, signature) != node:
            raise InvalidSignature("The quote is signed by another key than the provider's node key.")
