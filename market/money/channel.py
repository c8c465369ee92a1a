"""The two ends of a payment channel as state machines, without I/O.

Every step carries a voucher that covers all steps so far and itself, so the payee never works unpaid and the
payer risks one step. Several sessions may share a channel: their vouchers can arrive out of order, and a step
is good when the best voucher known by then covers what was billed plus its own charge.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.market.errors import (
    ChannelError,
    InvalidAmount,
    InvalidSignature,
    Overbilled,
    OverDeposit,
    Refusal,
    VoucherRefused,
)
from hypercluster.market.money.units import format_hct
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain


@dataclass
class PayerChannel:
    """The payer's end. All amounts in wei.

    ``signed`` is the highest cumulative amount ever authorised: what the payee can take at most.
    ``spent`` is what answered steps cost, ``in_flight`` what unanswered ones will cost. A refused step leaves
    ``signed`` above ``spent``; that credit pays for the next step. ``released`` is what such steps would have
    cost: of a step whose answer was lost nobody knows here whether the payee billed it. ``dropped`` is what steps would
    have cost that it did not take on: totals that it told other sessions before that may come later.
    """

    deposit: int
    signed: int = 0
    spent: int = 0
    in_flight: int = 0
    released: int = 0
    dropped: int = 0

    @property
    def available(self) -> int:
        """What can still be authorised before a top-up is needed."""
        return self.deposit - self.spent - self.in_flight

    def covers(self, amount: int, kept: int = 0) -> bool:
        """Whether a voucher that is out pays for a step of ``amount`` as well, and for steps of ``kept`` to come."""
        return self.spent + self.in_flight + amount + kept <= self.signed

    def authorise(self, amount: int, ahead: int = 0, kept: int = 0) -> int:
        """Set ``amount`` aside for one step and return the cumulative amount its voucher must carry, with up to
        ``ahead`` for later steps if a new one is signed. The voucher pays for steps of ``kept`` besides, which others
        have paid ahead, as far as the deposit goes.

        Raises:
            OverDeposit: the deposit does not cover it; nothing has changed.
        """
        if amount < 0:
            raise InvalidAmount(f"A step cannot cost {amount} wei.")
        needed = self.spent + self.in_flight + amount
        if needed > self.deposit:
            raise OverDeposit(needed, self.deposit)
        self.signed = self.next_voucher(amount, ahead, kept)
        self.in_flight += amount
        return self.signed

    def next_voucher(self, amount: int, ahead: int = 0, kept: int = 0) -> int:
        """What `authorise` would return now for a step of ``amount`` that the deposit covers; changes nothing."""
        needed = self.spent + self.in_flight + amount + kept
        return self.signed if min(self.deposit, needed) <= self.signed else min(self.deposit, needed + ahead)

    def acknowledge(self, amount: int, billed: int) -> None:
        """Book a step of ``amount`` as answered; ``billed`` is the payee's running total.

        Raises:
            Overbilled: the payee bills more than all steps answered and under way cost.
        """
        self._land(amount)
        self.spent += amount
        asked = self.spent + self.in_flight + self.dropped
        if billed > asked + self.released:
            raise Overbilled(
                f"The provider says it billed {format_hct(billed)} HCT and was asked for work of "
                f"{format_hct(asked + self.released)} HCT: leave this provider."
            )
        # It did bill a step whose answer never came: the next vouchers have to cover that as well.
        lost = max(0, billed - asked)
        self.spent += lost
        self.released -= lost
        if not self.in_flight:
            self.dropped = 0

    def release(self, amount: int) -> None:
        """Book a step of ``amount`` as refused or lost: its voucher stays with the payee as credit."""
        self._land(amount)
        self.released += amount

    def drop(self, amount: int, billed: int) -> None:
        """Book a step of ``amount`` that the payee says it did not take on; ``billed`` is its running total.

        The voucher stays with it as credit for the next step, and nothing is lost of it unless the payee lies.

        Raises:
            Overbilled: see `acknowledge`.
        """
        self._land(amount)
        self.acknowledge(0, billed)
        if self.in_flight:
            self.dropped += amount

    def resume(self, billed: int, paid: int) -> None:
        """Take over the payee's totals when a session opens.

        ``paid`` is the amount of its best voucher, whose signature the caller has checked.

        Raises:
            Overbilled: it billed more than was ever authorised.
        """
        signed = max(self.signed, paid)
        if billed > signed:
            raise Overbilled(
                f"The provider says it billed {format_hct(billed)} HCT and was authorised to "
                f"{format_hct(signed)} HCT: leave this provider."
            )
        self.signed = signed
        if not self.in_flight:  # steps of another session would be counted twice
            # Never lowered: the total may be older than an answer that another session got since.
            self.spent = max(self.spent, billed)

    def topped_up(self, deposit: int) -> None:
        """Take over the channel's new total deposit."""
        if deposit < self.deposit:
            raise ChannelError(f"A top-up cannot lower a deposit from {self.deposit} to {deposit} wei.")
        self.deposit = deposit

    def _land(self, amount: int) -> None:
        if not 0 <= amount <= self.in_flight:
            raise ChannelError(f"No step of {amount} wei is under way: {self.in_flight} wei are.")
        self.in_flight -= amount


