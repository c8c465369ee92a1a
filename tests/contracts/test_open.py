from typing import Any

import ape
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from hypercluster.market.money.signing import NOBODY
from tests.contracts.conftest import HCT, Desk, events
from tests.contracts.kinds import Account, Chain, Contract, Deploy, Sleep
from tests.contracts.signing import sign_permit

DEADLINE = 2**40
MAX = 2**96 - 1


def permit(token: Contract, channels: Contract, owner: Account, value: int, deadline: int = DEADLINE) -> Any:
    """Permit arguments as the contract takes them: deadline, v, r, s."""
    v, r, s = sign_permit(
        owner.private_key,
        token.address,
        owner.address,
        channels.address,
        value,
        token.nonces(owner),
        deadline,
    )
    return deadline, v, r.to_bytes(32), s.to_bytes(32)


def test_open_locks_the_deposit(
    channels: Contract, token: Contract, desk: Desk, payer: Account, payee: Account, signer: Account
) -> None:
    held = token.balanceOf(payer)
    channel = desk.descriptor()
    receipt = channels.open(payee, signer, channel[3], 3 * HCT, sender=payer)
    assert receipt.return_value == desk.id(channel)
    assert desk.figures(channel) == (0, 3 * HCT, 0, 1)
    assert token.balanceOf(channels) == 3 * HCT
    assert token.balanceOf(payer) == held - 3 * HCT
    opened, transfer = events(receipt)
    assert opened == (
        "Opened",
        {
            "channelId": desk.id(channel),
            "payer": payer.address,
            "payee": payee.address,
            "signer": signer.address,
            "salt": channel[3],
            "deposit": 3 * HCT,
        },
    )
    assert transfer[0] == "Transfer"


def test_the_id_binds_descriptor_contract_and_chain(channels: Contract, desk: Desk, chain: Chain) -> None:
    channel = desk.descriptor(5)
    types = ["address", "address", "address", "bytes32", "address", "uint256"]
    assert desk.id(channel) == keccak(encode(types, [*channel, channels.address, chain.chain_id]))


def test_an_address_with_dirty_upper_bits_names_no_channel(
    channels: Contract, desk: Desk, chain: Chain, payer: Account
) -> None:
    channel = desk.open()
    words = [bytes(12) + bytes.fromhex(address[2:]) for address in channel[:3]]
    dirty = b"\1" + words[0][1:]
    for method in (channels.requestClose, channels.withdraw, channels.settle):
        selector = bytes(method.encode_input(channel, *([1, b""] if method is channels.settle else [])))
        assert selector[4:36] == words[0]
        with ape.reverts():
            payer.transfer(channels, 0, data=selector[:4] + dirty + selector[36:])


@pytest.mark.parametrize("missing", ["payee", "signer"])
def test_open_refuses_the_zero_address(
    channels: Contract, payer: Account, payee: Account, signer: Account, missing: str
) -> None:
    accounts = {"payee": payee, "signer": signer, missing: NOBODY}
    with ape.reverts(channels.ZeroAddress):
        channels.open(accounts["payee"], accounts["signer"], bytes(32), 1, sender=payer)


def test_open_refuses_an_empty_deposit(
    channels: Contract, payer: Account, payee: Account, signer: Account
) -> None:
    with ape.reverts(channels.ZeroAmount):
        channels.open(payee, signer, bytes(32), 0, sender=payer)


def test_open_refuses_an_id_in_use(channels: Contract, desk: Desk) -> None:
    channel = desk.open()
    with ape.reverts(channels.ChannelExists, error_inputs={"channelId": desk.id(channel)}):
        desk.open()


def test_open_needs_allowance_and_balance(
    channels: Contract, token: Contract, payee: Account, signer: Account, stranger: Account
) -> None:
    with ape.reverts(token.ERC20InsufficientAllowance):
        channels.open(payee, signer, bytes(32), 1, sender=stranger)
    token.approve(channels, 1, sender=stranger)
    with ape.reverts(token.ERC20InsufficientBalance):
        channels.open(payee, signer, bytes(32), 1, sender=stranger)


def test_constructors_refuse_no_token(deploy: Deploy) -> None:
    for name, arguments in (("PaymentChannels", (3600,)), ("StakingRegistry", (1, 1, 1))):
        with pytest.raises(ape.exceptions.ContractLogicError):
            deploy(name, NOBODY, *arguments)


def test_open_many_takes_one_transfer(
    channels: Contract, token: Contract, desk: Desk, payer: Account
) -> None:
    openings = [(*desk.descriptor(salt)[1:], (salt + 1) * HCT) for salt in range(3)]
    receipt = channels.openMany(openings, sender=payer)
    assert [name for name, _ in events(receipt)] == ["Opened"] * 3 + ["Transfer"]
    assert list(receipt.return_value) == [desk.id(desk.descriptor(salt)) for salt in range(3)]
    assert [desk.figures(desk.descriptor(salt))[1] for salt in range(3)] == [HCT, 2 * HCT, 3 * HCT]
    assert token.balanceOf(channels) == 6 * HCT


