"""How `hc-client` shows what it believes of providers: documents for programs, tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.tables import Table

if TYPE_CHECKING:
    from hypercluster.market.ledger import AuditRecord, ReputationEvent
    from hypercluster.market.trust.standing import Standing

LEVEL = 0.9
COLOURS = {"pass": "green", "fail": "bold red"}


def standing_json(standing: Standing, events: list[ReputationEvent] | None) -> dict[str, Any]:
    """What is believed of an operator and of each of its nodes, with the evidence if it is given."""
    believed = standing.reputation
    data: dict[str, Any] = {
        "operator": standing.operator,
        "reliability": believed.reliability,
        "interval": list(believed.credible_interval(LEVEL)),
        "level": LEVEL,
        "distrusted": believed.distrusted,
        "good": believed.good,
        "bad": believed.bad,
        "heard": believed.heard,
        "nodes": [
            {
                "peer": peer,
                "availability": node.availability,
                "answered": node.answered,
                "failed": node.failed,
                "risk": node.risk,
            }
            for peer, node in standing.nodes.items()
        ],
        "last": standing.last.isoformat(),
    }
    if events is not None:
        data["events"] = [
            {"kind": event.kind, "peer": event.peer, "note": event.note, "at": event.at.isoformat()}
            for event in events
        ]
    return data


def audit_json(row: AuditRecord) -> dict[str, Any]:
    """One audit; amounts in wei."""
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


def standings_table(standings: Iterable[Standing]) -> Table:
    """A row for each node, those of the most reliable operators first."""
    table = Table(
        "operator", "peer", "reliability", f"{LEVEL:.0%} interval", "answers", "heard", "last evidence"
    )
    for each in sorted(standings, key=lambda each: each.reputation.reliability, reverse=True):
        believed = each.reputation
        low, high = believed.credible_interval(LEVEL)
        for peer, node in each.nodes.items() or [("", believed)]:
            table.row(
                "" if each.operator == peer else each.operator,
                peer,
                f"{believed.reliability:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{node.availability:.1%}",
                f"{believed.heard:.2f}" if believed.heard else "",
                _moment(each.last),
                style="bold red" if believed.distrusted else "yellow" if node.silent else "",
            )
    return table


def events_table(operator: str, events: Iterable[ReputationEvent]) -> Table:
    """The evidence on one operator."""
    table = Table("at", "evidence", "peer", "note", title=operator)
    for event in events:
        table.row(_moment(event.at), event.kind.replace("_", " "), event.peer, event.note)
    return table


def audits_table(rows: Iterable[AuditRecord]) -> Table:
    """Audits with what was found."""
    table = Table(
        "at", "peer", "layers", "tokens", "finding", "auditor", "errors", "cost HCT", "case", "note"
    )
    for row in rows:
        table.row(
            _moment(row.at),
            row.peer,
            f"{row.layer_start}:{row.layer_stop}",
            str(row.tokens),
            Text(row.finding, style=COLOURS.get(row.finding, "yellow")),
            row.auditor,
            "none" if row.exact else _errors(row),
            round_hct(row.cost),
            "" if row.case_id is None else str(row.case_id),
            row.note,
        )
    return table


def _errors(row: AuditRecord) -> str:
    if row.median_error is None or row.max_error is None or row.agreement is None:
        return ""
    return f"{row.median_error:.1e}, most {row.max_error:.1e}, agree {row.agreement:.0%}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
