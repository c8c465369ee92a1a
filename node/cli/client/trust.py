"""What an `hc-client` believes of providers and why, and what it can do about it on chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.client.trust_views import (
    audit_json,
    audits_table,
    events_table,
    standing_json,
    standings_table,
)
from hypercluster.node.cli.console import Json, Shown, err, fail, show
from hypercluster.node.cli.options import whole
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings

FORMAT = 2


def reputation(
    who: Annotated[
        str | None,
        typer.Argument(help="Operator or peer id, or a part of one: shows the evidence as well."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="JSON file to write: all reputations with all their evidence.")
    ] = None,
    forgive: Annotated[
        bool, typer.Option("--forgive", help="Forget all evidence on that operator, lies as well.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show what this client believes of the operators whose nodes it has used, and what the belief rests on.

    Example: [bold]hc-client reputation[/]

    Example: [bold]hc-client reputation --export reputations.json[/]

    Reliability is the mean of a Beta distribution that begins at 9 to 1; the interval holds 90 % of it. Answers says
    how likely a node is to answer at all. Operators below 50 % reliability are on no path. Most evidence is forgotten
    in time, a lie never; docs/verification.md describes the file.
    """
    now = datetime.now(UTC)
    with open_ledger(Settings()) as ledger:
        found = [
            each
            for each in ledger.trust.standings(now).values()
            if who is None or any(_part(who) in name for name in (each.operator, *each.nodes))
        ]
        if who is not None and not found:
            fail(f"there is no evidence on an operator or peer like {who}; hc-client reputation lists all.")
        if forgive and (who is None or len(found) != 1):
            fail(f"name one operator to forgive: {len(found)} fit.")
        detailed = who is not None or export is not None
        events = {
            each.operator: ledger.trust.events(operator=each.operator, limit=None)
            for each in found
            if detailed
        }
        if forgive:
            ledger.trust.forgive(found[0].operator)
    data = [standing_json(each, events.get(each.operator)) for each in found]
    if export is not None:
        _export(export, now, data)

    def view(_: object) -> Iterator[Shown]:
        if export is not None:
            yield f"wrote {len(data)} reputations to {export}"
            return
        if forgive:
            yield f"all evidence on {found[0].operator} is forgotten"
            return
        yield standings_table(found)
        if who is not None:
            yield from (events_table(each.operator, events[each.operator]) for each in found)

    show(data, view, json_)


def audits(
    limit: Annotated[int, whole("How many of the latest ones.", least=1)] = 50,
    json_: Json = False,
) -> None:
    """List the audits of this client, the newest first: whose stage, who looked, and what was found.

    Example: [bold]hc-client audits --limit 10[/]

    Errors are relative to the auditor's own outputs; agreement is the share of candidates that it has as well.
    """
    with open_ledger(Settings()) as ledger:
        rows = ledger.trust.audits(limit=limit)
    show([audit_json(row) for row in rows], lambda _: audits_table(rows), json_)


def rewards(json_: Json = False) -> None:
    """Claim the rewards for faults that this client proved. They wait an unbonding time."""
    from hypercluster.node.cli.rewards import claim_rewards
    from hypercluster.node.home.keys import Key

    claim_rewards(Key.WALLET, json_)


def demand(
    peer: Annotated[str, typer.Argument(help="Provider, by its peer id or a part of it.")],
    json_: Json = False,
) -> None:
    """Make a provider show on chain what its latest receipt to this client stands for, or lose stake.

    Example: [bold]hc-client demand tdQw3f[/]

    For a provider that does not show its steps when it is asked. The wallet puts down a small bond, which the
    provider gets if it shows the row in time. This waits until it does, or until its time is over.
    """
    import trio

    from hypercluster.node.cli.console import password
    from hypercluster.node.client.auditing.assembly import client_transcripts
    from hypercluster.node.client.auditing.reporter import Reporter, Ruling
    from hypercluster.node.client.purse import purse_of
    from hypercluster.node.home.resources import open_chain

    part = _part(peer)
    settings = Settings()
    chain = open_chain(settings)
    store = client_transcripts(settings, chain)
    transcript = store.latest(lambda record: part in record.peer)
    if transcript is None:
        fail(f"there is no transcript of a provider like {peer} any more: only recent ones are kept.")
    purse = purse_of(settings.home, chain, password(settings))
    reporter = Reporter(chain=chain, sender=purse.unlock)

    async def work() -> Ruling:
        return await reporter.demand(transcript, output=True, row=0)

    with err.status("Waiting for the provider to show the row"):
        ruling = trio.run(work)
    data = {"peer": transcript.record.peer, "outcome": ruling.outcome, "slashed_wei": ruling.slashed_wei}
    show(data, lambda _: f"{ruling.outcome}; {round_hct(ruling.slashed_wei)} HCT slashed", json_)


def _part(peer: str) -> str:
    """What is given of a peer id, without the mark of what was left out. Raises Failed."""
    part = peer.strip().lstrip("…")
    if not part:
        fail(f"{peer!r} names no peer: give its id or a part of it.")
    return part


def _export(path: Path, now: datetime, data: list[dict[str, Any]]) -> None:
    from hypercluster.market.trust.reputation import MOST_GOOD, PRIOR_BAD, PRIOR_GOOD, Evidence

    document = {
        "format": FORMAT,
        "at": now.isoformat(),
        "prior": {"good": PRIOR_GOOD, "bad": PRIOR_BAD},
        "most_good": MOST_GOOD,
        "kinds": {
            kind.value: {
                "half_life_s": kind.half_life and kind.half_life.total_seconds(),
                "honesty": kind.honesty,
                "availability": kind.availability,
            }
            for kind in Evidence
        },
        "reputations": data,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.")
