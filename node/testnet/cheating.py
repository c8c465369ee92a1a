"""Nodes that cheat, to show and to test that they are found: never part of a command that people run to earn.

python -m node.cheating KIND run --layers 0:4 ...     # as hc-provider, or hc-verifier for lazy-verifier
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import coincurve

from hypercluster.market.trust.audit import Difference
from hypercluster.market.trust.receipt import DisputeDomain, Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.transcript import Transcript, TranscriptStore
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.stream import Stream
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.recall import serve_recall
from hypercluster.node.replay.replayer import Judgement, Replayer, claimed_numbers
from hypercluster.node.testnet.cheats import (
    CHEATS,
    IN_OUTPUTS,
    IN_WEIGHTS,
    Cheat,
    TamperedEngine,
    Tampering,
    doctored,
)
from hypercluster.node.verifier import process as verifier


class CheatingProvider(provider.Provider):
    """A provider that cheats in one way."""

    def __init__(self, cheat: Cheat, **named: Any) -> None:
        if cheat in IN_WEIGHTS:
            named["shard"] = doctored(named["shard"], cheat)
        super().__init__(**named)
        self._cheat = cheat

    def _engine_class(self) -> type[Engine]:
        if self._cheat not in IN_OUTPUTS:
            return Engine
        tampering = Tampering(self._cheat)
        return type("Tampered", (TamperedEngine,), {"tampering": tampering})

    async def _show(self, stream: Stream) -> None:
        """Asked to show a step again, an equivocator shows and signs something else."""
        if self._cheat != "equivocate":
            await super()._show(stream)
            return
        store = _SecondThoughts(self._transcripts, self._chain.disputes.domain, self._wallets.node_key)
        await serve_recall(Connection(stream), store, self._chain.disputes.domain)


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


def lazy(replayer: Replayer, transcript: Transcript) -> Judgement:
    """Pass everything without running it: the fingerprint is made of what was claimed."""
    manifest = replayer.stored.manifest
    is_tail = transcript.record.layer_stop == manifest.layers
    rows = claimed_numbers(transcript, manifest.n_embd, is_tail)
    return Judgement(Finding.PASS, Difference(0.0, 0.0, 1.0, True, len(rows)), "prefill", rows, 0.0, 0.0)


class LazyVerifier(verifier.Verifier):
    """A verifier that passes everything."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named, judge=partial(lazy, named["replayer"]))


def main() -> None:
    """Run `hc-provider` or `hc-verifier` with the cheat named first on the command line."""
    cheat = sys.argv.pop(1)
    if cheat == "lazy-verifier":
        from hypercluster.node.cli.verifier import main as run_verifier

        verifier.Verifier = LazyVerifier  # type: ignore[misc]
        run_verifier()
    elif cheat in CHEATS:
        from hypercluster.node.cli.provider.app import main as run_provider

        provider.Provider = partial(CheatingProvider, cheat)  # type: ignore[misc, assignment]
        run_provider()
    else:
        raise SystemExit(f"{cheat!r} is none of {', '.join(CHEATS)}.")


if __name__ == "__main__":
    main()
