"""What an `hc-client` believes of providers and why, and what it can do about it on chain."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hypercluster.market.money.units import format_hct, round_hct
from hypercluster.node.cli.console import Json, err, fail, say, show
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.ledger import AuditRecord, ReputationEvent, Standing

LEVEL = 0.9
FORMAT = 1
COLOURS = {"pass": "green", "fail": "bold red"}


def reputation(
    peer: Annotated[
        str | None, typer.Argument(help="Peer id or a part of one: shows the evidence as well.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="JSON file to write: all reputations with all their evidence.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show what this client believes of the providers that it has used, and what the belief rests on.

    Example: [bold]hc-client reputation[/]

    Example: [bold]hc-client reputation --export reputations.json[/]

    Reliability is the mean of a Beta distribution that begins at 9 to 1 and forgets half of its evidence in a week;
    the interval holds 90 % of it. Providers below 50 % are on no path; docs/verification.md describes the file.
    """
    now = datetime.now(UTC)
    with open_ledger(Settings()) as ledger:
        found = [
            each
            for each in ledger.trust.reputations(now).values()
            if peer is None or _part(peer) in each.peer
        ]
        if peer is not None and not found:
            fail(f"there is no evidence on a peer like {peer}; hc-client reputation lists all.")
        detailed = peer is not None or export is not None
        events = {each.peer: ledger.trust.events(each.peer, limit=None) for each in found if detailed}
    data = [_standing_json(each, events.get(each.peer)) for each in found]
    if export is not None:
        _export(export, now, data)
        if not json_:
            say(f"wrote {len(data)} reputations to {export}")
            return

    def view(_: list[dict[str, Any]]) -> Iterator[Table]:
        yield _standings_table(found)
        if peer is not None:
            for each in found:
                yield _events_table(each.peer, events[each.peer])

    show(data, view, json_)


def audits(
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest ones.")] = 50,
    json_: Json = False,
) -> None:
    """List the audits of this client, the newest first: whose stage, who looked, and what was found.

    Example: [bold]hc-client audits --limit 10[/]

    Errors are relative to the auditor's own outputs; agreement is the share of candidates that it has as well.
    """
    with open_ledger(Settings()) as ledger:
        rows = ledger.trust.audits(limit=limit)
    show([_audit_json(row) for row in rows], lambda _: _audits_table(rows), json_)


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
    from hypercluster.node.client.auditing.accuser import Reporter, Ruling
    from hypercluster.node.client.auditing.assembly import client_transcripts
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
    from hypercluster.market.trust.reputation import HALF_LIFE, MOST_GOOD, PRIOR_BAD, PRIOR_GOOD

    document = {
        "format": FORMAT,
        "at": now.isoformat(),
        "prior": {"good": PRIOR_GOOD, "bad": PRIOR_BAD},
        "half_life_s": HALF_LIFE.total_seconds(),
        "most_good": MOST_GOOD,
        "reputations": data,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.")


def _standing_json(standing: Standing, events: list[ReputationEvent] | None) -> dict[str, Any]:
    believed = standing.reputation
    data: dict[str, Any] = {
        "peer": standing.peer,
        "operator": standing.operator,
        "reliability": believed.reliability,
        "interval": list(believed.credible_interval(LEVEL)),
        "level": LEVEL,
        "risk": believed.risk,
        "distrusted": believed.distrusted,
        "good": believed.good,
        "bad": believed.bad,
        "last": standing.last.isoformat(),
    }
    if events is not None:
        data["events"] = [
            {
                "kind": event.kind,
                "operator": event.operator,
                "good": event.good,
                "bad": event.bad,
                "note": event.note,
                "at": event.at.isoformat(),
            }
            for event in events
        ]
    return data


def _audit_json(row: AuditRecord) -> dict[str, Any]:
    return {
        "audit": row.audit_id,
        "at": row.at.isoformat(),
        "stage": row.stage_hash.hex(),
        "session": row.session.hex(),
        "peer": row.peer,
        "operator": row.operator,
        "model": row.model_id,
        "layers": [row.layer_start, row.layer_stop],
        "tokens": row.tokens,
        "generated": row.generated,
        "auditor": row.auditor,
        "finding": row.finding,
        "median_error": row.median_error,
        "max_error": row.max_error,
        "agreement": row.agreement,
        "exact": row.exact,
        "cost_wei": row.cost,
        "fingerprint": row.fingerprint.hex(),
        "case": row.case_id,
        "note": row.note,
    }


def _audits_table(rows: Sequence[AuditRecord]) -> Table:
    table = Table(
        *("at", "peer", "layers", "tokens", "finding", "auditor", "errors", "cost HCT", "case", "note")
    )
    for row in rows:
        table.row(
            _moment(row.at),
            row.peer,
            f"{row.layer_start}:{row.layer_stop}",
            str(row.tokens),
            Text(row.finding, COLOURS.get(row.finding, "yellow")),
            row.auditor,
            "none" if row.exact else _errors(row),
            format_hct(row.cost),
            "" if row.case_id is None else str(row.case_id),
            row.note,
        )
    return table


def _standings_table(standings: list[Standing]) -> Table:
    table = Table(
        *("peer", "operator", "reliability", f"{LEVEL:.0%} interval", "good", "bad", "last evidence")
    )
    for each in sorted(standings, key=lambda each: each.reputation.reliability, reverse=True):
        believed = each.reputation
        low, high = believed.credible_interval(LEVEL)
        table.row(
            each.peer,
            each.operator,
            f"{believed.reliability:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{believed.good:.2f}",
            f"{believed.bad:.2f}",
            _moment(each.last),
            style="bold red" if believed.distrusted else "",
        )
    return table


def _events_table(peer: str, events: list[ReputationEvent]) -> Table:
    table = Table("at", "evidence", "good", "bad", "note", title=peer)
    for event in events:
        table.row(
            _moment(event.at),
            event.kind.replace("_", " "),
            f"{event.good:g}",
            f"{event.bad:g}",
            event.note,
        )
    return table


def _errors(row: AuditRecord) -> str:
    if row.median_error is None or row.max_error is None or row.agreement is None:
        return ""
    return f"{row.median_error:.1e}, most {row.max_error:.1e}, agree {row.agreement:.0%}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
