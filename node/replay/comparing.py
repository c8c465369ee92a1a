"""What a transcript claims, what was found instead, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hypercluster.market.trust import q8
from hypercluster.market.trust.audit import Candidates, Difference, compare_candidates, compare_rows
from hypercluster.node.errors import ErrorCode, NodeError, WireError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.rows import (
    TopK,
    WireDtype,
    join,
    pack_activations,
    unpack_activations,
    unpack_topk,
)
from hypercluster.node.wire.records import AuditStep

if TYPE_CHECKING:
    from hypercluster.node.rows import Float32s

WIDER = 4
"""times as many candidates as were claimed: a close race may have put one just outside"""


class BadEvidence(NodeError):
    """A transcript that cannot have been served like this."""

    code = ErrorCode.BAD_SHAPE


def numbers(outputs: Float32s | TopK, k: int) -> Float32s:
    """Outputs as plain numbers to be fingerprinted, float32 [n, width]: of candidates the best k log-probabilities."""
    if isinstance(outputs, TopK):
        return (outputs.logits[:, :k] - outputs.logsumexp[:, None]).astype(np.float32)
    return outputs


def judge_against(
    transcript: Transcript, outputs: Sequence[bytes | TopK], *, width: int, is_tail: bool
) -> Difference:
    """Compare a transcript with all rows of output that another node gave for the same input, as they travelled.

    Raises BadEvidence, WireError.
    """
    claimed = claimed_outputs(transcript, width, is_tail)
    dtype = transcript.record.wire_dtype
    if isinstance(claimed, TopK):
        given = join([output for output in outputs if isinstance(output, TopK)])
        return compare(claimed, put_out(given, transcript.steps), dtype)
    data = b"".join(output for output in outputs if isinstance(output, bytes))
    theirs = unpack_activations(data, transcript.tokens, width, dtype)
    # Both were rounded.
    slack = q8.half_steps(claimed) + q8.half_steps(theirs) if dtype is WireDtype.Q8 else None
    return compare_rows(claimed, theirs, slack)


def claimed_numbers(transcript: Transcript, width: int, is_tail: bool) -> Float32s:
    """The same of what a transcript claims. Raises BadEvidence, WireError."""
    return numbers(claimed_outputs(transcript, width, is_tail), transcript.record.top_k or 1)


def claimed_outputs(transcript: Transcript, width: int, is_tail: bool) -> Float32s | TopK:
    """All rows of output that a transcript claims. Raises BadEvidence, WireError."""
    dtype = transcript.record.wire_dtype
    for step in transcript.steps:
        if step.outputs not in ((1, step.rows) if is_tail else (step.rows,)):
            raise BadEvidence(f"Step {step.seq} has {step.outputs} rows of output for {step.rows} of input.")
    if is_tail:
        parts = [unpack_topk(step.output, step.outputs) for step in transcript.steps]
        if len({part.ids.shape[1] for part in parts}) != 1:
            raise BadEvidence("The steps have different numbers of candidates.")
        return join(parts)
    return np.concatenate(
        [unpack_activations(step.output, step.outputs, width, dtype) for step in transcript.steps]
    )


def put_out(given: TopK, steps: Sequence[AuditStep]) -> TopK:
    """Of the candidates of all rows of input those that the steps answered with."""
    wanted: list[int] = []
    served = 0
    for step in steps:
        served += step.rows
        wanted += range(served - step.outputs, served)
    return TopK(given.ids[wanted], given.logits[wanted], given.logsumexp[wanted])


def compare(claimed: Float32s | TopK, own: Float32s | TopK, dtype: WireDtype) -> Difference:
    """How far apart two computations of the same rows are, as far as it is not how the claimed ones travelled."""
    if isinstance(claimed, TopK):
        assert isinstance(own, TopK)
        return compare_candidates(
            Candidates(claimed.ids, claimed.logits, claimed.logsumexp),
            Candidates(own.ids, own.logits, own.logsumexp),
        )
    assert not isinstance(own, TopK)
    try:
        travelled = unpack_activations(pack_activations(own, dtype), len(own), own.shape[1], dtype)
    except WireError:
        travelled = own
    if dtype is WireDtype.Q8 and not np.array_equal(claimed, travelled):
        # Next to an edge two honest numbers go to different sides: rounded as well, they would be a whole step apart.
        return compare_rows(claimed, own, q8.half_steps(claimed))
    return compare_rows(claimed, travelled)


def is_within(
    tolerance: int, found: Difference, claimed: Float32s | TopK, own: Float32s | TopK, dtype: WireDtype
) -> bool:
    """Whether all rows are within a verdict's tolerance of one's own, in millionths, as the proof of a contradiction
    measures it: what rounding to steps took is part of it. `found` is what `compare` gave.
    """
    if dtype is WireDtype.Q8 and not isinstance(claimed, TopK) and not isinstance(own, TopK):
        found = compare_rows(claimed, own)
    return found.within(tolerance)
