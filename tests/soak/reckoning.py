"""After the storm: whether the books of all agree with the chain and with each other, to the wei, and all is whole."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypercluster.market.chain import Chain
from hypercluster.market.chain.disputes import (
    CaseOpened,
    CaseResolved,
    ContradictionProven,
    DisputeEvent,
    EquivocationProven,
    Outcome,
    Withheld,
)
from hypercluster.market.chain.events import Opened
from hypercluster.market.errors import MarketError
from hypercluster.market.ledger import Ledger
from hypercluster.market.ledger import Outcome as Ending
from hypercluster.market.ledger.requests import Which
from hypercluster.market.ledger.tables import IncomingChannel, OutgoingChannel
from hypercluster.market.trust.reputation import Reputation
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.testnet.localnet import STAKE
from tests.soak.town import Resident, Town

DEBRIS = (".part", ".tmp", ".new")


@dataclass
class Reckoning:
    """What was found: figures, and a sentence for everything that is not as it should be."""

    figures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def check(self, right: bool, sentence: str) -> None:
        """Note what is wrong."""
        if not right:
            self.wrong.append(sentence)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {"figures": dict(self.figures), "wrong": self.wrong}


def reckon(town: Town) -> Reckoning:
    """Look at everything. All programs have ended, the chain has not."""
    found = Reckoning()
    chain = town.network.chain
    _channels(found, town, chain)
    for each in town.of("client", "gateway"):
        _requests(found, each)
    _transcripts(found, town, chain)
    _judgements(found, town, chain)
    _reputations(found, town)
    for each in town.residents:
        _whole(found, each)
    return found


def _ledger(resident: Resident) -> Ledger:
    return Ledger(f"sqlite:///{resident.home / 'ledger.sqlite'}")


def _channels(found: Reckoning, town: Town, chain: Chain) -> None:
    """Payer's ledger, payee's ledger and chain of every channel there is."""
    paid: dict[bytes, OutgoingChannel] = {}
    for payer in town.of("client", "gateway"):
        with _ledger(payer) as ledger:
            paid |= {row.channel_id: row for row in ledger.payer.channels()}
    earned: dict[bytes, IncomingChannel] = {}
    opened: set[bytes] = set()
    honest = {each.operator for each in town.of("provider", "verifier") if each.honest}
    for payee in town.of("provider", "verifier"):
        with _ledger(payee) as ledger:
            earned |= {row.channel_id: row for row in ledger.payee.channels()}
        events, _ = chain.channels.events_for(payee.operator, chain.deployment.block, ())
        opened |= {event.channel_id for event in events if isinstance(event, Opened)}
    found.figures["channels"] = len(opened)
    found.check(opened <= set(paid), f"{len(opened - set(paid))} channels on chain that no payer knows")
    found.check(set(earned) <= set(paid), f"{len(set(earned) - set(paid))} channels that only payees know")
    locked = 0
    for channel_id in sorted(opened & set(paid)):
        ours, state = paid[channel_id], chain.channels.state(channel_id)
        name = f"channel {channel_id.hex()[:8]}"
        theirs = earned.get(channel_id)
        best, billed = (theirs.best, theirs.billed) if theirs else (0, 0)
        locked += 0 if state.closed else state.deposit - state.settled
        found.figures["signed wei"] += ours.signed
        found.figures["claimed wei"] += state.settled
        found.figures["signed and never had wei"] += ours.signed - best
        # A cheat that lost its stake starts no more, and claims no more.
        claims = state.settled == best if ours.payee in honest else state.settled <= best
        found.check(claims, f"{name}: {best} wei to claim, {state.settled} claimed")
        found.check(
            ours.spent <= billed <= best <= ours.signed <= state.deposit,
            f"{name}: spent {ours.spent}, billed {billed}, best {best}, signed {ours.signed}, "
            f"deposit {state.deposit}",
        )
    held = chain.token.balance(chain.channels.address)
    found.check(held == locked, f"the contract of channels holds {held} wei where {locked} are deposited")


def _requests(found: Reckoning, payer: Resident) -> None:
    """What requests cost is what channels spent; what was signed and not answered was risked; budgets held."""
    with _ledger(payer) as ledger:
        rows = _all(ledger)
        channels = ledger.payer.channels()
        cost = sum(row.cost + row.audit_cost for row in rows)
        risked = sum(row.risked for row in rows)
        spent = sum(row.spent for row in channels)
        signed = sum(row.signed for row in channels)
        found.figures["requests"] += len(rows)
        found.figures["interrupted"] += sum(row.outcome == Ending.INTERRUPTED for row in rows)
        found.figures["risked wei"] += risked
        running = ledger.requests.running()
        found.check(len(running) <= 1, f"{payer.name}: {len(running)} requests that never ended")
        found.check(
            cost <= spent <= cost + risked,
            f"{payer.name}: requests cost {cost} and risked {risked}, channels spent {spent}",
        )
        found.check(
            signed <= cost + risked, f"{payer.name}: {signed} wei signed, requests know of {cost + risked}"
        )
        for row in rows:
            detail = ledger.requests.one(row.request_id)
            hops = sum(hop.billed for hop in detail.hops) if detail else -1
            found.check(
                hops == row.cost, f"{payer.name}: request {row.request_id} cost {row.cost}, its hops {hops}"
            )
        for key in ledger.api_keys.list():
            used = ledger.requests.spent_in(key.key_id, None)
            found.check(
                key.budget is None or used <= key.budget, f"{payer.name}: {used} wei spent with {key.name}"
            )


def _all(ledger: Ledger) -> list[Any]:
    rows: list[Any] = []
    while page := ledger.requests.latest(Which(), before=rows[-1].request_id if rows else None, limit=1000):
        rows += page
    return rows


def _transcripts(found: Reckoning, town: Town, chain: Chain) -> None:
    """Each transcript can be read, and its receipts are of what it holds, or of what it says is elsewhere."""
    for folder in sorted({path.parent for path in town.network.home.rglob("*.transcript")}):
        store = TranscriptStore(folder, keep_seconds=1, max_bytes=1)
        for path in folder.glob("*.transcript"):
            found.figures["transcripts"] += 1
            try:
                store.held(bytes.fromhex(path.stem)).receipts(chain.disputes.domain)
            except (NodeError, MarketError) as error:
                found.wrong.append(f"transcript {path.relative_to(town.network.home)}: {error}")


def _judgements(found: Reckoning, town: Town, chain: Chain) -> None:
    """Cheats lose their stake, nobody else loses anything, and every case was decided."""
    cheats = {each.operator for each in town.residents if not each.honest}
    events, _ = chain.disputes.events_from(chain.deployment.block)
    accused = {event.case_id: event.operator for event in events if isinstance(event, CaseOpened)}
    ended = {event.case_id: event for event in events if isinstance(event, CaseResolved)}
    for case_id, operator in accused.items():
        found.figures["cases"] += 1
        resolved = ended.get(case_id)
        if resolved is None:
            found.wrong.append(f"case {case_id} was never decided")
            continue
        right = Outcome.GUILTY if operator in cheats else Outcome.INNOCENT
        found.figures[f"cases {resolved.outcome.name.lower()}"] += 1
        found.check(
            resolved.outcome is right, f"case {case_id}: {resolved.outcome.name}, where {right.name} is right"
        )
    found.check(not any(map(_proof, events)), "somebody was found to contradict itself, or served no demand")
    for each in town.of("provider", "verifier"):
        stake = chain.staking.stake_of(each.operator).active
        found.check(
            each.honest is False or stake == STAKE,
            f"{each.name} is honest and has {stake} wei of its stake left",
        )


def _proof(event: DisputeEvent) -> bool:
    return isinstance(event, EquivocationProven | ContradictionProven | Withheld)


def _reputations(found: Reckoning, town: Town) -> None:
    """Nobody honest is believed to be worse than a stranger, whatever he was killed."""
    honest = {each.operator for each in town.of("provider", "verifier") if each.honest}
    now = datetime.now(UTC)
    for payer in town.of("client", "gateway"):
        with _ledger(payer) as ledger:
            for operator, standing in ledger.trust.standings(now).items():
                if operator in honest:
                    found.figures["reputations of the honest"] += 1
                    found.check(
                        standing.reputation.reliability >= Reputation().reliability,
                        f"{payer.name} takes the honest {operator} for worse than a stranger",
                    )


def _whole(found: Reckoning, resident: Resident) -> None:
    """Nothing half-written, no broken database, no run that failed by itself."""
    if resident.honest:  # a cheat that lost its stake starts no more, and clears nothing away
        for path in _debris(resident.home):
            found.wrong.append(f"{resident.name} left {path.relative_to(resident.home)}")
    with sqlite3.connect(resident.home / "ledger.sqlite") as ledger:
        said = ledger.execute("pragma integrity_check").fetchone()[0]
    ledger.close()
    found.check(said == "ok", f"the ledger of {resident.name}: {said}")
    text = resident.log.read_text(errors="replace")
    found.check("Traceback" not in text, f"the log of {resident.name} holds a trace")
    found.figures["runs"] += resident.runs
    if resident.kind != "client":
        found.wrong += [f"{resident.name} {failure}" for failure in resident.failures]


def _debris(home: Path) -> Iterator[Path]:
    return (path for path in home.rglob("*") if path.suffix in DEBRIS)
