"""Claiming what is due from disputes, for `hc-client rewards` and `hc-verifier rewards`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.console import password, show
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings


def claim_rewards(key: Key, json_: bool) -> None:
    """Take what is due to the account of a key and can be claimed by now, and print both that and what must wait."""
    from hypercluster.market.chain import Sender
    from hypercluster.market.chain.dues import claim, dues_of

    settings = Settings()
    chain = open_chain(settings)
    account = keys.address(settings.home, key)
    dues = dues_of(chain, account)
    if any(due.ripe for due in dues):
        claim(chain, Sender(chain, keys.unlock(settings.home, key, password(settings))), dues)
    document: dict[str, Any] = {"account": account}
    for due in dues:
        document[due.name] = {"wei": due.amount, "claimable_at": due.claimable_at, "claimed": due.ripe}
    show(document, _view, json_)


def _view(document: dict[str, Any]) -> Iterator[str]:
    yield document["account"]
    for name in ("rewards", "credits"):
        due = document[name]
        amount = f"{round_hct(due['wei'])} HCT"
        if not due["wei"]:
            yield f"{name}: none"
        elif due["claimed"]:
            yield f"{name}: claimed {amount}"
        else:
            when = datetime.fromtimestamp(due["claimable_at"], UTC).isoformat()
            yield f"{name}: {amount}, to be claimed from {when} on"