def test_open_many_is_all_or_nothing(channels: Contract, token: Contract, desk: Desk, payer: Account) -> None:
    opening = (*desk.descriptor()[1:], HCT)
    with ape.reverts(channels.ChannelExists):
        channels.openMany([opening, opening], sender=payer)
    with ape.reverts(channels.ZeroAmount):
        channels.openMany([opening, (*desk.descriptor(1)[1:], 0)], sender=payer)
    with ape.reverts(channels.ZeroAddress):
        channels.openMany([opening, (NOBODY, *desk.descriptor(1)[2:], 1)], sender=payer)
    with ape.reverts(token.ERC20InsufficientBalance):  # the sum exceeds 96 bits and does not wrap
        channels.openMany([(*desk.descriptor(salt)[1:], MAX) for salt in range(2)], sender=payer)
    assert desk.figures(desk.descriptor()) == (0, 0, 0, 0)
    assert channels.openMany([], sender=payer).return_value == []


def test_top_up_adds_and_cancels_a_close(
    channels: Contract, token: Contract, desk: Desk, payer: Account
) -> None:
    channel = desk.open(deposit=HCT)
    channels.requestClose(channel, sender=payer)
    receipt = channels.topUp(channel, 2 * HCT, sender=payer)
    assert events(receipt)[0] == ("ToppedUp", {"channelId": desk.id(channel), "deposit": 3 * HCT})
    assert desk.figures(channel) == (0, 3 * HCT, 0, 1)
    assert token.balanceOf(channels) == 3 * HCT
    with ape.reverts(channels.CloseNotRequested):
        channels.withdraw(channel, sender=payer)


def test_top_up_saves_a_channel_whose_close_is_due(
    channels: Contract, desk: Desk, payer: Account, payee: Account, sleep: Sleep
) -> None:
    channel = desk.open(deposit=HCT)
    channels.requestClose(channel, sender=payer)
    sleep(7200)
    channels.topUp(channel, HCT, sender=payer)
    channels.settle(channel, 2 * HCT, desk.voucher(channel, 2 * HCT), sender=payee)
    assert desk.figures(channel) == (2 * HCT, 2 * HCT, 0, 1)


def test_top_up_keeps_what_was_settled(
    channels: Contract, desk: Desk, payer: Account, payee: Account
) -> None:
    channel = desk.open(deposit=HCT)
    channels.settle(channel, HCT, desk.voucher(channel, HCT), sender=payee)
    channels.topUp(channel, HCT, sender=payer)
    assert desk.figures(channel) == (HCT, 2 * HCT, 0, 1)


def test_top_up_refuses(
    channels: Contract, token: Contract, desk: Desk, payer: Account, payee: Account, stranger: Account
) -> None:
    channel = desk.open()
    for sender in (payee, stranger):
        with ape.reverts(channels.NotPayer):
            channels.topUp(channel, 1, sender=sender)
    with ape.reverts(channels.ZeroAmount):
        channels.topUp(channel, 0, sender=payer)
    with ape.reverts(channels.ChannelNotOpen):
        channels.topUp(desk.descriptor(1), 1, sender=payer)
    with ape.reverts(token.ERC20InsufficientBalance):
        channels.topUp(channel, 20_000 * HCT, sender=payer)
    with pytest.raises(ape.exceptions.VirtualMachineError, match="0x11"):
        channels.topUp(channel, MAX, sender=payer)
    assert desk.figures(channel) == (0, 10 * HCT, 0, 1)


def test_permits_stand_in_for_an_allowance(
    channels: Contract, token: Contract, desk: Desk, payer: Account
) -> None:
    token.approve(channels, 0, sender=payer)
    first, *others = (desk.descriptor(salt)[1:] for salt in range(3))
    channels.openWithPermit(*first, HCT, *permit(token, channels, payer, HCT), sender=payer)
    openings = [(*other, HCT) for other in others]
    channels.openManyWithPermit(openings, *permit(token, channels, payer, 2 * HCT), sender=payer)
    channels.topUpWithPermit(desk.descriptor(), HCT, *permit(token, channels, payer, HCT), sender=payer)
    assert token.balanceOf(channels) == 4 * HCT
    assert token.allowance(payer, channels) == 0


def test_a_permit_that_somebody_else_submitted_does_no_harm(
    channels: Contract, token: Contract, desk: Desk, payer: Account, stranger: Account
) -> None:
    token.approve(channels, 0, sender=payer)
    signature = permit(token, channels, payer, HCT)
    token.permit(payer, channels, HCT, *signature, sender=stranger)
    channels.openWithPermit(*desk.descriptor()[1:], HCT, *signature, sender=payer)
    assert desk.figures(desk.descriptor())[1] == HCT


def test_a_bad_permit_leaves_it_to_the_allowance(
    channels: Contract, token: Contract, desk: Desk, payer: Account, stranger: Account
) -> None:
    signature = permit(token, channels, stranger, HCT)
    token.approve(channels, HCT, sender=payer)
    channels.openWithPermit(*desk.descriptor()[1:], HCT, *signature, sender=payer)
    with ape.reverts(token.ERC20InsufficientAllowance):
        channels.openWithPermit(*desk.descriptor(1)[1:], HCT, *signature, sender=payer)
    with ape.reverts(token.ERC20InsufficientAllowance):
        channels.topUpWithPermit(
            desk.descriptor(), HCT, *permit(token, channels, payer, HCT, 1), sender=payer
        )
