import ape
import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from tests.contracts.conftest import HCT, Desk, events
from tests.contracts.kinds import Account, Call, Chain, Contract, Deploy, Sleep
from tests.contracts.signing import VOUCHER, compact, full, malleated, words

MAX = 2**96 - 1


def test_the_digest_is_that_of_eip_712(channels: Contract, desk: Desk, chain: Chain) -> None:
    channel = desk.descriptor()
    domain = {
        "name": "HyperCluster PaymentChannels",
        "version": "1",
        "chainId": chain.chain_id,
        "verifyingContract": channels.address,
    }
    types = {"Voucher": [{"name": name, "type": kind} for name, kind in VOUCHER["Voucher"]]}
    message = encode_typed_data(domain, types, {"channelId": desk.id(channel), "cumulative": 5})
    assert channels.DOMAIN_SEPARATOR() == message.header
    assert channels.voucherDigest(desk.id(channel), 5) == keccak(b"\x19\x01" + message.header + message.body)


@pytest.mark.parametrize("encoding", [compact, full])
def test_settle_pays_the_payee(
    channels: Contract, token: Contract, desk: Desk, payee: Account, stranger: Account, encoding: Call
) -> None:
    channel = desk.open()
    receipt = channels.settle(channel, HCT, encoding(desk.sign(channel, HCT)), sender=stranger)
    assert token.balanceOf(payee) == HCT
    assert desk.figures(channel) == (HCT, 10 * HCT, 0, 1)
    settled = {"channelId": desk.id(channel), "payee": payee.address, "cumulative": HCT, "paid": HCT}
    assert events(receipt)[0] == ("Settled", settled)
    receipt = channels.settle(channel, 4 * HCT, encoding(desk.sign(channel, 4 * HCT)), sender=payee)
    assert events(receipt)[0] == ("Settled", settled | {"cumulative": 4 * HCT, "paid": 3 * HCT})
    assert token.balanceOf(payee) == 4 * HCT
    assert token.balanceOf(channels) == 6 * HCT


def test_settle_pays_up_to_the_last_wei(
    channels: Contract, token: Contract, desk: Desk, payee: Account
) -> None:
    channel = desk.open(deposit=HCT)
    channels.settle(channel, HCT, desk.voucher(channel, HCT), sender=payee)
    assert desk.figures(channel) == (HCT, HCT, 0, 1)
    assert token.balanceOf(channels) == 0


def test_settle_refuses_a_stale_voucher(channels: Contract, desk: Desk, payee: Account) -> None:
    channel = desk.open()
    channels.settle(channel, HCT, desk.voucher(channel, HCT), sender=payee)
    for cumulative in (0, HCT - 1, HCT):
        with ape.reverts(channels.NothingToSettle, error_inputs={"settled": HCT}):
            channels.settle(channel, cumulative, desk.voucher(channel, cumulative), sender=payee)


@pytest.mark.parametrize("cumulative", [10 * HCT + 1, MAX])
def test_settle_refuses_more_than_the_deposit(
    channels: Contract, desk: Desk, payee: Account, cumulative: int
) -> None:
    channel = desk.open()
    with ape.reverts(channels.OverDeposit, error_inputs={"deposit": 10 * HCT}):
        channels.settle(channel, cumulative, desk.voucher(channel, cumulative), sender=payee)


def test_settle_refuses_a_channel_that_is_not_open(channels: Contract, desk: Desk, payee: Account) -> None:
    channel = desk.descriptor()
    with ape.reverts(channels.ChannelNotOpen, error_inputs={"channelId": desk.id(channel)}):
        channels.settle(channel, 1, desk.voucher(channel, 1), sender=payee)


def test_settle_refuses_a_signature_that_is_not_the_signers(
    channels: Contract, deploy: Deploy, token: Contract, desk: Desk, payer: Account, payee: Account
) -> None:
    channel, other = desk.open(), desk.open(1)
    good = desk.sign(channel, HCT)
    elsewhere = deploy("PaymentChannels", token, 3600)
    bad = {
        "by another key": compact(desk.sign(channel, HCT, account=payer)),
        "by the payee": compact(desk.sign(channel, HCT, account=payee)),
        "over another sum": desk.voucher(channel, HCT + 1),
        "over another channel": desk.voucher(other, HCT),
        "on another chain": compact(desk.sign(channel, HCT, chain_id=1)),
        "malleated": full(malleated(good)),
        "v of 0 or 1": full(good)[:64] + bytes([good[0] - 27]),
        "v flipped": full(good)[:64] + bytes([55 - good[0]]),
        "recovery bit flipped": words(good)[0] + bytes([words(good)[1][0] ^ 0x80]) + words(good)[1][1:],
        "zeros": bytes(64),
        "zeros, long": bytes(65),
        "empty": b"",
        "short": compact(good)[:63],
        "too long": full(good) + b"\0",
    }
    foreign = type(desk)(elsewhere, desk.payer, desk.payee, desk.signer)
    bad["for another contract"] = foreign.voucher(channel, HCT)
    for what, signature in bad.items():
        with ape.reverts(channels.BadSignature, error_inputs={"channelId": desk.id(channel)}):
            channels.settle(channel, HCT, signature, sender=payee)
            pytest.fail(what)
    channels.settle(channel, HCT, compact(good), sender=payee)


