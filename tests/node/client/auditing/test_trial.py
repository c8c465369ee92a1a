"""A verifier put to the test: one that computes, one that reads figures, one that would pass anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import trio

from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import Bounds, Thresholds, contradicts
from hypercluster.market.trust.receipt import MOST_TOLERANCE, Finding
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client.auditing.opinion import AuditFailed, Opinion, SignedVerdict
from hypercluster.node.client.auditing.trial import Answer, Trial, put_to_the_test
from hypercluster.node.client.auditing.verifier import VerifierAuditor
from hypercluster.node.client.limits import Spending
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import verdict_on
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.cheating import lazy_judge
from tests.node.helpers.stages import planted, served

EXACT = Thresholds(1e-6, 1e-6, 1.0, 1e-4, 1e-4, 0.98)
FOREIGN = Thresholds(0.007, 0.017, 1.0, 0.02, 0.11, 0.98)
LAYERS = 8
Judge = Callable[[Transcript], Judgement]


@pytest.fixture(scope="module")
def replayer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    demo = open_model(demo_model(), tmp_path_factory.mktemp("home"))
    tiers: Any = {"prefill": EXACT, "replay": EXACT, "foreign": FOREIGN}
    replayer = Replayer(demo, Bounds(demo.manifest.model_id, {"body": tiers, "tail": tiers}), threads=1)
    yield replayer
    replayer.close()


def honest(stored: StoredModel) -> Transcript:
    text = np.random.default_rng(3).integers(0, 1024, 32).tolist()
    return served(stored, 0, 4, text)


class Asked:
    """Stands for the network between a client and one verifier: what the one shows the other judges and signs."""

    def __init__(self, judge: Judge, tolerance: int | None = None, useful: int = 2) -> None:
        self.judge, self.tolerance, self.useful = judge, tolerance, useful
        self.seen: list[Transcript] = []

    async def ask(self, verifier: object, transcript: Transcript, spending: Spending) -> Opinion:
        self.seen.append(transcript)
        spending.book(5, answered=True)
        if len(self.seen) > self.useful:
            raise AuditFailed("verifier", "its verdict is not signed.", Evidence.WRONG)
        found = self.judge(transcript)
        verdict = verdict_on(
            transcript,
            finding=found.finding,
            tolerance=found.tolerance if self.tolerance is None else self.tolerance,
            fingerprint_digest=bytes(32),
            job=bytes(32),
            issued=1,
            layers=LAYERS,
        )
        signed = SignedVerdict(verdict, bytes(64), b"")
        return Opinion(found.finding, found.difference, "verifier", 5, signed=signed)


def tried(asked: Asked, transcript: Transcript, replayer: Replayer) -> Trial:
    fault = planted(replayer.stored, transcript, replayer.bounds)
    assert fault is not None
    put = partial(put_to_the_test, cast("VerifierAuditor", asked), cast("Any", None), transcript, fault)
    return trio.run(partial(put, Spending(), is_tail=False))


@pytest.mark.parametrize("profile", ["its own", "another machine"])
def test_who_computes_finds_the_fault_and_sees_nothing_else(replayer: Replayer, profile: str) -> None:
    transcript = honest(replayer.stored)
    if profile != "its own":
        record = replace(transcript.record, profile=profile)
        transcript = Transcript(record, transcript.steps)
    asked = Asked(replayer.judge)
    trial = tried(asked, transcript, replayer)
    assert (trial.answer, trial.evidence, trial.cost_wei) == (Answer.FOUND, Evidence.AUDIT_PASSED, 5)
    assert [each.output for each in asked.seen] == [trial.shown.output] != [transcript.output]


def test_who_reads_figures_passes_the_fault_and_the_truth_which_is_proof(replayer: Replayer) -> None:
    transcript = honest(replayer.stored)
    asked = Asked(lazy_judge(replayer))
    trial = tried(asked, transcript, replayer)
    assert (trial.answer, trial.evidence, trial.cost_wei) == (Answer.MISSED, Evidence.LIE, 10)
    assert [each.output for each in asked.seen] == [trial.shown.output, transcript.output]
    proof = trial.proof
    assert proof is not None
    first, second = proof.first.verdict, proof.second.verdict
    assert (first.finding, second.finding) == (Finding.PASS, Finding.PASS)
    assert first.question == second.question
    rows = []
    for verdict, (row, path) in ((first, proof.first_row), (second, proof.second_row)):
        assert merkle.verify(row, proof.row, verdict.outputs, path, verdict.out_root)
        rows.append(np.frombuffer(row, "<f4").astype(np.float64))
    assert contradicts(rows[0], rows[1], max(first.tolerance, second.tolerance))


def test_a_second_answer_that_is_of_no_use_was_paid_all_the_same(replayer: Replayer) -> None:
    trial = tried(Asked(lazy_judge(replayer), useful=1), honest(replayer.stored), replayer)
    assert (trial.answer, trial.proof, trial.cost_wei) == (Answer.MISSED, None, 10)


def test_who_names_a_wide_tolerance_proves_nothing_and_is_of_no_use(replayer: Replayer) -> None:
    asked = Asked(lazy_judge(replayer), MOST_TOLERANCE)
    trial = tried(asked, honest(replayer.stored), replayer)
    assert (trial.answer, trial.evidence, trial.proof) == (Answer.TOO_COARSE, Evidence.REFUSAL, None)
    assert len(asked.seen) == 1
