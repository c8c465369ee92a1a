"""What is due from disputes: rewards for proven faults, and credits from lost bonds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypercluster.market.money.units import format_hct
from hypercluster.node.cli.console import out, password, print_json
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Reward
    from hypercluster.market.chain.disputes import Credit


def claim_rewards(key: Key, json_: bool) -> None:
    """Take what is due to the account of a key and can be claimed by now, and print both that and what must wait."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    account = keys.address(settings.home, key)
    # An idle chain's latest block is old; the next one will have the time of the clock.
    now = max(chain.timestamp(), int(time.time()))
    due: dict[str, Reward | Credit] = {
        "rewards": chain.staking.reward_of(account),
        "credits": chain.disputes.credit_of(account),
    }
    ripe = [name for name, each in due.items() if each.amount and each.claimable_at <= now]
    if ripe:
        sender = Sender(chain, keys.unlock(settings.home, key, password(settings)))
        if "rewards" in ripe:
            chain.staking.claim_rewards(sender)
        if "credits" in ripe:
            chain.disputes.claim_credits(sender)
    data: dict[str, Any] = {
        name: {
            "wei": each.amount,
            "claimable_at": each.claimable_at if each.amount else None,
            "claimed": name in ripe,
        }
        for name, each in due.items()
    }
    if json_:
        print_json({"account": account, **data})
        return
    out.print(account)
    for name, each in due.items():
        if not each.amount:
            out.print(f"{name}: none")
        elif name in ripe:
            out.print(f"{name}: claimed {format_hct(each.amount)} HCT")
        else:
            when = datetime.fromtimestamp(each.claimable_at, UTC).isoformat()
            out.print(f"{name}: {format_hct(each.amount)} HCT, to be claimed from {when} on")
