"""The stake of a node: `register`, `unstake`, `revoke` and `withdraw`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.console import Json, password, show
from hypercluster.node.cli.options import account, hct, whole
from hypercluster.node.cli.staking import ShareOption, StakeOption, make_keys, register_node
from hypercluster.node.home import keys
from hypercluster.node.home.further import MOST
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender


def init(
    shards: Annotated[
        int, whole("Shards to serve at once: each has a node key of its own.", least=1, most=MOST)
    ] = 1,
    json_: Json = False,
) -> None:
    """Make the node key and the operator key of this provider.

    Examples: [bold]HC_HOME=~/.hypercluster/p1 hc-provider init[/], [bold]hc-provider init --shards 2[/], also later

    The node key is hot: it names your node on the network and unlocks when it runs. The operator key holds your
    stake and receives your money; keep a copy of its file and of the password in a safe place.
    """
    make_keys(keys.PROVIDER, "hc-provider", json_, shards=shards)


def register(
    stake: StakeOption = None,
    share: ShareOption = None,
    sessions: Annotated[
        int | None, whole("Have a share that carries so many sessions.", least=1, most=256)
    ] = None,
    json_: Json = False,
) -> None:
    """Stake and authorise the node key, in three transactions of the operator.

    Examples: [bold]hc-provider register --stake 1000[/], [bold]hc-provider register --sessions 32[/]

    The third sends the node key a little coin, with which it pays the gas of its claims. Each node key has a share of
    the operator's stake, of which no HCT counts twice: it says how many sessions the node may offer, and who gets a
    place in full order books. Run it again to add what is missing, or to change the share.
    """
    if share is not None and sessions is not None:
        raise typer.BadParameter("it says what --sessions says, too: give one of them.", param_hint="--share")
    register_node(stake, "may serve. Next: hc-provider run.", json_, share=share, sessions=sessions)


def unstake(
    amount: Annotated[Any, hct("To take out of the stake.", least=1, word="all", argument=True)],
    json_: Json = False,
) -> None:
    """Begin to take stake out; it thaws for the unbonding time, can still be slashed, and is withdrawn then."""
    chain, operator = _operator()
    wei = chain.staking.stake_of(operator.address).active if isinstance(amount, str) else amount
    chain.staking.unstake(operator, wei)
    _show_stake(chain, operator.address, json_)


def revoke(
    node: Annotated[
        str | None,
        account("Another node key of the same operator, say a lost one. Default: that of this home."),
    ] = None,
    json_: Json = False,
) -> None:
    """End the work of a node key and free its share of the stake. What it signed before still counts."""
    chain, operator = _operator()
    node = node or keys.address(Settings().home, Key.NODE)
    freed = chain.staking.share_of(node)
    chain.staking.revoke(operator, node)
    show(
        {"node": node, "operator": operator.address, "revoked": True, "freed_wei": freed},
        lambda done: (
            f"{done['node']} serves no more for {done['operator']}, and {round_hct(freed)} HCT of the stake are free "
            "for other node keys; hc-provider register undoes it."
        ),
        json_,
    )


def withdraw(json_: Json = False) -> None:
    """Take thawed stake back to the operator account."""
    chain, operator = _operator()
    chain.staking.withdraw(operator)
    _show_stake(chain, operator.address, json_)


def _operator() -> tuple[Chain, Sender]:
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    return chain, Sender(chain, keys.unlock(settings.home, Key.OPERATOR, password(settings)))


def _show_stake(chain: Chain, operator: str, json_: bool) -> None:
    stake = chain.staking.stake_of(operator)
    document = {
        "active_wei": stake.active,
        "thawing_wei": stake.thawing,
        "thaw_end": stake.thaw_end,
        "committed_wei": chain.staking.committed_by(operator),
    }
    show(document, _stake, json_)


def _stake(found: dict[str, Any]) -> list[str]:
    lines = [f"{round_hct(found['active_wei'])} HCT at stake, {round_hct(found['thawing_wei'])} HCT thawing"]
    if found["thawing_wei"]:
        lines.append(f"withdraw it from {datetime.fromtimestamp(found['thaw_end'], UTC).isoformat()} on")
    if found["active_wei"] < found["committed_wei"]:
        lines.append(
            f"{round_hct(found['committed_wei'])} HCT are tied to node keys: behind each stands "
            f"{found['active_wei'] / found['committed_wei']:.0%} of its share. hc-provider register adds what is "
            "missing; register --share, or revoke, says with how much less a node shall do."
        )
    return lines
