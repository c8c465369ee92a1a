"""How a verifier stands: `status`, `cases`, `rewards` and `delist`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.console import Json, Shown, password, show
from hypercluster.node.cli.provider.claims import outlook_document, rule_of
from hypercluster.node.cli.provider.standing import running_rows
from hypercluster.node.cli.tables import Table
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.running import running_node
from hypercluster.node.home.settings import Settings


def status(json_: Json = False) -> None:
    """Show stake, whether the verifier runs and is enlisted, and what it has earned."""
    from hypercluster.node.serving.books import books_of, outlook_of

    settings = Settings()
    chain = open_chain(settings)
    node, operator = keys.address(settings.home, Key.NODE), keys.address(settings.home, Key.OPERATOR)
    stake = chain.staking.stake_of(operator)
    (backing,) = chain.staking.backings([(node, operator)])
    running = running_node(settings.home)
    with open_ledger(settings) as ledger:
        books = books_of(ledger, chain)
    document = {
        "node": node,
        "operator": operator,
        "active_wei": stake.active,
        "thawing_wei": stake.thawing,
        "backing_wei": backing,
        "enlisted": chain.disputes.cases.is_enlisted(node),
        "credits_wei": chain.disputes.cases.credit_of(operator).amount,
        "unclaimed_wei": books.unclaimed_wei,
        "claim": outlook_document(outlook_of(books, chain, rule_of(settings))),
        "balance_wei": chain.token.balance(operator),
        "running": running.document() if running else None,
    }
    show(document, _status, json_)


def _status(found: dict[str, Any]) -> Iterator[Shown]:
    table = Table()
    for name, value in running_rows(found["running"]):
        table.row(name, value)
    table.row("node", found["node"])
    table.row("operator", found["operator"])
    table.row("stake", f"{round_hct(found['active_wei'])} HCT, {round_hct(found['thawing_wei'])} thawing")
    table.row("behind this node", f"{round_hct(found['backing_wei'])} HCT of the stake")
    table.row("enlisted for committees", "yes" if found["enlisted"] else "no")
    table.row("vouchers not claimed yet", f"{round_hct(found['unclaimed_wei'])} HCT")
    if found["claim"]["channels"]:
        gas = f"{round_hct(found['claim']['gas_wei'])} HCT of gas"
        table.row("to claim them", f"{gas}; {found['claim']['why']}")
    yield table


def cases(json_: Json = False) -> None:
    """List the cases that this verifier sat on: its vote, and where each stands."""
    from hypercluster.market.chain.disputes import Vote

    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        duties = ledger.trust.duties(chain.disputes.cases.address, chain.chain_id, open_only=False)
    document = []
    for duty in duties:
        case = chain.disputes.cases.state(duty.case_id)
        document.append(
            {
                "case": duty.case_id,
                "accused": duty.node,
                "phase": duty.phase,
                "vote": Vote(duty.vote).name.lower() if duty.vote is not None else None,
                "outcome": case.outcome.name.lower() if case.outcome else None,
            }
        )
    show(document, _cases, json_)


def _cases(rows: list[dict[str, Any]]) -> Iterator[Shown]:
    table = Table("case", "accused", "we have", "our vote", "outcome")
    for row in rows:
        table.row(*(str(value if value is not None else "-") for value in row.values()))
    yield table


def rewards(json_: Json = False) -> None:
    """Claim what this verifier's votes have earned: rewards for convictions, and shares of lost bonds.

    Both wait an unbonding time. Vouchers of clients are claimed by `run`, or by hc-provider claim in this home.
    """
    from hypercluster.node.cli.rewards import claim_rewards

    claim_rewards(Key.OPERATOR, json_)


def delist(json_: Json = False) -> None:
    """Leave the list that committees are drawn from; seats already drawn must still be served."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    node = keys.unlock(settings.home, Key.NODE, password(settings))
    chain.disputes.cases.delist(Sender(chain, node), node.address)
    show(
        {"node": node.address, "enlisted": False},
        lambda done: (
            f"{done['node']} is drawn no more. To get the stake back: hc-provider unstake in this home."
        ),
        json_,
    )
