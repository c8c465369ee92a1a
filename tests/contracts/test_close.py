from functools import partial

import ape

from tests.contracts.conftest import HCT, Desk, events
from tests.contracts.kinds import Account, Chain, Contract, Sleep


def test_close_pays_and_refunds(
    channels: Contract, token: Contract, desk: Desk, payer: Account, payee: Account
) -> None:
    held = token.balanceOf(payer)
    channel = desk.open()
    receipt = channels.close(channel, 3 * HCT, desk.voucher(channel, 3 * HCT), sender=payee)
    closed = {"channelId": desk.id(channel), "settled": 3 * HCT, "refunded": 7 * HCT}
    assert events(receipt)[0] == ("Closed", closed)
    assert [name for name, _ in events(receipt)] == ["Closed", "Transfer", "Transfer"]
    assert token.balanceOf(payee) == 3 * HCT
    assert token.balanceOf(payer) == held - 3 * HCT
    assert token.balanceOf(channels) == 0
    assert desk.figures(channel) == (3 * HCT, 3 * HCT, 0, 2)


def test_close_without_a_better_voucher_refunds_the_rest(
    channels: Contract, token: Contract, desk: Desk, payee: Account
) -> None:
    unused, stale = desk.open(), desk.open(1)
    channels.settle(stale, 2 * HCT, desk.voucher(stale, 2 * HCT), sender=payee)
    channels.close(unused, 0, b"", sender=payee)
    receipt = channels.close(stale, HCT, b"not looked at", sender=payee)
    assert events(receipt)[0][1]["settled"] == 2 * HCT
    assert token.balanceOf(payee) == 2 * HCT
    assert token.balanceOf(channels) == 0


def test_close_of_a_spent_channel_moves_only_what_is_due(
    channels: Contract, desk: Desk, payee: Account
) -> None:
    spent, last = desk.open(), desk.open(1)
    channels.settle(spent, 10 * HCT, desk.voucher(spent, 10 * HCT), sender=payee)
    assert [name for name, _ in events(channels.close(spent, 0, b"", sender=payee))] == ["Closed"]
    receipt = channels.close(last, 10 * HCT, desk.voucher(last, 10 * HCT), sender=payee)
    assert [name for name, _ in events(receipt)] == ["Closed", "Transfer"]


def test_close_refuses(
    channels: Contract, desk: Desk, payer: Account, payee: Account, stranger: Account
) -> None:
    channel = desk.open()
    for sender in (payer, stranger):
        with ape.reverts(channels.NotPayee):
            channels.close(channel, 0, b"", sender=sender)
    with ape.reverts(channels.BadSignature):
        channels.close(channel, HCT, desk.voucher(channel, 2 * HCT), sender=payee)
    with ape.reverts(channels.BadSignature):
        channels.close(channel, HCT, b"", sender=payee)
    with ape.reverts(channels.OverDeposit):
        channels.close(channel, 11 * HCT, desk.voucher(channel, 11 * HCT), sender=payee)
    with ape.reverts(channels.ChannelNotOpen):
        channels.close(desk.descriptor(1), 0, b"", sender=payee)


def test_request_close_starts_the_grace_period(channels: Contract, desk: Desk, payer: Account) -> None:
    channel = desk.open()
    receipt = channels.requestClose(channel, sender=payer)
    close_at = receipt.timestamp + channels.grace()
    assert events(receipt) == [("CloseRequested", {"channelId": desk.id(channel), "closeAt": close_at})]
    assert desk.figures(channel) == (0, 10 * HCT, close_at, 1)


def test_request_close_refuses(
    channels: Contract, desk: Desk, payer: Account, payee: Account, stranger: Account
) -> None:
    channel = desk.open()
    for sender in (payee, stranger):
        with ape.reverts(channels.NotPayer):
            channels.requestClose(channel, sender=sender)
    with ape.reverts(channels.ChannelNotOpen):
        channels.requestClose(desk.descriptor(1), sender=payer)
    channels.requestClose(channel, sender=payer)
    close_at = desk.figures(channel)[2]
    with ape.reverts(channels.CloseAlreadyRequested, error_inputs={"closeAt": close_at}):
        channels.requestClose(channel, sender=payer)


