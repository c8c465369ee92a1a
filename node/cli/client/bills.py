"""What a completion and its audits came to, as documents for programs and as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from hypercluster.market.money.units import counted, round_coin, round_hct

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.events import SparesChanged
    from hypercluster.node.client.payer import Funding

COLOURS = {"pass": "green", "grey": "yellow", "fail": "bold red"}


def report_line(report: Report) -> Text:
    """One audit in one line."""
    ruling = report.ruling
    slashed = f"; {ruling.outcome}, {round_hct(ruling.slashed_wei)} HCT slashed" if ruling else ""
    layers = f"{report.layer_start}:{report.layer_stop}"
    rest = f" {report.peer} layers {layers}, {report.tokens} tokens, {report.note}{slashed}"
    return Text.assemble((f"audit: {report.finding}", COLOURS.get(report.finding, "yellow")), rest)


def report_json(report: Report) -> dict[str, Any]:
    """One audit for programs."""
    ruling = report.ruling
    return {
        "peer": report.peer,
        "layers": [report.layer_start, report.layer_stop],
        "tokens": report.tokens,
        "finding": report.finding,
        "fault": report.fault or None,
        "auditor": report.auditor or None,
        "cost_wei": report.cost_wei,
        "note": report.note,
        "case": ruling.case_id if ruling else None,
        "outcome": ruling.outcome if ruling else None,
        "slashed_wei": ruling.slashed_wei if ruling else 0,
    }


def completion_json(completion: Completion, gas_wei: int) -> dict[str, Any]:
    """A completion for programs; `gas_wei` is what its channels and those of its audits took of the chain's coin."""
    bill = completion.bill
    return {
        "text": completion.text,
        "tokens": completion.tokens,
        "prompt_tokens": len(completion.prompt),
        "cached_tokens": completion.cached,
        "finish_reason": completion.finish,
        "seed": completion.seed,
        "drafted": completion.drafted,
        "draft_held": completion.draft_held,
        "path": [
            {
                "peer": hop.peer,
                "layers": [hop.layer_start, hop.layer_stop],
                "price_wei": hop.price_wei,
                "prompt_price_wei": hop.prompt_price_wei,
                "tokens": hop.tokens,
                "paid_wei": hop.paid_wei,
                "risked_wei": hop.risked_wei,
                "stood_by": hop.stood_by,
            }
            for hop in bill.hops
        ],
        "failed": completion.failures,
        "spent_wei": bill.spent_wei,
        "risked_wei": bill.risked_wei,
        "channels": [
            {
                "operator": deposit.recipient.operator,
                "deposited_wei": deposit.wei,
                "opened": deposit.opens,
            }
            for funding in bill.fundings
            for deposit in funding.deposits
        ],
        "deposited_wei": bill.deposited_wei,
        "gas_wei": gas_wei,
        "audits": [report_json(report) for report in completion.reports],
        "audit_wei": completion.audit_wei,
        "doubtful": completion.doubtful,
    }


def spares_line(event: SparesChanged) -> str:
    """Who stands by, in a sentence or two."""
    if event.peers:
        who = f"{counted(len(event.peers), 'provider')} stand{'s' if len(event.peers) == 1 else ''} by"
    else:
        who = "Nobody stands by"
    left = ", ".join(f"{start}:{stop}" for start, stop in event.without) if event.peers else ""
    line = f"{who}, nobody for layers {left}." if left else f"{who}."
    return f"{event.reason} {line}" if event.reason else line


def planned_line(planned: Funding) -> str:
    """What the wallet is about to send, in one sentence."""
    opened = [deposit for deposit in planned.deposits if deposit.opens]
    more = [deposit for deposit in planned.deposits if not deposit.opens]
    parts = []
    for deposits, verb in ((opened, "opens"), (more, "tops up")):
        if deposits:
            channels = counted(len(deposits), "channel")
            to = ", ".join(f"{round_hct(each.wei)} HCT for {each.recipient.operator}" for each in deposits)
            parts.append(f"{verb} {channels} with {to}")
    return (
        f"The wallet {' and '.join(parts)}; that takes about {round_coin(planned.gas_wei)} coin of gas. "
        "What is not spent of a deposit comes back with hc-client close."
    )


def bill_line(completion: Completion) -> str:
    """What was generated and what it cost, in one line."""
    bill = completion.bill
    providers = len({hop.peer for hop in bill.hops})
    parts = [
        f"{counted(len(completion.tokens), 'token')} ({completion.finish}), {round_hct(bill.spent_wei)} HCT "
        f"to {counted(providers, 'provider')}"
    ]
    if bill.risked_wei:
        parts.append(f"up to {round_hct(bill.risked_wei)} HCT more for steps that were not answered")
    if bill.fundings:
        parts.append(
            f"{round_hct(bill.deposited_wei)} HCT moved into channels for {round_coin(bill.gas_wei)} coin of gas"
        )
    if completion.seed is not None:
        parts.append(f"seed {completion.seed}")
    return "; ".join(parts)


def audits_line(completion: Completion, gas_wei: int) -> str:
    """What the audits cost, in one line; `gas_wei` is what their channels took."""
    count = len(completion.reports)
    gas = f", and {round_coin(gas_wei)} coin of gas" if gas_wei else ""
    return f"{counted(count, 'audit')}, {round_hct(completion.audit_wei)} HCT to auditors{gas}"
