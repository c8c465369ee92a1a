"""Both ends of a channel under every order of events: nobody is unpaid, nothing exceeds the deposit."""

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hypercluster.market.errors import (
    ChannelError,
    InvalidAmount,
    Overbilled,
    OverDeposit,
    Refusal,
    VoucherRefused,
)
from hypercluster.market.money.channel import PayeeChannel, PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

KEY = coincurve.PrivateKey(b"\x07" * 32)
DOMAIN = VoucherDomain("0x5FbDB2315678afecb367f032d93F642f64180aa3", 31337)
DESCRIPTOR = ChannelDescriptor("0x" + "11" * 20, "0x" + "22" * 20, address_of(KEY), b"\3" * 32)
CHANNEL_ID = DOMAIN.channel_id(DESCRIPTOR)


def payee(deposit: int = 100, *, best: int = 0, billed: int = 0, close_at: int = 0) -> PayeeChannel:
    return PayeeChannel(DOMAIN, DESCRIPTOR, deposit, best=best, billed=billed, close_at=close_at)


def admit(channel: PayeeChannel, charge: int, cumulative: int) -> bool:
    return channel.admit(charge, cumulative, DOMAIN.sign(KEY, CHANNEL_ID, cumulative))


class SharedChannel(RuleBasedStateMachine):
    """Several sessions on one channel: vouchers arrive in any order, are refused, answered, topped up."""

    travelling = Bundle("travelling")
    answered = Bundle("answered")
    refused = Bundle("refused")

    @initialize(deposit=st.integers(0, 60))
    def open(self, deposit: int) -> None:
        self.payer, self.payee = PayerChannel(deposit), payee(deposit)
        self.worked = 0  # charges of the steps that the payee computed

    @rule(target=travelling, charge=st.integers(0, 12))
    def authorise(self, charge: int) -> tuple[int, int] | None:
        before = vars(self.payer).copy()
        try:
            return charge, self.payer.authorise(charge)
        except OverDeposit:
            assert vars(self.payer) == before
            assert charge > self.payer.available
            return None

    @rule(target=answered, step=consumes(travelling), fails=st.booleans())
    def arrive(self, step: tuple[int, int] | None, fails: bool) -> tuple[int, int] | None:
        if step is None:
            return None
        charge, cumulative = step
        admit(self.payee, charge, cumulative)  # a voucher the payer made is never refused
        if fails:
            self.payee.refund(charge)
            self.payer.release(charge)
            return None
        self.worked += charge
        return charge, self.payee.billed

    @rule(answer=consumes(answered))
    def answer(self, answer: tuple[int, int] | None) -> None:
        if answer is not None:
            self.payer.acknowledge(*answer)

    @rule(step=consumes(travelling))
    def lose(self, step: tuple[int, int] | None) -> None:
        if step is not None:
            self.payer.release(step[0])

    @rule(more=st.integers(0, 30))
    def top_up(self, more: int) -> None:
        self.payer.topped_up(self.payer.deposit + more)
        self.payee.deposit = self.payer.deposit

    @invariant()
    def nobody_is_unpaid_and_nothing_exceeds_the_deposit(self) -> None:
        assert self.worked == self.payee.billed <= self.payee.best <= self.payer.signed <= self.payer.deposit
        assert self.payer.spent + self.payer.in_flight <= self.payer.signed


TestSharedChannel = SharedChannel.TestCase


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 120)), max_size=30))
def test_a_greedy_payer_gets_no_work_for_free(steps: list[tuple[int, int]]) -> None:
    channel, worked = payee(), 0
    reasons: set[Refusal] = set()
    for charge, cumulative in steps:
        covered = max(channel.best, cumulative) >= worked + charge and cumulative <= channel.deposit
        try:
            admit(channel, charge, cumulative)
            worked += charge
            assert covered
        except VoucherRefused as refusal:
            assert not covered
            reasons.add(refusal.reason)
        assert worked == channel.billed <= channel.best <= channel.deposit
    assert reasons <= {Refusal.TOO_LOW, Refusal.OVER_DEPOSIT}


def test_admit_says_when_a_voucher_has_to_be_stored() -> None:
    channel = payee()
    assert admit(channel, 10, 20)
    assert not admit(channel, 5, 20)
    assert not admit(channel, 5, 10)
    assert (channel.best, channel.billed) == (20, 20)
    assert DOMAIN.recover(CHANNEL_ID, 20, channel.signature) == DESCRIPTOR.signer