def test_settle_works_until_the_payer_withdraws(
    channels: Contract, desk: Desk, payer: Account, payee: Account, sleep: Sleep
) -> None:
    channel = desk.open()
    channels.requestClose(channel, sender=payer)
    close_at = desk.figures(channel)[2]
    channels.settle(channel, HCT, desk.voucher(channel, HCT), sender=payee)
    sleep(7200)
    channels.settle(channel, 2 * HCT, desk.voucher(channel, 2 * HCT), sender=payee)
    assert desk.figures(channel) == (2 * HCT, 10 * HCT, close_at, 1)


def test_settle_batch_takes_one_transfer(
    channels: Contract, token: Contract, desk: Desk, payee: Account, stranger: Account
) -> None:
    opened = [desk.open(salt) for salt in range(3)]
    rows = [desk.claim(channel, (n + 1) * HCT) for n, channel in enumerate(opened)]
    receipt = channels.settleBatch(payee, rows, sender=stranger)
    assert [name for name, _ in events(receipt)] == ["Settled"] * 3 + ["Transfer"]
    assert receipt.return_value == token.balanceOf(payee) == 6 * HCT
    assert [desk.figures(channel)[0] for channel in opened] == [HCT, 2 * HCT, 3 * HCT]


def test_settle_batch_passes_over_rows_with_nothing_to_pay(
    channels: Contract, token: Contract, desk: Desk, payer: Account, payee: Account
) -> None:
    fresh, settled, closed = (desk.open(salt) for salt in range(3))
    channels.settle(settled, 2 * HCT, desk.voucher(settled, 2 * HCT), sender=payee)
    channels.close(closed, 0, b"", sender=payee)
    rows = [
        desk.claim(settled, HCT),
        desk.claim(settled, 2 * HCT),
        desk.claim(closed, HCT),
        desk.claim(desk.descriptor(9), HCT),  # never opened
        desk.claim(fresh, HCT),
        desk.claim(fresh, HCT),  # twice
        desk.claim(fresh, 3 * HCT),  # a better one of the same channel
        desk.claim(fresh, 2 * HCT),
    ]
    receipt = channels.settleBatch(payee, rows, sender=payee)
    assert [fields["paid"] for name, fields in events(receipt) if name == "Settled"] == [HCT, 2 * HCT]
    assert receipt.return_value == 3 * HCT
    assert token.balanceOf(payee) == 5 * HCT


def test_settle_batch_with_nothing_to_pay_transfers_nothing(
    channels: Contract, desk: Desk, payee: Account
) -> None:
    for rows in ([], [desk.claim(desk.descriptor(), 1)]):
        receipt = channels.settleBatch(payee, rows, sender=payee)
        assert (receipt.return_value, events(receipt)) == (0, [])


def test_a_bad_row_reverts_the_batch(channels: Contract, desk: Desk, payer: Account, payee: Account) -> None:
    good, other = desk.open(), desk.open(1)
    row = desk.claim(good, HCT)
    for signature in (
        desk.sign(other, HCT, account=payer),
        desk.sign(good, HCT),
        malleated(desk.sign(other, HCT)),
    ):
        with ape.reverts(channels.BadSignature, error_inputs={"channelId": desk.id(other)}):
            channels.settleBatch(payee, [row, desk.claim(other, HCT, signature)], sender=payee)
    with ape.reverts(channels.OverDeposit, error_inputs={"channelId": desk.id(other)}):
        channels.settleBatch(payee, [row, desk.claim(other, 11 * HCT)], sender=payee)
    assert desk.figures(good)[0] == 0


def test_a_row_pays_nobody_but_its_own_payee(
    channels: Contract, token: Contract, desk: Desk, stranger: Account
) -> None:
    channel = desk.open()
    receipt = channels.settleBatch(stranger, [desk.claim(channel, HCT)], sender=stranger)
    assert receipt.return_value == token.balanceOf(stranger) == 0
