"""What the chain says: that it answers, that the contracts are what they should be, and what the accounts hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hypercluster.market.money.units import counted, format_hct, round_coin, round_hct
from hypercluster.node.cli.doctor.findings import Finding, ill, odd, well
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.home.settings import Settings

OLD_SECONDS = 600.0


def answers(chain: Chain) -> Iterator[Finding]:
    """Which chain it is, and how its newest block and this clock agree."""
    from hypercluster.node.network.adverts import CLOCK_SKEW

    yield well("chain", f"chain {chain.chain_id} at {chain.place}, block {chain.block_number()}")
    ahead = chain.timestamp() - time.time()
    if ahead > CLOCK_SKEW:
        yield ill(
            "clock",
            f"The newest block is dated {ahead:.0f} s in this machine's future.",
            "set the clock (timedatectl set-ntp true), or ask another node of the chain.",
        )
    elif ahead < -OLD_SECONDS:
        yield odd(
            "blocks",
            f"The newest block is {-ahead / 60:.0f} minutes old.",
            "fine on a test chain that has nothing to do; else ask another node of the chain.",
        )


def contracts(chain: Chain) -> Iterator[Finding]:
    """That there are contracts, that they name each other, and that nobody else may take stake."""
    from hypercluster.market.chain.checking import contradictions

    wrong = [*contradictions(chain)]
    for each in wrong:
        yield ill("contracts", each, "take the deployment file or the profile from somebody you trust.")
    if not wrong:
        yield well("contracts", f"all six are there and name each other, token {chain.deployment.token}")
        called, told = chain.token.symbol, chain.deployment.symbol
        if called != told:  # some change their name while they live: nothing stops for it
            yield odd(
                "token",
                f"The token is called {called} on the chain, and {told} in the deployment or profile.",
                "compare its address with what you mean to pay in.",
            )


def wallet(settings: Settings, chain: Chain) -> Iterator[Finding]:
    """What a client can spend."""
    address = keys.address(settings.home, Key.WALLET)
    held, coin = chain.token.balance(address), chain.balance(address)
    fund = "hc-testnet fund on a local network, else send some"
    if held:
        yield well("HCT", f"{round_hct(held)} HCT on {address}")
    else:
        yield odd("HCT", f"{address} holds no HCT beside its channels.", f"{fund} HCT to {address}")
    if coin:
        yield well("coin for gas", round_coin(coin))
    else:
        yield ill("coin for gas", f"{address} holds none: no channel can be opened.", f"{fund} to {address}")


def stake(settings: Settings, chain: Chain, program: str) -> Iterator[Finding]:
    """That the operator backs the node key, and that this can pay its own transactions."""
    from hypercluster.node.serving.registration import GAS_MONEY_WEI

    operator, node = (keys.address(settings.home, key) for key in (Key.OPERATOR, Key.NODE))
    staking = chain.staking
    active, backing = staking.stake_of(operator).active, staking.backing_of(node)
    if chain.staking.operator_of(node) != operator:
        yield ill(
            "registration", f"{operator} does not answer for the node key {node}.", f"{program} register"
        )
    elif not staking.is_eligible(node):
        yield ill(
            "stake",
            f"{round_hct(backing)} of {round_hct(active)} HCT that are staked stand behind this node, too little: "
            f"{format_hct(staking.minimum)} HCT have to be tied to it, and {format_hct(staking.floor)} to be left.",
            f"{program} register",
        )
    else:
        carried = counted(backing // staking.session_stake, "session")
        room = round_hct(backing - staking.floor)
        yield well(
            "stake",
            f"{round_hct(backing)} HCT of {operator} stand behind this node, for {carried}; it may lose {room} more",
        )
    coin = chain.balance(node)
    if coin < GAS_MONEY_WEI // 4:
        yield odd(
            "coin for gas",
            f"The node key {node} holds {round_coin(coin)}: claims and disputes need it.",
            f"{program} register",
        )
    else:
        yield well("coin for gas", f"{round_coin(coin)} on the node key")