def test_withdraw_returns_the_rest_after_the_grace_period(
    channels: Contract, token: Contract, desk: Desk, chain: Chain, payer: Account, payee: Account
) -> None:
    held = token.balanceOf(payer)
    channel = desk.open()
    channels.settle(channel, HCT, desk.voucher(channel, HCT), sender=payee)
    channels.requestClose(channel, sender=payer)
    close_at = desk.figures(channel)[2]
    chain.provider.set_timestamp(close_at - 1)
    with ape.reverts(channels.GracePeriod, error_inputs={"closeAt": close_at}):
        channels.withdraw(channel, sender=payer)
    chain.provider.set_timestamp(close_at)
    receipt = channels.withdraw(channel, sender=payer)
    closed = {"channelId": desk.id(channel), "settled": HCT, "refunded": 9 * HCT}
    assert events(receipt)[0] == ("Closed", closed)
    assert token.balanceOf(payer) == held - HCT
    assert desk.figures(channel) == (HCT, HCT, 0, 2)


def test_withdraw_of_a_spent_channel_transfers_nothing(
    channels: Contract, desk: Desk, payer: Account, payee: Account, sleep: Sleep
) -> None:
    channel = desk.open()
    channels.settle(channel, 10 * HCT, desk.voucher(channel, 10 * HCT), sender=payee)
    channels.requestClose(channel, sender=payer)
    sleep(3600)
    assert [name for name, _ in events(channels.withdraw(channel, sender=payer))] == ["Closed"]


def test_withdraw_refuses(
    channels: Contract, desk: Desk, payer: Account, payee: Account, stranger: Account
) -> None:
    channel = desk.open()
    with ape.reverts(channels.CloseNotRequested):
        channels.withdraw(channel, sender=payer)
    channels.requestClose(channel, sender=payer)
    for sender in (payee, stranger):
        with ape.reverts(channels.NotPayer):
            channels.withdraw(channel, sender=sender)
    with ape.reverts(channels.ChannelNotOpen):
        channels.withdraw(desk.descriptor(1), sender=payer)


def test_the_payee_may_close_while_the_payer_waits(
    channels: Contract, token: Contract, desk: Desk, payer: Account, payee: Account, sleep: Sleep
) -> None:
    channel = desk.open()
    channels.requestClose(channel, sender=payer)
    sleep(7200)
    channels.close(channel, 10 * HCT, desk.voucher(channel, 10 * HCT), sender=payee)
    assert token.balanceOf(payee) == 10 * HCT
    with ape.reverts(channels.ChannelNotOpen):
        channels.withdraw(channel, sender=payer)


def test_an_ended_channel_stays_ended(
    channels: Contract, desk: Desk, payer: Account, payee: Account, sleep: Sleep
) -> None:
    closed, withdrawn = desk.open(), desk.open(1)
    channels.requestClose(withdrawn, sender=payer)
    sleep(3600)
    channels.withdraw(withdrawn, sender=payer)
    channels.close(closed, 0, b"", sender=payee)
    for salt, channel in enumerate((closed, withdrawn)):
        with ape.reverts(channels.ChannelExists):
            desk.open(salt)
        for call in (
            partial(channels.topUp, channel, 1, sender=payer),
            partial(channels.requestClose, channel, sender=payer),
            partial(channels.withdraw, channel, sender=payer),
            partial(channels.settle, channel, 1, desk.voucher(channel, 1), sender=payee),
            partial(channels.close, channel, 0, b"", sender=payee),
        ):
            with ape.reverts(channels.ChannelNotOpen, error_inputs={"channelId": desk.id(channel)}):
                call()
        assert desk.figures(channel) == (0, 0, 0, 2)
