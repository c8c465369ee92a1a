"""Transcripts in files, their receipts, and evidence that does not hold."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.market.trust.merkle import BadProof
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.errors import NodeError, WireError
from hypercluster.node.evidence.receipts import BadReceipt
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import NoTranscript, StoreFull, TranscriptStore
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.records import AuditStep
from tests.node.helpers.stages import DOMAIN, KEY, signed, stage_record

OTHER_KEY = bytes(31) + b"\x09"


@pytest.fixture
def transcript(stored_tiny: StoredModel) -> Transcript:
    width = 4 * stored_tiny.manifest.width
    steps = [AuditStep(0, 0, 3, 3, secrets.token_bytes(12), secrets.token_bytes(3 * width), int(time.time()))]
    for seq in range(1, 6):
        step = AuditStep(
            seq, 2 + seq, 1, 1, bytes([seq, 0, 0, 0]), secrets.token_bytes(width), int(time.time())
        )
        steps.append(step)
    return signed(Transcript(stage_record(stored_tiny, 0, 2), tuple(steps)))


@pytest.fixture
def store(tmp_path: Path) -> TranscriptStore:
    return TranscriptStore(tmp_path / "kept", keep_seconds=100, max_bytes=1_000_000)


def write(store: TranscriptStore, transcript: Transcript) -> bytes:
    with store.begin(transcript.record) as writer:
        for step in transcript.steps:
            writer.append(step)
    return writer.stage_hash


def test_what_is_written_is_read(store: TranscriptStore, transcript: Transcript) -> None:
    stage_hash = write(store, transcript)
    assert store.load(stage_hash) == transcript
    assert store.load(stage_hash, last_seq=2).steps == transcript.steps[:3]
    assert (transcript.tokens, transcript.outputs, transcript.generated) == (8, 8, 5)


def test_a_writer_that_rests_is_gone_on_with_and_pruned_by_nobody(
    store: TranscriptStore, transcript: Transcript
) -> None:
    with store.begin(transcript.record) as writer:
        for step in transcript.steps:
            writer.append(step)
            writer.rest()
            assert store.prune(now=time.time() + 1000) == 0
        assert store.load(writer.stage_hash) == transcript
    assert store.prune(now=time.time() + 1000) == 1


def test_a_killed_writer_loses_at_most_its_last_step(store: TranscriptStore, transcript: Transcript) -> None:
    stage_hash = write(store, transcript)
    path = next(store.folder.iterdir())
    whole = path.read_bytes()
    for cut in (1, 7, len(whole) // 4):
        path.write_bytes(whole[:-cut])
        kept = store.load(stage_hash)
        assert kept.steps == transcript.steps[: len(kept.steps)]
        assert len(kept.steps) < len(transcript.steps)


def test_what_is_not_there_is_named(store: TranscriptStore) -> None:
    with pytest.raises(NoTranscript, match="ab" * 32):
        store.load(b"\xab" * 32)


def test_old_ones_go_and_a_full_store_takes_no_more(
    store: TranscriptStore, transcript: Transcript, stored_tiny: StoredModel
) -> None:
    stage_hash = write(store, transcript)
    assert store.prune() == 0
    store.max_bytes = 10
    with pytest.raises(StoreFull, match="more than 10 bytes"):
        store.begin(stage_record(stored_tiny, 0, 2))
    assert store.prune(time.time() + 101) == 1
    with pytest.raises(NoTranscript):
        store.load(stage_hash)
    store.begin(stage_record(stored_tiny, 0, 2)).close()


def test_a_client_drops_the_oldest_instead(
    tmp_path: Path, transcript: Transcript, stored_tiny: StoredModel
) -> None:
    store = TranscriptStore(tmp_path, keep_seconds=100, max_bytes=4_000, drop_oldest=True)
    first = write(store, transcript)
    others = [signed(Transcript(stage_record(stored_tiny, 0, 2), transcript.steps)) for _ in range(3)]
    hashes = [write(store, other) for other in others]
    with pytest.raises(NoTranscript):
        store.load(first)
    assert store.load(hashes[-1]) == others[-1]
    assert found(store) == others[-1]
    assert store.latest(lambda record: record.peer == "nobody") is None


def test_evidence_replaces_what_was_cut_off(store: TranscriptStore, transcript: Transcript) -> None:
    stage_hash = write(store, transcript)
    path = next(store.folder.iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    assert store.load(stage_hash) != transcript
    store.keep(transcript)
    assert store.load(stage_hash) == transcript
    (store.folder / ("ff" * 32 + ".transcript")).write_bytes(b"junk")
    assert found(store) == transcript


def test_only_the_owner_reads_them(store: TranscriptStore, transcript: Transcript) -> None:
    write(store, transcript)
    assert store.folder.stat().st_mode & 0o077 == 0


def test_receipts_form_a_chain(transcript: Transcript) -> None:
    receipts = [receipt for receipt, _ in transcript.receipts(DOMAIN)]
    assert [receipt.seq for receipt in receipts] == [0, 1, 2, 3, 4, 5]
    assert receipts[0].previous == bytes(32)
    for before, after in itertools.pairwise(receipts):
        assert after.previous == before.struct_hash()


def swapped(t: Transcript) -> Transcript:
    one, two = t.steps[2], t.steps[3]
    steps = (
        *t.steps[:2],
        replace(two, seq=2, position=one.position),
        replace(one, seq=3, position=two.position),
    )
    return Transcript(t.record, (*steps, *t.steps[4:]))


def with_step(index: int, **changes: object) -> Callable[[Transcript], Transcript]:
    def change(t: Transcript) -> Transcript:
        steps = list(t.steps)
        steps[index] = replace(steps[index], **changes)  # type: ignore[arg-type]
        return Transcript(t.record, tuple(steps))

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        swapped,
        lambda t: Transcript(t.record, t.steps[1:]),
        lambda t: Transcript(t.record, (*t.steps[:2], *t.steps[3:])),
        lambda t: Transcript(t.record, (*t.steps, t.steps[-1])),
        lambda t: Transcript(replace(t.record, profile="another"), t.steps),
        lambda t: Transcript(replace(t.record, nonce=bytes(16)), t.steps),
        lambda t: Transcript(t.record, signed(t, OTHER_KEY).steps),
        with_step(1, receipt=b""),
        with_step(1, receipt=bytes(64)),
        with_step(1, receipt=b"\xff" * 64),
        with_step(2, output=bytes(256)),
        with_step(2, input=b"\1\1\1\1"),
        with_step(2, issued=5),
        with_step(0, outputs=1),
    ],
    ids=[
        "reordered", "first missing", "one missing", "replayed", "another profile", "another session",
        "another signer", "unsigned", "zeros", "malleable", "other output", "other input", "other time",
        "other rows",
    ],
)  # fmt: skip
def test_evidence_that_does_not_match_is_refused(
    transcript: Transcript, spoil: Callable[[Transcript], Transcript]
) -> None:
    with pytest.raises((BadReceipt, WireError)):
        spoil(transcript).receipts(DOMAIN)


def test_receipts_of_another_chain_are_refused(transcript: Transcript) -> None:
    for domain in (DisputeDomain(DOMAIN.contract, 1), DisputeDomain("0x" + "22" * 20, DOMAIN.chain_id)):
        with pytest.raises(BadReceipt):
            transcript.receipts(domain)


def test_rows_that_do_not_divide_are_refused(transcript: Transcript) -> None:
    with pytest.raises((BadProof, NodeError)):
        with_step(0, output=bytes(7))(transcript).receipts(DOMAIN)


def test_the_key_of_the_tests_is_the_peer(transcript: Transcript) -> None:
    assert signed(transcript, KEY).steps == transcript.steps


def found(store: TranscriptStore) -> Transcript | None:
    held = store.latest(lambda record: True)
    return None if held is None else held.whole()
