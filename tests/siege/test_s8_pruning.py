"""A transcript that is gone is no error.

What happened: while transcripts were pruned in a thread, a session that ended or began met a file that had just been
deleted; it failed as INTERNAL, and that was noted against an honest provider.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from hypercluster.node.evidence.transcript_store import BLOCK, TranscriptStore
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.records import AuditStep
from tests.node.helpers.stages import stage_record


class Haunted(TranscriptStore):
    """Lists a file that somebody deletes before it is looked at."""

    def _files(self) -> Iterator[Path]:
        yield from super()._files()
        yield self.folder / ("ab" * 32 + ".transcript")


def step(seq: int) -> AuditStep:
    return AuditStep(seq, seq, 1, 1, bytes(4), secrets.token_bytes(256), int(time.time()))


def test_whatever_is_done_with_a_file_that_is_gone_goes_on(tmp_path: Path, stored_tiny: StoredModel) -> None:
    store = Haunted(tmp_path, keep_seconds=100, max_bytes=BLOCK, drop_oldest=True)
    for _ in range(3):
        with store.begin(stage_record(stored_tiny, 0, 2)) as writer:
            writer.append(step(0))
    assert store.size() == len(list(tmp_path.iterdir())) * BLOCK <= 2 * BLOCK
    assert store.latest(lambda record: True) is not None
    assert store.prune(time.time() + 101) >= 1
    assert store.size() == 0


def test_sessions_begin_and_end_while_transcripts_are_pruned(
    tmp_path: Path, stored_tiny: StoredModel
) -> None:
    store = TranscriptStore(tmp_path, keep_seconds=0, max_bytes=10**9)
    over = threading.Event()
    failures: list[BaseException] = []

    def prune() -> None:
        while not over.is_set():
            try:
                store.prune(time.time() + 1)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                failures.append(error)

    threads = [threading.Thread(target=prune) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            with store.begin(stage_record(stored_tiny, 0, 2)) as writer:
                writer.append(step(0))
            store.size()
            store.latest(lambda record: False)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    store.prune(time.time() + 1)
    assert failures == []
    assert store.size() == 0
