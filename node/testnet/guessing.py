"""What a verifier can guess from the figures of a transcript without running it: how lazy ones look out for traps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.comparing import claimed_outputs
from hypercluster.node.rows import TopK, unpack_residual

Floats = npt.NDArray[np.float64]

UNLIKE = 0.2
"""share of the usual likeness; what has less stands out"""
LENGTH = 8.0
"""times the usual length of a row, or as many times less"""


def stands_out(transcript: Transcript, *, width: int, is_tail: bool) -> bool:
    """Whether a row of output is unlike its input, or unlike every other row, or much longer or shorter than usual."""
    claimed = claimed_outputs(transcript, width, is_tail)
    numbers = claimed.logits - claimed.logsumexp[:, None] if isinstance(claimed, TopK) else claimed
    rows = numbers.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) + 1e-30
    cosines = (rows / lengths[:, None]) @ (rows / lengths[:, None]).T
    np.fill_diagonal(cosines, -1.0)
    likeness = [cosines.max(axis=1)]
    if not is_tail and transcript.record.layer_start:
        dtype = transcript.record.wire_dtype
        inputs = unpack_residual(transcript.input, transcript.tokens, width, dtype).astype(np.float64)
        likeness.append(np.sum(inputs * rows, axis=1) / (np.linalg.norm(inputs, axis=1) * lengths + 1e-30))
    # The first row sees nothing before it, and is unlike the others everywhere.
    far = np.abs(np.log(lengths[1:] / np.median(lengths))) > np.log(LENGTH)
    return bool(far.any()) or any(_odd(each[1:]) for each in likeness if len(each) > 1)


def _odd(likeness: Floats) -> bool:
    return bool(likeness.min() < UNLIKE * np.median(likeness))
