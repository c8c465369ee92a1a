"""`hc-provider status` and `prices`: how the node stands, and how its price moved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hypercluster.market.money.units import counted, round_coin, round_hct, round_price
from hypercluster.node.cli.console import Json, Shown, show
from hypercluster.node.cli.options import whole
from hypercluster.node.cli.provider.claims import outlook_document, rule_of
from hypercluster.node.cli.tables import Table
from hypercluster.node.home import keys
from hypercluster.node.home.further import further_homes
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.running import running_node
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain


def status(json_: Json = False) -> None:
    """Show stake, authorisation, whether the node runs, and what is unclaimed."""
    from hypercluster.node.serving.books import books_of, outlook_of

    settings = Settings()
    chain = open_chain(settings)
    operator, node = (keys.address(settings.home, key) for key in (Key.OPERATOR, Key.NODE))
    stake = chain.staking.stake_of(operator)
    (backing,) = chain.staking.backings([(node, operator)])
    with open_ledger(settings) as ledger:
        books = books_of(ledger, chain)
    running = running_node(settings.home)
    document: dict[str, Any] = {
        "operator": operator,
        "node": node,
        "running": running.document() if running else None,
        "eligible": backing > 0,
        "backing_wei": backing,
        "carries": backing // chain.staking.session_stake,
        "active_wei": stake.active,
        "thawing_wei": stake.thawing,
        "thaw_end": stake.thaw_end,
        "committed_wei": chain.staking.committed_by(operator),
        "balance_wei": chain.token.balance(operator),
        "unclaimed_wei": books.unclaimed_wei,
        "claim": outlook_document(outlook_of(books, chain, rule_of(settings))),
        "node_gas_wei": chain.balance(node),
    }
    document["further"] = [_further(each, chain, operator) for each in further_homes(settings.home)]
    show(document, _status, json_)


def _further(home: Path, chain: Chain, operator: str) -> dict[str, Any]:
    """How the node of a further shard stands."""
    from hypercluster.node.serving.books import books_of

    node = keys.address(home, Key.NODE)
    (backing,) = chain.staking.backings([(node, operator)])
    running = running_node(home)
    with open_ledger(Settings(home=home, ledger_url=None)) as ledger:
        unclaimed = books_of(ledger, chain).unclaimed_wei
    return {
        "home": str(home),
        "node": node,
        "running": running.document() if running else None,
        "backing_wei": backing,
        "carries": backing // chain.staking.session_stake,
        "unclaimed_wei": unclaimed,
    }


def _status(found: dict[str, Any]) -> Iterator[Shown]:
    table = Table()
    for name, value in running_rows(found["running"]):
        table.row(name, value)
    table.row("may serve", "yes" if found["eligible"] else "no: run hc-provider register")
    table.row("operator", found["operator"])
    table.row("node", found["node"])
    table.row("behind this node", carried_text(found["backing_wei"], found["carries"]))
    for name in ("active", "thawing", "balance", "unclaimed"):
        table.row(name, f"{round_hct(found[f'{name}_wei'])} HCT")
    if found["claim"]["channels"]:
        gas = f"{round_hct(found['claim']['gas_wei'])} HCT of gas"
        table.row("to claim it", f"{gas}; {found['claim']['why']}")
    table.row("node's coin for gas", round_coin(found["node_gas_wei"]))
    if found["thaw_end"]:
        table.row("thaws", datetime.fromtimestamp(found["thaw_end"], UTC).isoformat())
    yield table
    for each in found["further"]:
        table = Table()
        table.row("further shard", each["home"])
        for name, value in running_rows(each["running"]):
            table.row(name, value)
        table.row("node", each["node"])
        table.row("behind this node", carried_text(each["backing_wei"], each["carries"]))
        table.row("unclaimed", f"{round_hct(each['unclaimed_wei'])} HCT")
        yield table


def carried_text(backing_wei: int, sessions: int) -> str:
    """How much stake is behind a node, and what that carries."""
    return f"{round_hct(backing_wei)} HCT of the stake, for {counted(sessions, 'session')}"


def running_rows(running: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What to show of a node that runs, or does not."""
    if not running:
        yield "running", "no"
        return
    yield "running", f"yes, pid {running['pid']}, peer {running['peer']}"
    if running["layers"]:
        start, stop = running["layers"]
        yield "serves", f"layers {start}:{stop}, sessions of up to {running['session_tokens']} tokens"
    if running["computes"]:
        yield "computes with", ", ".join(_computing(running["computes"]))
    for address in running["addresses"]:
        yield "address", address
    for notice in running["notices"]:
        yield "network", notice


def _computing(told: dict[str, Any]) -> Iterator[str]:
    """What a node computes with, a phrase each."""
    yield " + ".join(told.get("accelerators", ["the processor"]))
    if "gpu_layers" in told:
        yield f"{counted(told['gpu_layers'], 'layer')} on the card"
    if "tensor_split" in told:
        yield f"shared {':'.join(f'{share:g}' for share in told['tensor_split'])}"
    if "driver" in told:
        yield f"driver {told['driver']}"
    yield f"{told['kv']} cache"
    if told["flash_attention"]:
        yield "flash attention"


def prices(
    limit: Annotated[int, whole("Updates to show.", least=1)] = 20,
    json_: Json = False,
) -> None:
    """Show how the price moved, and why: what each update saw and the step it took."""
    with open_ledger(Settings()) as ledger:
        rows = ledger.history.prices(limit=limit)
    document = [
        {
            "at": row.taken.isoformat(timespec="seconds"),
            "model_id": row.model_id,
            "layers": [row.layer_start, row.layer_stop],
            "price_wei": row.price_before,
            "next_price_wei": row.price_after,
            "gradient": row.gradient,
            "probability": row.probability,
            **row.inputs,
        }
        for row in rows
    ]
    show(document, _prices, json_)


def _prices(rows: list[dict[str, Any]]) -> Iterator[Shown]:
    table = Table("at (UTC)", "layers", "HCT/M", "->", "chance", "gradient", "rivals", "best response")
    for each in rows:
        table.row(
            each["at"][:19],
            f"{each['layers'][0]}:{each['layers'][1]}",
            round_price(each["price_wei"]),
            round_price(each["next_price_wei"]),
            f"{each['probability']:.1%}",
            f"{each['gradient']:+.4f}",
            str(each["rivals"]),
            round_price(each["best_response_wei"]),
        )
    yield table
