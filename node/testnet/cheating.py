"""Nodes that cheat, to show and to test that they are found: never part of a command that people run to earn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import coincurve

from hypercluster.market.trust.audit import Difference
from hypercluster.market.trust.receipt import DisputeDomain, Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.connection import Connection
from hypercluster.node.provider.process import HONEST, Ways
from hypercluster.node.provider.recall import serve_recall
from hypercluster.node.replay.comparing import claimed_numbers
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.testnet.cheating_links import CheatingOutlet
from hypercluster.node.testnet.cheats import (
    IN_OUTPUTS,
    IN_WEIGHTS,
    Cheat,
    LinkCheat,
    TamperedEngine,
    Tampering,
    doctored,
)
from hypercluster.node.testnet.guessing import stands_out


def ways_on_links(cheat: LinkCheat) -> Ways:
    """How a provider goes about it that cheats in one way on the link to the next one."""
    ways = replace(HONEST, outlet=partial(CheatingOutlet, cheat))
    return replace(ways, recall=_nothing) if cheat == "withhold-rows" else ways


def ways_of(cheat: Cheat) -> Ways:
    """How a provider that cheats in one way goes about it."""
    if cheat in IN_WEIGHTS:
        return replace(HONEST, engine=partial(_doctored_engine, cheat))
    if cheat in IN_OUTPUTS:
        return replace(HONEST, engine=partial(TamperedEngine, Tampering(cheat)))
    return replace(HONEST, recall=_other_answer)


def _doctored_engine(cheat: Cheat, shard: Path, **named: Any) -> Engine:
    return Engine(doctored(shard, cheat), **named)


async def _nothing(
    connection: Connection, _transcripts: TranscriptStore, _domain: DisputeDomain, _node_key: bytes
) -> None:
    """Asked to show a step again, who withholds rows hangs up."""
    await connection.close()


async def _other_answer(
    connection: Connection, transcripts: TranscriptStore, domain: DisputeDomain, node_key: bytes
) -> None:
    """Asked to show a step again, an equivocator shows and signs something else."""
    await serve_recall(connection, _SecondThoughts(transcripts, domain, node_key), domain)


class _SecondThoughts(TranscriptStore):
    """Transcripts whose last step is not what was answered then, signed anew."""

    def __init__(self, store: TranscriptStore, domain: DisputeDomain, node_key: bytes) -> None:
        super().__init__(store.folder, keep_seconds=store.keep_seconds, max_bytes=store.max_bytes)
        self._domain, self._node_key = domain, node_key

    def load(self, stage_hash: bytes, last_seq: int | None = None) -> Transcript:
        """The transcript with another ending."""
        told = super().load(stage_hash, last_seq)
        last = replace(told.steps[-1], output=told.steps[-1].output[::-1])
        receipts = told.receipts(self._domain)
        chain = ReceiptChain(told.record.stage, self._domain)
        if len(receipts) > 1:
            chain.last, chain.previous = receipts[-2][0], receipts[-2][0].struct_hash()
        signature = chain.sign(chain.next(last), coincurve.PrivateKey(self._node_key))
        return Transcript(told.record, (*told.steps[:-1], replace(last, receipt=signature)))


def lazy_judge(replayer: Replayer) -> Callable[[Transcript], Judgement]:
    """Runs nothing: fails what looks unlike an answer of the stage, passes everything else, and says of itself what the
    stock verifier would. The fingerprint is made of what was claimed.
    """
    manifest = replayer.stored.manifest

    def judge(transcript: Transcript) -> Judgement:
        is_tail = transcript.record.layer_stop == manifest.layers
        rows = claimed_numbers(transcript, manifest.width, is_tail)
        odd = stands_out(transcript, width=manifest.width, is_tail=is_tail)
        finding, off = (Finding.FAIL, 1.0) if odd else (Finding.PASS, 0.0)
        return Judgement(
            finding,
            Difference(off, off, 1.0, not odd, len(rows)),
            "prefill",
            rows,
            prefill_ms=0.0,
            replay_ms=0.0,
            tolerance=replayer.bounds.tolerance(
                "tail" if is_tail else "body",
                own=transcript.record.profile == replayer.profile,
                rounding=transcript.record.wire_dtype.rounding,
            ),
        )

    return judge
