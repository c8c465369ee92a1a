"""Whether a token can pay: tried with some of it, before anybody rests on it.

Channels and stakes keep one number for each account and no share of a whole. What takes a part of each transfer, or
changes balances by itself, would leave the last who withdraws with nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from hypercluster.market.chain.channels import Channels
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Sender
from hypercluster.market.chain.token import Token
from hypercluster.market.errors import ChainError, NodeUnreachable, UnusableToken
from hypercluster.market.money.signing import keccak
from hypercluster.market.money.units import UINT96_MAX, Unit, check_decimals
from hypercluster.market.money.voucher import ChannelDescriptor

ELASTIC = (
    "sharesOf(address)",
    "getTotalShares()",
    "scaledTotalSupply()",
    "scaledBalanceOf(address)",
    "gonsBalanceOf(address)",
    "rebasingCreditsPerToken()",
    "creditsBalanceOf(address)",
    "rebaseCount()",
)
"""views of tokens whose balances change by themselves, as those are called that are in use"""
LEAST_TRIAL = 10**5
"""wei of a trial: a fee of a ten-thousandth is still seen"""


def look_over(token: Token) -> Unit:
    """The unit of a token that could pay, as far as looking tells. Raises UnusableToken, InvalidAmount, ChainError."""
    place = token.address
    try:
        unit, supply = token.unit, token.supply()
    except NodeUnreachable:
        raise
    except ChainError:
        raise UnusableToken(f"There is no ERC-20 token at {place}: give the address of one.") from None
    check_decimals(unit.decimals)
    if supply > UINT96_MAX:
        raise UnusableToken(
            f"The token at {place} cannot pay: its supply does not fit the 96 bits of an amount here. Take another."
        )
    if told := next(_told(token.rpc, place), None):
        raise UnusableToken(
            f"The token at {place} cannot pay: it answers to {told}, as those do whose balances change by themselves, "
            "so that deposits would not stay what they are. Take another, or a wrapped form of it."
        )
    return unit


def try_out(token: Token, channels: Channels, sender: Sender) -> None:
    """Put some of a token into a channel to oneself, take it out again, and see that nothing is gone or added.

    Takes up to a whole token of the sender's for some blocks. Raises UnusableToken, InsufficientFunds, ChainError.
    """
    before, place = token.balance(sender.address), token.address
    amount = min(before, 10**token.decimals)
    if amount < LEAST_TRIAL:
        raise UnusableToken(
            f"{sender.address} holds {before} of the smallest parts of the token at {place}, too little to try out "
            f"whether it can pay: send it {LEAST_TRIAL} or more."
        )
    itself = sender.address
    channel = ChannelDescriptor(itself, itself, itself, secrets.token_bytes(32))
    channels.open(sender, channel, amount)
    arrived = token.balance(channels.address)
    if arrived != amount:
        raise _unlike(place, amount, arrived, "arrived")
    token.approve(sender, channels.address, 0)  # a block goes by
    if (kept := token.balance(channels.address)) != amount:
        raise _unlike(place, amount, kept, "are left a block later")
    channels.close(sender, channel)
    if (back := token.balance(itself) - before + amount) != amount:
        raise _unlike(place, amount, back, "came back")


def _unlike(place: str, amount: int, found: int, what: str) -> UnusableToken:
    return UnusableToken(
        f"The token at {place} cannot pay: of {amount} of its smallest parts, {found} {what}. It takes a part of "
        "what is sent, or its balances change by themselves; deposits would not be what they say. Take another."
    )


def _told(rpc: Rpc, place: str) -> Iterator[str]:
    """Names of the views of elastic tokens that this one answers to."""
    for view in ELASTIC:
        data = "0x" + (keccak(view.encode())[:4] + bytes(32)).hex()
        try:
            with rpc.clear_errors(f"to answer {view}"):
                answer = rpc.web3.eth.call({"to": rpc.web3.to_checksum_address(place), "data": data})  # type: ignore[typeddict-item]
        except NodeUnreachable:
            raise
        except ChainError:
            continue
        if len(answer) >= 32:
            yield view
