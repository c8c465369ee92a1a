"""`hc-client policy`: what the wallet may spend, and how channels are filled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.console import Json, Shown, fail, show
from hypercluster.node.cli.options import hct
from hypercluster.node.cli.program import group
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.policy import (
    NONE,
    WalletPolicy,
    load_policy,
    policy_file,
    save_policy,
    write_value,
)
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings

app = group("See and change what the wallet may spend; a change counts from the next request on.")

PeriodName = Literal["day", "week", "month", "total"]
WORDS = {
    "per_request_wei": "one request at most, audits included",
    "per_day_wei": "all requests of a day (UTC)",
    "total_wei": "all requests ever",
    "ahead_wei": "unanswered steps of a request with guesses in flight",
    "per_key_wei": "a new API key without a budget of its own",
    "per_key_period": "for each",
    "float_wei": "deposited for a provider at a time",
    "top_up_below_wei": "filled up when less is left",
}


@app.command("show")
def show_(json_: Json = False) -> None:
    """Show the limits of the wallet, and what was spent.

    Example: [bold]hc-client policy show[/]

    They stand in policy.toml in HC_HOME, which can be edited as well.
    """
    _show(Settings(), json_)


@app.command("set")
def set_(
    per_request: Annotated[Any, hct("HCT for one request at most.", word=NONE)] = None,
    per_day: Annotated[Any, hct("HCT for all requests of a day (UTC).", word=NONE)] = None,
    total: Annotated[Any, hct("HCT for all requests ever.", word=NONE)] = None,
    ahead: Annotated[
        Any, hct("HCT that a request has signed for and unanswered, with guesses in flight.", word=NONE)
    ] = None,
    key_budget: Annotated[Any, hct("HCT for a new API key without a budget of its own.", word=NONE)] = None,
    key_period: Annotated[PeriodName | None, typer.Option(help="What that is for.")] = None,
    float_: Annotated[int | None, hct("HCT to deposit for a provider at a time.", "--float")] = None,
    top_up_below: Annotated[int | None, hct("HCT: a channel with less left is filled up.")] = None,
    json_: Json = False,
) -> None:
    """Change limits of the wallet; what is not named stays as it is.

    Example: [bold]hc-client policy set --per-day 5 --total none[/]
    """
    given = {
        "per_request_wei": per_request,
        "per_day_wei": per_day,
        "total_wei": total,
        "ahead_wei": ahead,
        "per_key_wei": key_budget,
        "per_key_period": None if key_period is None else Period(key_period),
        "float_wei": float_,
        "top_up_below_wei": top_up_below,
    }
    changes: dict[str, Any] = {
        name: None if value == NONE else value for name, value in given.items() if value is not None
    }
    if not changes:
        fail("nothing to change was named: see hc-client policy set --help.")
    settings = Settings()
    save_policy(settings.home, replace(load_policy(settings.home), **changes))
    _show(settings, json_)


def _show(settings: Settings, json_: bool) -> None:
    policy = load_policy(settings.home)
    file = policy_file(settings.home)
    with open_ledger(settings) as ledger:
        today = ledger.requests.spent_in(None, Period.DAY.start(datetime.now(UTC)))
        ever = ledger.requests.spent_in(None, None)
    document: dict[str, Any] = {
        **{each.name: getattr(policy, each.name) for each in fields(WalletPolicy)},
        "spent_today_wei": today,
        "spent_wei": ever,
        "file": str(file),
    }

    def view(_: object) -> Iterator[Shown]:
        table = Table("limit", "HCT", "spent")
        for name, words in WORDS.items():
            spent = {"per_day_wei": today, "total_wei": ever}.get(name)
            table.row(words, write_value(policy, name), "" if spent is None else round_hct(spent))
        yield table
        yield f"{file}{'' if file.exists() else ' is not there: these are the defaults'}"

    show(document, view, json_)
