"""What only this network has to say of an answer: the object "hypercluster" beside what every API has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypercluster.node.client.bookkeeping import billed_entry
from hypercluster.node.gateway.errors import api_error_of

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.traffic.answer import Answer


def known_path(path: Path) -> list[dict[str, Any]]:
    """The hops that sessions are opened over; prices in wei per token, as texts."""
    return [
        {
            "peer": node.id,
            "layers": [node.start, node.stop],
            "price_wei": str(node.price_wei),
            "prompt_price_wei": str(node.prompt_price_wei),
        }
        for node in path.nodes
    ]


def facts_of(answer: Answer, asked: int | None, *, stopping: bool = False) -> dict[str, Any]:
    """What came of one choice. All amounts in wei, as texts.

    "finish" is the reason in this network's own words: stop, length (as many tokens as `asked`), context (as many as
    the path holds), cost, failed where other choices of the call came ("error" says of what), or shutdown where the
    gateway was `stopping`. "path" has every session, those that were
    replaced included, with what it was paid.
    """
    done = answer.completion
    bill = done.bill
    finish: str = done.finish
    if stopping and finish == "cancelled":
        finish = "shutdown"
    elif finish == "length" and (asked is None or len(done.tokens) < asked):
        finish = "context"
    return {
        "request_id": answer.request_id,
        "model_id": answer.model.model_id,
        "finish": finish,
        **({} if done.error is None else {"error": str(api_error_of(done.error))}),
        "path": [billed_entry(hop) for hop in bill.hops],
        "cost_wei": str(bill.spent_wei),
        "risked_wei": str(bill.risked_wei),
        "deposited_wei": str(bill.deposited_wei),
        "gas_wei": str(bill.gas_wei),
        "seed": done.seed,
        "replaced": len(done.failures),
        "cut_short": done.cut_short,
        "doubtful": done.doubtful,
    }
