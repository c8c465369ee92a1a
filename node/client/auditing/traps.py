"""Faults planted in a transcript, to see whether a verifier computes.

Whoever does not run the stage must not be able to tell them. So the fault is computed as well: who served the stage is
given its rows of input once more, the earlier ones in another order, and one row of output in the transcript is
exchanged for what it answered to the same row then. Nothing is made up: every row of output is what the stage does
make of its row of input. What is wrong is only in what order the rows stood before that row, and that takes the stage
to see.

Which rows stood there, and what stood just before, can be looked at without it (scripts/bench_traps_reading.py). So the
later rows of input stay where they are, and of the rows that are far enough off a late one is taken.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import (
    MAX_ACCEPT,
    Bounds,
    Kind,
    contradicts,
)
from hypercluster.market.trust.receipt import MILLIONTHS
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.rows import TopK, unpack_activations, unpack_topk

Float64s = npt.NDArray[np.float64]

LEAST_ROWS = 8
"""fewer leave nothing to exchange"""
FACTOR = 1.2
"""times the error of one row that any comparison fails, where there is such a row: a computation that passes is off by
less than the fifth that is left"""
SPREAD = 1.6
"""times the least that will do, up to which the last row is better than the nearest"""
STAYS = 0.6, 0.9
"""shares of the rows between which those begin that stay in their place"""
ENOUGH = 1.1
"""times that is enough where there is none"""
COARSER = 1.5
"""times our own tolerance: the row shows a verifier whose tolerance is as large to contradict itself"""
PROVES = 2.5 * np.sqrt(2) * 1.05
"""times a tolerance: rows of one length that are further apart contradict each other (Floats.sol of the contracts)"""


@dataclass(frozen=True, slots=True)
class Planted:
    """A transcript with a fault, and the row of output that is off, in the one and in the other."""

    transcript: Transcript
    row: int
    claimed: Float64s
    planted: Float64s

    def refutes(self, tolerance: int) -> bool:
        """Whether a verifier that passes rows up to `tolerance` off, in millionths, can pass only one of the two."""
        return contradicts(self.claimed, self.planted, tolerance)


def reordered(rows: int) -> list[int]:
    """The rows of input [0, rows) in the order in which they are to be run again.

    The first stays: every later row looks at it, whatever it is. So do the last ones: the same rows stand before them.
    """
    draw = secrets.SystemRandom()
    stays = max(1, draw.randint(*(int(share * rows) for share in STAYS)))
    order = list(range(1, stays))
    draw.shuffle(order)
    return [0, *order, *range(stays, rows)]


def plant(
    transcript: Transcript, again: Mapping[int, bytes], bounds: Bounds, *, width: int, is_tail: bool
) -> Planted | None:
    """The same transcript with one row of output that is as far off as no verifier with these bounds passes.

    Args:
        again: for each row of input what the stage answered to it behind other rows, packed as it travels.

    None where that cannot be had: too few rows, or rows to which it makes little difference what stands before.
    """
    if transcript.outputs < LEAST_ROWS:
        return None
    rows = merkle.split_rows(transcript.output, transcript.outputs)
    others = [again[at] for at in _put_out(transcript)]
    if is_tail:
        claimed, planted, apart = _candidates(rows, others)
        # Log-probabilities that compare as far apart may still be too near for one tolerance to tell them apart.
        tolerance = max(bounds.tolerance("tail", own=own) for own in (True, False))
        refuting = [contradicts(one, other, tolerance) for one, other in zip(claimed, planted, strict=True)]
        apart[~np.array(refuting)] = 0.0
    else:
        claimed, planted = (
            unpack_activations(b"".join(each), len(each), width, transcript.record.wire_dtype).astype(
                np.float64
            )
            for each in (rows, others)
        )
        apart = np.linalg.norm(planted - claimed, axis=1) / (np.linalg.norm(claimed, axis=1) + 1e-30)
    row = _chosen(apart, bounds, "tail" if is_tail else "body", transcript.record.wire_dtype.rounding)
    if row is None:
        return None
    shown = _with(transcript, [*rows[:row], others[row], *rows[row + 1 :]])
    return Planted(shown, row, claimed[row], planted[row])


def _chosen(apart: Float64s, bounds: Bounds, kind: Kind, rounding: int) -> int | None:
    """The last row that is as far off as is wanted and not much further; the nearest to that, or what is furthest off
    where that is enough, if there is none.
    """
    failing = max(each.reject_maximum for each in bounds.limits[kind].values())
    tolerance = max(bounds.tolerance(kind, own=own, rounding=rounding) for own in (True, False)) / MILLIONTHS
    # A comparison forgives what either row may have lost by rounding.
    forgiven = 2 * rounding / MILLIONTHS if kind == "body" else 0.0
    wanted = max(FACTOR * failing + forgiven, PROVES * min(COARSER * tolerance, MAX_ACCEPT))
    able = np.flatnonzero(apart >= wanted)
    if len(able):
        near = able[apart[able] <= SPREAD * wanted]
        return int(near[-1] if len(near) else able[apart[able].argmin()])
    most = int(apart.argmax())
    return most if apart[most] >= ENOUGH * failing + forgiven else None


def _put_out(transcript: Transcript) -> list[int]:
    """Of which rows of input the rows of output are."""
    ends = accumulate(step.rows for step in transcript.steps)
    return [
        at for end, step in zip(ends, transcript.steps, strict=True) for at in range(end - step.outputs, end)
    ]


def _candidates(rows: Sequence[bytes], others: Sequence[bytes]) -> tuple[Float64s, Float64s, Float64s]:
    """Their log-probabilities, float64 [n, k] each, and how far apart a judge finds them at least, [n].

    The next row of input tells which candidate was drawn. So only rows count where the best one stays the best, and
    the last.
    """
    before, after = (unpack_topk(b"".join(each), len(each)) for each in (rows, others))
    apart = np.array([_least(after[at : at + 1], before[at : at + 1]) for at in range(len(rows))])
    told = before.ids[:, 0] != after.ids[:, 0]
    told[-1] = False
    apart[told] = 0.0
    claimed, planted = (each.logits - each.logsumexp[:, None] for each in (before, after))
    return claimed, planted, apart


def _least(claimed: TopK, own: TopK) -> float:
    """The least error that a judge can find one row to have, where `own` are the best of what it compares with.

    It holds more candidates than travel (`compare_candidates`). One that is claimed and not in `own` may be among them:
    then it counts, at best as near to what is claimed as it can be without being among the best.
    """
    _, theirs, mine = np.intersect1d(claimed.ids[0], own.ids[0], return_indices=True)
    said, known = claimed.logits[0] - claimed.logsumexp[0], own.logits[0] - own.logsumexp[0]
    more = np.delete(said, theirs)
    nearest = np.minimum(more, known.min())
    order = np.argsort((more - nearest) / np.maximum(np.abs(nearest), 1e-30))
    off = np.concatenate([[np.sum((said[theirs] - known[mine]) ** 2)], ((more - nearest) ** 2)[order]])
    size = np.concatenate([[np.sum(known[mine] ** 2)], (nearest**2)[order]])
    # In this order those come first that lessen the error.
    return float(np.sqrt((np.cumsum(off) / np.maximum(np.cumsum(size), 1e-30)).min()))


def _with(transcript: Transcript, rows: Sequence[bytes]) -> Transcript:
    """The transcript with other rows of output, and without its receipts."""
    steps, at = [], 0
    for step in transcript.steps:
        steps.append(replace(step, output=b"".join(rows[at : at + step.outputs]), receipt=b""))
        at += step.outputs
    return Transcript(transcript.record, tuple(steps))