@dataclass
class PayeeChannel:
    """The payee's end. All amounts in wei; ``close_at`` in unix seconds, 0 while nobody asked to close.

    Holds at every moment: ``billed <= best <= deposit``.
    """

    domain: VoucherDomain
    descriptor: ChannelDescriptor
    deposit: int
    close_at: int = 0
    best: int = 0
    signature: bytes = b""
    billed: int = 0

    def __post_init__(self) -> None:
        self.channel_id = self.domain.channel_id(self.descriptor)

    def admit(self, charge: int, cumulative: int, signature: bytes) -> bool:
        """Bill a step of ``charge`` against its voucher, before the step is computed.

        Returns:
            True when the voucher is better than the best one before, so that it has to be stored.

        Raises:
            VoucherRefused: CLOSING, OVER_DEPOSIT, TOO_LOW or BAD_SIGNATURE; nothing has changed.
        """
        if charge < 0:
            raise InvalidAmount(f"A step cannot cost {charge} wei.")
        if self.close_at:
            raise VoucherRefused(Refusal.CLOSING, "The payer asked to close this channel: open another one.")
        if cumulative > self.deposit:
            raise VoucherRefused(
                Refusal.OVER_DEPOSIT,
                f"The voucher says {format_hct(cumulative)} HCT and the channel holds "
                f"{format_hct(self.deposit)} HCT.",
            )
        if not self.is_signed(cumulative, signature):
            raise VoucherRefused(Refusal.BAD_SIGNATURE, "The voucher is not signed by the channel's signer.")
        if max(self.best, cumulative) < self.billed + charge:
            raise VoucherRefused(
                Refusal.TOO_LOW,
                f"The voucher says {format_hct(cumulative)} HCT and this step needs "
                f"{format_hct(self.billed + charge)} HCT in all.",
            )
        self.billed += charge
        better = cumulative > self.best
        if better:
            self.best, self.signature = cumulative, signature
        return better

    def refund(self, charge: int) -> None:
        """Take back a step that was billed and then failed; its voucher stays as credit for the next."""
        if not 0 <= charge <= self.billed:
            raise ChannelError(f"{charge} wei were not billed: {self.billed} wei were.")
        self.billed -= charge

    def settled(self, cumulative: int) -> None:
        """Take note that the chain paid ``cumulative`` wei in all: anyone may settle a voucher."""
        if cumulative > self.best:
            self.best, self.signature = cumulative, b""

    def is_signed(self, cumulative: int, signature: bytes) -> bool:
        """Whether the channel's signer signed a voucher over ``cumulative`` wei."""
        if signature and cumulative == self.best and signature == self.signature:
            return True
        try:
            return self.domain.recover(self.channel_id, cumulative, signature) == self.descriptor.signer
        except (InvalidSignature, InvalidAmount):
            return False
