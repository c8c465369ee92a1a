"""What `hc-provider` and `hc-verifier` share: making keys, staking, authorising the node key, and defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.market.money.units import format_hct, parse_hct
from hypercluster.node.cli.console import fail, out, password, print_json
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.lock import Hold, held, key_held
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

GAS_MONEY_WEI = 5 * 10**16

StakeOption = Annotated[
    str | None, typer.Option(help="HCT to stake; by default as much as the registry asks for.")
]


def make_keys(wanted: Sequence[Key], program: str, json_: bool) -> None:
    """Make the missing keys of this home and print the addresses of all of them."""
    settings = Settings()
    secret = password(settings, new=True)
    node, operator = keys.create_missing(settings.home, wanted, secret)
    if json_:
        print_json({"home": str(settings.home), "node": node, "operator": operator})
        return
    out.print(f"Keys are in {settings.home / 'keys'}.\nnode      {node}\noperator  {operator}")
    out.print("\nNext: send HCT to stake and some coin for gas to the operator")
    out.print(f"(on a local testnet: hc-testnet fund {operator}), then {program} register.")


def stake_and_authorise(stake: str | None) -> tuple[Chain, dict[str, str | int]]:
    """Stake, authorise the node key and send it coin for gas; returns the chain and what to print."""
    import coincurve

    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    amount = parse_hct(stake) if stake else chain.staking.minimum
    secret = password(settings)
    node = keys.unlock(settings.home, Key.NODE, secret)
    operator = Sender(chain, keys.unlock(settings.home, Key.OPERATOR, secret))
    held = chain.token.balance(operator.address)
    if held < amount:
        fail(
            f"the operator {operator.address} holds {format_hct(held)} HCT and {format_hct(amount)} are to be staked; "
            "send it HCT (on a local testnet: hc-testnet fund)."
        )
    if amount:
        chain.staking.stake(operator, amount)
    if chain.staking.operator_of(node.address) != operator.address:
        chain.staking.authorize(operator, coincurve.PrivateKey(bytes(node.key)))
    if chain.balance(node.address) < GAS_MONEY_WEI // 2:
        operator.transact("to send the node key coin for gas", node.address, "0x", GAS_MONEY_WEI)
    active = chain.staking.stake_of(operator.address).active
    return chain, {"operator": operator.address, "node": node.address, "active_wei": active}


@contextmanager
def node_held(home: Path, program: str) -> Iterator[None]:
    """Nothing else runs with the node key of `home` until the end of the block. Raises HomeInUse, KeystoreError."""
    address = keys.address(home, Key.NODE)
    with held(home, Hold.NODE, program), key_held(address, home, program):
        yield


def default_threads() -> int:
    """Half of the processors, which on most machines are the real cores."""
    return max(1, (os.cpu_count() or 2) // 2)
