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
    paid: dict[str, int] = {}
    if any(due.ripe for due in dues):
        paid = claim(chain, Sender(chain, keys.unlock(settings.home, key, password(settings))), dues)
        dues = dues_of(chain, account)
    document: dict[str, Any] = {"account": account}
    for due in dues:
        document[due.name] = {
            "claimed_wei": paid.get(due.name, 0),
            "waiting_wei": due.owed.amount,
            "claimable_at": due.owed.claimable_at or None,
        }
    show(document, _view, json_)


def _view(document: dict[str, Any]) -> Iterator[str]:
    yield document["account"]
    for name in ("rewards", "credits"):
        due = document[name]
        if due["claimed_wei"]:
            yield f"{name}: claimed {round_hct(due['claimed_wei'])} HCT"
        if due["waiting_wei"]:
            when = datetime.fromtimestamp(due["claimable_at"], UTC).isoformat()
            yield f"{name}: {round_hct(due['waiting_wei'])} HCT wait, and can be claimed from {when} on"
        if not (due["claimed_wei"] or due["waiting_wei"]):
            yield f"{name}: none"
