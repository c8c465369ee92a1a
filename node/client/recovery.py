"""The wallet of a home: what a process that was killed had spent comes first, then there is one to pay with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import coincurve

from hypercluster.market.ledger import Outcome
from hypercluster.market.money.signing import NOBODY
from hypercluster.market.money.units import counted, format_hct
from hypercluster.node.client.journal import Journal, Recovered
from hypercluster.node.client.limits import AUDITS, HomeLimits
from hypercluster.node.client.payer import Payer
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import VOUCHERS

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.ledger import Ledger
    from hypercluster.node.client.purse import Purse
    from hypercluster.node.home.settings import Settings

log = logging.getLogger(__name__)

WHY_INTERRUPTED = "The program ended before this request did."


@dataclass(frozen=True, slots=True)
class Recovery:
    """Requests that a process had open when it was killed, and what they had spent and risked, in wei."""

    requests: int = 0
    cost_wei: int = 0
    risked_wei: int = 0


@dataclass(frozen=True, slots=True)
class Wallet:
    """Who pays, and the ledger in which that is written down."""

    payer: Payer
    ledger: Ledger


@contextmanager
def opened_wallet(settings: Settings, chain: Chain, purse: Purse) -> Iterator[Wallet]:
    """Who pays from `purse`, within the policy of its home; a purse without a wallet can only look around.

    Whoever opens it holds the wallet of the home meanwhile (node.home.lock).

    Raises:
        BadPolicy: the policy file is wrong. JournalInUse: another process pays from this home.
        LedgerError: the ledger cannot be opened.
    """
    session_key = coincurve.PrivateKey(purse.session_key)
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(settings))
        limits = journal = None
        if purse.wallet != NOBODY:
            journal = Journal(settings.home / VOUCHERS)
            stack.callback(journal.close)
            found = recover(ledger, journal)
            if found.requests:
                log.warning(
                    "the last run was interrupted in %s that had cost %s HCT and risked %s HCT",
                    counted(found.requests, "request"),
                    format_hct(found.cost_wei),
                    format_hct(found.risked_wei),
                )
            kept = timedelta(seconds=chain.disputes.terms.longest_seconds)
            ledger.requests.give_up_audits(datetime.now(UTC) - kept)
            # Only now: what was recovered counts against the limits.
            limits = HomeLimits(settings.home, ledger)
        payer = Payer(
            chain=chain,
            payer=purse.wallet,
            wallet=purse.unlock,
            session_key=session_key,
            ledger=ledger,
            limits=limits,
            journal=journal,
        )
        yield Wallet(payer, ledger)


def recover(ledger: Ledger, journal: Journal) -> Recovery:
    """Bring the ledger to where the process was that wrote `journal`, and begin that anew.

    Every channel gets back what was signed and spent. Each request that had not ended was interrupted: it cost what
    was answered, and risked what was signed for and never answered. Doing it twice changes nothing.

    Raises:
        LedgerError: the ledger cannot be read or written; the journal stays as it is.
    """
    state = journal.state
    for channel_id, (signed, spent) in state.channels.items():
        row = ledger.payer.channel(channel_id)
        if row is not None:
            ledger.payer.store(channel_id, signed, max(row.spent, spent))
    interrupted = [found for each in state.requests if (found := _take_up(ledger, state, each))]
    journal.clear()
    return Recovery(
        len(interrupted), sum(cost for cost, _ in interrupted), sum(risked for _, risked in interrupted)
    )


def _take_up(ledger: Ledger, state: Recovered, request_id: str) -> tuple[int, int] | None:
    """Write down what a request had spent; returns its cost and risk if it had not ended."""
    spent_on = state.requests[request_id]
    cost = sum(each.answered for each in spent_on.values())
    risked = sum(each.signed for each in spent_on.values()) - cost
    covered = sum(each.covered for each in spent_on.values())
    detail = ledger.requests.one(request_id.removesuffix(AUDITS))
    if detail is None:
        return None
    if request_id.endswith(AUDITS):
        row = detail.row
        # What its own sessions risked stands with them, so that doing this again adds nothing.
        at_risk = risked + sum(int(hop["risked_wei"]) for hop in row.path)
        ledger.requests.update(
            row.request_id,
            audit_cost=max(row.audit_cost, cost),
            risked=max(row.risked, at_risk),
            covered=max(row.covered, covered),
        )
        return None  # those that are open are a watch's to finish
    if detail.row.ended is not None:
        return None
    path = []
    now, left = datetime.now(UTC), dict(spent_on)
    for hop in reversed(
        detail.hops
    ):  # what a channel carried beyond what is written down is of its last session
        of = left.pop(hop.channel_id, None)
        if of is not None:
            others = [each for each in detail.hops if each is not hop and each.channel_id == hop.channel_id]
            hop.billed = max(0, of.answered - sum(each.billed for each in others))
        hop.ended, hop.outcome = now, "interrupted"
        path.append(
            {
                "peer": hop.peer,
                "layers": [hop.layer_start, hop.layer_stop],
                "price_wei": str(hop.price_wei),
                "prompt_price_wei": str(hop.prompt_price_wei),
                "tokens": hop.prompt_tokens + hop.tokens,
                "cost_wei": str(hop.billed),
                "risked_wei": str(of.signed - of.answered if of else 0),
                "ms": None,
                "session": hop.session_id.hex(),
                "channel": hop.channel_id.hex(),
            }
        )
    ledger.history.save_sessions(detail.hops)
    ledger.requests.finish(
        request_id,
        Outcome.INTERRUPTED,
        cost=cost,
        risked=risked,
        covered=covered,
        path=path[::-1],
        error=WHY_INTERRUPTED,
        ended=now,
    )
    return cost, risked
