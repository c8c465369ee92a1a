"""Faults planted in a transcript, to see whether a verifier finds them."""

from __future__ import annotations

import secrets
from dataclasses import replace

import numpy as np

from hypercluster.market.trust import merkle
from hypercluster.node.evidence.transcript import Transcript


def plant(transcript: Transcript, *, is_tail: bool) -> tuple[Transcript, int]:
    """The same transcript with a fault in one row of output, and that row: its values are put in another order, so
    that nothing but running the stage again shows it.
    """
    at = secrets.randbelow(len(transcript.steps))
    step = transcript.steps[at]
    row = secrets.randbelow(step.outputs)
    rows = merkle.split_rows(step.output, step.outputs)
    draw = np.random.default_rng(secrets.randbits(64))
    if is_tail:
        # Other tokens with the same logits.
        k = (len(rows[row]) - 8) // 8
        ids = np.frombuffer(rows[row][: 4 * k], "<u4")
        changed = np.roll(ids, 1 + int(draw.integers(max(1, k - 1)))).tobytes() + rows[row][4 * k :]
    else:
        size = 4 if transcript.record.wire_dtype == 1 else 2
        values = np.frombuffer(rows[row], f"V{size}")
        changed = draw.permutation(values).tobytes()
    rows[row] = changed
    steps = list(transcript.steps)
    steps[at] = replace(step, output=b"".join(rows), receipt=b"")
    before = sum(each.outputs for each in transcript.steps[:at])
    return Transcript(transcript.record, tuple(steps)), before + row