@pytest.mark.parametrize(
    ("channel", "charge", "cumulative", "signature", "reason"),
    [
        (payee(), 5, 5, b"\0" * 64, Refusal.BAD_SIGNATURE),
        (payee(), 5, 5, b"", Refusal.BAD_SIGNATURE),
        (payee(), 0, 0, b"", Refusal.BAD_SIGNATURE),
        (payee(best=9), 5, 9, b"", Refusal.BAD_SIGNATURE),
        (
            payee(),
            5,
            5,
            DOMAIN.sign(coincurve.PrivateKey(b"\x09" * 32), CHANNEL_ID, 5),
            Refusal.BAD_SIGNATURE,
        ),
        (payee(), 5, 5, DOMAIN.sign(KEY, b"\0" * 32, 5), Refusal.BAD_SIGNATURE),
        (payee(), 5, -1, DOMAIN.sign(KEY, CHANNEL_ID, 5), Refusal.BAD_SIGNATURE),
        (payee(), 6, 5, DOMAIN.sign(KEY, CHANNEL_ID, 5), Refusal.TOO_LOW),
        (payee(best=10, billed=10), 1, 10, DOMAIN.sign(KEY, CHANNEL_ID, 10), Refusal.TOO_LOW),
        (payee(), 5, 101, DOMAIN.sign(KEY, CHANNEL_ID, 101), Refusal.OVER_DEPOSIT),
        (payee(close_at=1), 5, 5, DOMAIN.sign(KEY, CHANNEL_ID, 5), Refusal.CLOSING),
    ],
)
def test_refusals_have_a_reason_and_change_nothing(
    channel: PayeeChannel, charge: int, cumulative: int, signature: bytes, reason: Refusal
) -> None:
    before = vars(channel).copy()
    with pytest.raises(VoucherRefused) as refusal:
        channel.admit(charge, cumulative, signature)
    assert refusal.value.reason is reason
    assert vars(channel) == before


def test_credit_of_a_refused_step_pays_for_the_next() -> None:
    payer, channel = PayerChannel(100), payee()
    admit(channel, 10, payer.authorise(10))
    channel.refund(10)
    payer.release(10)
    assert payer.authorise(10) == 10
    assert payer.signed == 10


def test_a_payer_that_lost_its_ledger_resumes_from_the_payees_totals() -> None:
    payer = PayerChannel(100)
    payer.resume(billed=30, paid=40)
    assert payer.authorise(10) == 40
    assert payer.authorise(10) == 50
    with pytest.raises(Overbilled):
        PayerChannel(100).resume(billed=41, paid=40)


def test_resuming_one_session_leaves_the_steps_of_another_alone() -> None:
    payer = PayerChannel(100)
    payer.authorise(10)
    payer.resume(billed=10, paid=10)
    assert (payer.spent, payer.in_flight) == (0, 10)


def test_a_payee_that_overbills_is_found_out() -> None:
    payer = PayerChannel(100)
    payer.authorise(10)
    with pytest.raises(Overbilled):
        payer.acknowledge(10, billed=11)


def test_a_voucher_settled_by_the_payer_itself_counts_as_seen() -> None:
    channel = payee()
    admit(channel, 10, 10)
    channel.settled(30)
    assert (channel.best, channel.billed) == (30, 10)
    assert not admit(channel, 20, 30)


def test_impossible_calls_are_refused() -> None:
    with pytest.raises(InvalidAmount):
        PayerChannel(5).authorise(-1)
    with pytest.raises(InvalidAmount):
        payee().admit(-1, 0, b"")
    with pytest.raises(ChannelError):
        PayerChannel(5).release(1)
    with pytest.raises(ChannelError):
        PayerChannel(5).topped_up(4)
    with pytest.raises(ChannelError):
        payee().refund(1)


def test_a_step_whose_answer_was_lost_does_not_make_the_payee_a_liar_to_another_session() -> None:
    payer = PayerChannel(100)
    payer.authorise(10)  # its session is cancelled; the payee bills it all the same
    payer.release(10)
    payer.authorise(5)
    payer.acknowledge(5, billed=15)
    assert (payer.spent, payer.released) == (15, 0)
    payer.authorise(5)
    with pytest.raises(Overbilled):
        payer.acknowledge(5, billed=21)


def test_an_old_total_does_not_lower_what_was_spent() -> None:
    payer = PayerChannel(100, signed=20, spent=20)
    payer.resume(billed=10, paid=10)  # told before another session's answer, read after it
    assert payer.spent == 20


def test_a_total_told_before_a_step_was_dropped_is_no_overbilling() -> None:
    """Two sessions: the payee billed a step of each and told so, then dropped one, and that is heard first."""
    payer = PayerChannel(100)
    payer.authorise(10)
    payer.authorise(5)
    payer.drop(5, billed=10)
    payer.acknowledge(10, billed=15)
    assert (payer.spent, payer.in_flight) == (10, 0)
    payer.authorise(10)
    with pytest.raises(Overbilled):
        payer.acknowledge(10, billed=21)  # nothing that was told before is on its way any more
