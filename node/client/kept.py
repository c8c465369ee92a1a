"""What a session's provider answered, for as long as the session runs: for whoever has to take up where another fell.

Where there is a transcript it is read again when it is asked for; else the steps stay in memory, up to a bound. Rows
that went on to the provider after are fetched from the one that sent them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.fetching import fetch_steps
from hypercluster.node.client.auditing.recall import Equivocation, NotShown
from hypercluster.node.client.exchanging import HopFailed, How
from hypercluster.node.errors import ErrorCode, NodeError
from hypercluster.node.evidence.transcript import Held
from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots

if TYPE_CHECKING:
    from hypercluster.market.trust.receipt import DisputeDomain
    from hypercluster.node.client.hop import Hop
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.network.host import Host

MOST_BYTES = 64 * 2**20
"""of rows of one session in memory; who answers more than that without a transcript has none of them kept"""


class NotKept(NodeError):
    """The rows that a session answered are not here."""


class KeptSteps:
    """The steps of one visit of a session as they were answered, or of all visits where they are in `transcripts`."""

    def __init__(self, record: StageRecord, transcripts: TranscriptStore | None) -> None:
        self._record, self._transcripts = record, transcripts
        self._steps: list[AuditStep | StepRoots] = []
        self._bytes = 0

    def append(self, step: AuditStep | StepRoots) -> None:
        """Note a step that was answered well."""
        if self._transcripts is not None:
            return
        self._bytes += len(step.output) if isinstance(step, AuditStep) else 0
        if self._bytes > MOST_BYTES:
            self._steps.clear()
        else:
            self._steps.append(step)

    def close(self) -> None:
        """What is in memory is let go."""
        self._steps.clear()

    def for_later(self) -> Callable[[], Held]:
        """What gives the steps so far, and maybe more, when the session has ended as well. It may raise NotKept."""
        if self._transcripts is not None:
            return self.held
        held = self.held()
        return lambda: held

    def held(self) -> Held:
        """All that is here of them. Raises NotKept."""
        if self._transcripts is None:
            return Held(self._record, tuple(self._steps))
        try:
            return self._transcripts.held(self._record.stage.struct_hash())
        except NodeError as error:
            raise NotKept(str(error)) from error


class KeptRows:
    """The rows that sessions answered, wherever they are; `host` asks for them, `domain` is that of receipts."""

    def __init__(self, host: Host, domain: DisputeDomain) -> None:
        self._host, self._domain = host, domain

    async def of(self, hop: Hop, start: int, stop: int) -> bytes:
        """The packed activations that a session answered for positions [start, stop), of those steps that count.

        Raises:
            NotKept: they are not here, and were never anywhere else.
            HopFailed: the provider does not show what it signed for and sent on.
        """
        held = await hop.held()
        parts = parts_of(held.steps, start, stop)
        missing = [part.step.seq for part in parts if isinstance(part.step, StepRoots)]
        found: dict[int, AuditStep] = {}
        if missing:
            # Each was checked when it came.
            try:
                receipts = await trio.to_thread.run_sync(partial(held.receipts, self._domain, own=True))
                shown = await fetch_steps(self._host, hop.advert.addrs, held, receipts, missing, self._domain)
            except NotShown as error:
                raise _failed(hop.advert.peer, error) from error
            except (NodeError, MarketError) as error:
                raise NotKept(str(error)) from error
            if isinstance(shown, Equivocation):
                other = "it shows other rows than it signed for."
                raise HopFailed(hop.advert.peer, other, ErrorCode.BAD_SIGNATURE)
            found = shown
        return b"".join(part.rows(found) for part in parts)


def _failed(peer: str, error: NotShown) -> HopFailed:
    """What it is that a provider does not show its rows, so that blame sees in it what `error` did."""
    match error.evidence:
        case Evidence.SILENCE:
            return HopFailed(peer, str(error), ErrorCode.TIMEOUT, How.LOST)
        case Evidence.DEATH:
            return HopFailed(peer, str(error), how=How.LOST)
        case Evidence.WRONG:
            return HopFailed(peer, str(error), ErrorCode.BAD_SIGNATURE)
        case _:
            return HopFailed(peer, str(error))


@dataclass(frozen=True, slots=True)
class Part:
    """What counts of the rows that one step put out: those for positions [start, stop)."""

    step: AuditStep | StepRoots
    start: int
    stop: int

    def rows(self, found: Mapping[int, AuditStep]) -> bytes:
        """They themselves, packed, of a step that is here or among those `found`, by number."""
        step = self.step if isinstance(self.step, AuditStep) else found[self.step.seq]
        width, first = len(step.output) // step.outputs, step.position
        return bytes(memoryview(step.output)[(self.start - first) * width : (self.stop - first) * width])


def parts_of(steps: Iterable[AuditStep | StepRoots], start: int, stop: int) -> list[Part]:
    """Of which steps the outputs of positions [start, stop) are, where each step forgets what lies behind it.

    Raises NotKept: not all of them are there.
    """
    held: list[Part] = []
    for step in steps:
        if step.outputs != step.rows or step.position > (held[-1].stop if held else 0):
            raise NotKept("Not every row of the session was kept.")
        while held and held[-1].start >= step.position:
            held.pop()
        if held and held[-1].stop > step.position:
            held[-1] = replace(held[-1], stop=step.position)
        held.append(Part(step, step.position, step.position + step.rows))
    if start < stop and (not held or held[-1].stop < stop):
        raise NotKept(f"Positions {start} to {stop} are not all among the rows that were kept.")
    return [
        replace(part, start=max(part.start, start), stop=min(part.stop, stop))
        for part in held
        if part.start < stop and part.stop > start
    ]
