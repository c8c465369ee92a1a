"""`hc-provider earnings` and `claim`: what clients paid, what it costs to fetch it, and why it waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.money.claiming import ClaimRule, Outlook
from hypercluster.market.money.units import counted, round_coin, round_hct
from hypercluster.node.cli.console import Json, Shown, fail, password, show
from hypercluster.node.cli.options import whole
from hypercluster.node.cli.serving import wallets_of
from hypercluster.node.cli.tables import Table
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.last_run import remembered
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.ledger import IncomingChannel

Rate = Annotated[
    int | None, whole("What one coin of the chain is worth in HCT. Default: as the last run was told.")
]


def earnings(hct_per_coin: Rate = None, json_: Json = False) -> None:
    """Show what each channel paid: earned by vouchers, claimed on chain, still to claim, and why that waits."""
    from hypercluster.node.serving.books import books_of, outlook_of

    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        books = books_of(ledger, chain)
    outlook = outlook_of(books, chain, rule_of(settings, hct_per_coin))
    document = {
        "channels": [_channel(row) for row in books.here],
        "claim": outlook_document(outlook),
        "elsewhere": [_channel(row) for row in books.elsewhere],
    }
    show(document, _earnings, json_)


def claim(
    force: Annotated[
        bool, typer.Option("--force", help="Also when the gas is worth more than what it brings.")
    ] = False,
    hct_per_coin: Rate = None,
    json_: Json = False,
) -> None:
    """Send every voucher to the chain now, without waiting until they are worth many times their gas.

    A running node claims by itself in time, and when a client asks to close its channel. What would cost more gas
    than it brings is refused without --force.
    """
    from hypercluster.node.serving.books import LosingClaim, books_of, claim_all, outlook_of

    settings = Settings()
    chain = open_chain(settings)
    rule = rule_of(settings, hct_per_coin)
    with open_ledger(settings) as ledger:
        books = books_of(ledger, chain)
        outlook = outlook_of(books, chain, rule)
        if not outlook.channels:
            show(_claimed(0, 0, 0, rule), _claim, json_)
            return
        node = keys.unlock(settings.home, Key.NODE, password(settings))
        wallets = wallets_of(settings.home, chain, node)
        try:
            done = claim_all(ledger, chain, wallets.sender, books.unclaimed, outlook, force=force)
        except LosingClaim:
            fail(
                f"claiming {round_hct(outlook.owed_wei)} HCT would take {gas_text(outlook)} of gas: "
                f"{why(outlook)}. --force claims all the same.",
                {"claim": outlook_document(outlook)},
            )
    show(_claimed(done.received_wei, done.channels, done.gas_coin_wei, rule), _claim, json_)


def rule_of(settings: Settings, hct_per_coin: int | None = None) -> ClaimRule:
    """When the node of this home claims by itself, or would at another rate."""
    rule = remembered(settings.home).claim
    return rule if hct_per_coin is None else ClaimRule(hct_per_coin=hct_per_coin, multiple=rule.multiple)


def outlook_document(outlook: Outlook) -> dict[str, Any]:
    """What is owed, what fetching it costs, and whether it waits, as plain data."""
    return {
        "owed_wei": outlook.owed_wei,
        "channels": outlook.channels,
        "gas_coin_wei": outlook.gas_coin_wei,
        "gas_wei": outlook.gas_wei,
        "net_wei": outlook.net_wei,
        "hct_per_coin": outlook.rule.hct_per_coin,
        "multiple": outlook.rule.multiple,
        "due": outlook.due,
        "why": why(outlook),
    }


def gas_text(outlook: Outlook) -> str:
    """The gas, in coin and in HCT."""
    return f"{round_coin(outlook.gas_coin_wei)} coin, worth {round_hct(outlook.gas_wei)} HCT,"


def why(outlook: Outlook) -> str:
    """When the money comes, as the end of a sentence."""
    if not outlook.channels:
        return "there is nothing to claim"
    if outlook.due:
        return "a running node claims it by itself at its next look"
    least = outlook.rule.multiple * outlook.gas_wei
    return f"a running node waits until about {round_hct(least)} HCT are owed, {outlook.rule.multiple} times the gas"


def _earnings(found: dict[str, Any]) -> Iterator[Shown]:
    table = Table(
        "channel", "payer", *(f"{name} HCT" for name in ("earned", "claimed", "unclaimed")), "state"
    )
    for each in found["channels"]:
        amounts = (round_hct(each[f"{name}_wei"]) for name in ("earned", "claimed", "unclaimed"))
        table.row(each["channel"], each["payer"], *amounts, each["state"])
    yield table
    total = sum(each["earned_wei"] for each in found["channels"])
    yield f"earned {round_hct(total)} HCT in {counted(len(found['channels']), 'channel')}"
    outlook = found["claim"]
    if outlook["channels"]:
        yield (
            f"unclaimed {round_hct(outlook['owed_wei'])} HCT; claiming it takes "
            f"{round_coin(outlook['gas_coin_wei'])} coin of gas, worth {round_hct(outlook['gas_wei'])} HCT, "
            f"net {round_hct(outlook['net_wei'])} HCT: {outlook['why']}"
        )
    if lost := found["elsewhere"]:
        owed = sum(each["unclaimed_wei"] for each in lost)
        yield (
            f"not counted: {counted(len(lost), 'channel')} of another chain, or of one that was reset, "
            f"with {round_hct(owed)} HCT that were never claimed there"
        )


def _channel(row: IncomingChannel) -> dict[str, Any]:
    return {
        "channel": "0x" + row.channel_id.hex(),
        "payer": row.payer,
        "earned_wei": row.best,
        "claimed_wei": row.settled,
        "unclaimed_wei": row.unclaimed,
        "deposit_wei": row.deposit,
        "state": "ended" if row.ended else "closing" if row.close_at else "open",
        "contract": row.contract,
        "chain_id": row.chain_id,
    }


def _claimed(received: int, channels: int, gas_coin: int, rule: ClaimRule) -> dict[str, Any]:
    gas = rule.worth(gas_coin)
    return {
        "claimed_wei": received,
        "channels": channels,
        "gas_coin_wei": gas_coin,
        "gas_wei": gas,
        "net_wei": received - gas,
    }


def _claim(done: dict[str, Any]) -> str:
    if not done["channels"]:
        return "there is nothing to claim"
    return (
        f"claimed {round_hct(done['claimed_wei'])} HCT from {counted(done['channels'], 'channel')} "
        f"for {round_coin(done['gas_coin_wei'])} coin of gas, worth {round_hct(done['gas_wei'])} HCT: "
        f"net {round_hct(done['net_wei'])} HCT"
    )
