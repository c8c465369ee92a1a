"""`hc-gateway keys`: the API keys of a gateway, and what each may spend."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hypercluster.market.money.units import format_hct, round_hct
from hypercluster.node.cli.console import Json, Shown, show
from hypercluster.node.cli.options import hct, prose, real, whole
from hypercluster.node.cli.program import group
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.ledger import ApiKeyRow, Ledger

app = group("Make, list and revoke API keys; changes count within a second, also while the gateway runs.")

PeriodName = Literal["day", "week", "month", "total"]


@app.command()
def create(
    name: Annotated[str, prose("What the key is for, for people.", argument=True)],
    budget: Annotated[
        Any,
        hct(
            "HCT that may be spent with it in each period; none leaves only the wallet's own limits. Default: as the "
            "policy has it for new keys, at first 1.",
            word="none",
        ),
    ] = None,
    period: Annotated[
        PeriodName | None,
        typer.Option(
            help="What the budget is for: calendar days, weeks or months in UTC, or all time. Default: as the policy "
            "has it for new keys, at first a day.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Model that it is for; may be given several times. Default: all."),
    ] = None,
    rpm: Annotated[int | None, whole("Requests a minute at most.", least=1, most=1_000_000)] = None,
    expires: Annotated[
        float | None,
        real("Days from now, after which it is of no use.", least=1e-4, most=36_500, metavar="DAYS"),
    ] = None,
    json_: Json = False,
) -> None:
    """Make a key and show it, once.

    Example: [bold]hc-gateway keys create opencode --budget 0.5 --period week[/]

    Only its SHA-256 is kept. Without --budget a key has the budget that the wallet's policy gives to new keys.
    """
    from hypercluster.market.money.budget import Period

    settings = Settings()
    limit, for_ = _budget(settings, budget, period)
    until = None if expires is None else datetime.now(UTC) + timedelta(days=expires)
    with open_ledger(settings) as ledger:
        row, text = ledger.api_keys.create(
            name, budget=limit, period=Period(for_), models=tuple(model or ()), rpm=rpm, expires=until
        )
        document = {"key": text} | key_document(row, ledger)

    def view(made: dict[str, Any]) -> Iterator[Shown]:
        yield text
        yield f"Key {made['name']} ({made['key_id']}): {_bounds(made)}. It is shown this once: keep it now."

    show(document, view, json_)


@app.command("list")
def list_(
    revoked: Annotated[bool, typer.Option("--all", help="Also those that were revoked.")] = False,
    json_: Json = False,
) -> None:
    """List the keys with their budgets and what was spent with them."""
    with open_ledger(Settings()) as ledger:
        found = [key_document(row, ledger) for row in ledger.api_keys.list(revoked=revoked)]

    def view(keys: list[dict[str, Any]]) -> Shown:
        if not keys:
            return "There are no keys: make one with hc-gateway keys create."
        table = Table(
            "id",
            "name",
            "begins",
            "budget HCT",
            "spent HCT",
            "models",
            "a minute",
            "until",
            "last used",
            "state",
        )
        for each in keys:
            limit = each["budget_wei"]
            table.row(
                each["key_id"],
                each["name"],
                each["prefix"],
                "none"
                if limit is None
                else f"{format_hct(limit)} a {each['period']}".replace(" a total", ""),
                round_hct(each["spent_wei"]),
                ", ".join(each["models"]) or "all",
                str(each["rpm"] or "-"),
                each["expires"] or "-",
                each["last_used"] or "-",
                each["state"],
            )
        return table

    show(found, view, json_)


@app.command()
def revoke(key: Annotated[str, prose("Id or name of the key.", argument=True)], json_: Json = False) -> None:
    """End a key; what runs with it ends at its next token, and is paid up to there."""
    with open_ledger(Settings()) as ledger:
        row = ledger.api_keys.revoke(key)
        document = key_document(row, ledger)
    show(document, lambda done: f"The key {done['name']} ({done['key_id']}) is revoked.", json_)


def key_document(row: ApiKeyRow, ledger: Ledger) -> dict[str, Any]:
    """A key as JSON has it; `spent_wei` is that of its current period."""
    from hypercluster.market.money.budget import Period

    now = datetime.now(UTC)
    refusal = row.refusal(now)
    return {
        "key_id": row.key_id,
        "name": row.name,
        "prefix": row.prefix,
        "budget_wei": row.budget,
        "period": row.period,
        "spent_wei": ledger.requests.spent_in(row.key_id, Period(row.period).start(now)),
        "models": row.models,
        "rpm": row.rpm,
        "expires": _moment(row.expires),
        "created": _moment(row.created),
        "last_used": _moment(row.last_used),
        "state": "counts" if not refusal else "revoked" if row.revoked else "expired",
    }


def _budget(settings: Settings, budget: int | str | None, period: str | None) -> tuple[int | None, str]:
    """The limit in wei and its period; the wallet's policy says what nobody else does. Raises BadPolicy."""
    from hypercluster.node.home.policy import load_policy

    policy = load_policy(settings.home)
    if budget is None:
        return policy.per_key_wei, period or policy.per_key_period.value
    return (None if isinstance(budget, str) else budget), period or policy.per_key_period.value


def _bounds(made: dict[str, Any]) -> str:
    limit = made["budget_wei"]
    said = [
        "no budget of its own"
        if limit is None
        else f"{format_hct(limit)} HCT" + ("" if made["period"] == "total" else f" a {made['period']}")
    ]
    said += [f"for {', '.join(made['models'])}"] if made["models"] else []
    said += [f"{made['rpm']} requests a minute"] if made["rpm"] else []
    said += [f"until {made['expires']}"] if made["expires"] else []
    return ", ".join(said)


def _moment(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds") if at else None
