"""Faults planted in a transcript, to see whether a verifier computes.

Whoever does not run the stage must not be able to tell them. So nothing is made up: every row keeps most of what is its
own, and a little of how it differs from rows with similar input is exchanged for how another row differs from its. The
directions, the sizes and their spread over the rows are then those of real answers, and so is the grid of their bits.
What is wrong is only which row got which, and that takes the stage to see.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import MAX_ACCEPT, Bounds, Kind, contradicts
from hypercluster.market.trust.receipt import MILLIONTHS
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.rows import (
    TopK,
    join,
    pack_activations,
    pack_topk,
    unpack_activations,
    unpack_residual,
    unpack_topk,
)

Float64s = npt.NDArray[np.float64]

DRAWS = 8
"""in search of a fault that is large enough"""
LEAST_ROWS = 8
"""fewer have nothing to exchange"""
SPARED = 0.2
"""share of the rows, the first ones, that stay: texts begin alike, and who computed one of them knows these rows"""
NEIGHBOURS = 3
MOST = 0.9
"""share of what sets a row apart that it may give up"""
FACTOR = 3.0
"""times the median error that any comparison fails"""
COARSER = 1.5
"""times our own tolerance: the worst row shows a verifier whose tolerance is as large to contradict itself"""
ENOUGH = 0.5
"""of that, reached over all rows, is enough"""
COARSE = 0.1
"""beyond which a median error is kept as small as is enough"""
SPREAD = 0.5
"""of the logarithm of the errors over the rows, as among real ones"""
PROVES = 2.5 * np.sqrt(2) * 1.05
"""times a tolerance: rows of one length that are further apart contradict each other (Floats.sol of the contracts)"""


@dataclass(frozen=True, slots=True)
class Planted:
    """A transcript with a fault, and the row of output that is furthest off, in the one and in the other."""

    transcript: Transcript
    row: int
    claimed: Float64s
    planted: Float64s

    def refutes(self, tolerance: int) -> bool:
        """Whether a verifier that passes rows up to `tolerance` off, in millionths, can pass only one of the two."""
        return contradicts(self.claimed, self.planted, tolerance)


def plant(transcript: Transcript, bounds: Bounds, *, same: bool, width: int, is_tail: bool) -> Planted | None:
    """The same transcript with outputs that are as far off as no verifier with these bounds passes. `same` says whether
    it runs under the profile of who served: then it compares exactly, and the fault may be small.

    None where that cannot be had: too few rows, or rows too much alike.
    """
    if transcript.outputs < LEAST_ROWS:
        return None
    kind: Kind = "tail" if is_tail else "body"
    size, tolerance = _size(bounds, kind, same), bounds.tolerance(kind, own=same)
    for _ in range(DRAWS):
        found, median = _drawn(transcript, size, width, is_tail)
        if median > ENOUGH * size.median and found.refutes(tolerance):
            return found
    return None


def _drawn(transcript: Transcript, size: _Size, width: int, is_tail: bool) -> tuple[Planted, float]:
    """Some fault, and how far half of its rows are off."""
    draw = np.random.default_rng(secrets.randbits(128))
    if is_tail:
        before = join([unpack_topk(step.output, step.outputs) for step in transcript.steps])
        rows = before.logits - before.logsumexp[:, None]
        after = _candidates(before, _exchanged(rows, rows, None, size, draw))
        packed = pack_topk(after)
        planted = after.logits - after.logsumexp[:, None]
    else:
        dtype = transcript.record.wire_dtype
        rows = unpack_activations(transcript.output, transcript.outputs, width, dtype).astype(np.float64)
        base = None
        if transcript.record.layer_start:
            base = unpack_residual(transcript.input, transcript.tokens, width, dtype).astype(np.float64)
        added = rows if base is None else rows - base
        wanted = rows - added + _exchanged(added, rows, base, size, draw)
        packed = pack_activations(_on_grid(rows, wanted), dtype)
        planted = unpack_activations(packed, len(rows), width, dtype).astype(np.float64)
    apart = np.linalg.norm(planted - rows, axis=1) / np.maximum(np.linalg.norm(rows, axis=1), 1e-30)
    worst = int(apart.argmax())
    return Planted(_with(transcript, packed), worst, rows[worst], planted[worst]), float(np.median(apart))


@dataclass(frozen=True, slots=True)
class Traps:
    """Faults in one transcript: `same` for a verifier that runs under the profile of who served, and `other`."""

    same: Planted
    other: Planted

    def for_profile(self, profile: str) -> Planted:
        """The one for a verifier of this backend profile."""
        return self.same if profile == self.same.transcript.record.profile else self.other


def traps(transcript: Transcript, bounds: Bounds, *, width: int, is_tail: bool) -> Traps | None:
    """Faults for verifiers of every profile, None where one cannot be had; see `plant`."""
    same, other = (
        plant(transcript, bounds, same=same, width=width, is_tail=is_tail) for same in (True, False)
    )
    return None if same is None or other is None else Traps(same, other)


@dataclass(frozen=True, slots=True)
class _Size:
    """How far off rows shall be, as a share of their length: half of them, and the worst one at least."""

    median: float
    worst: float


def _size(bounds: Bounds, kind: Kind, same: bool) -> _Size:
    limits = bounds.limits[kind]
    exact = same and bounds.is_exact(kind, "replay")
    failing = max(each.reject_median for tier, each in limits.items() if tier != "foreign" or not exact)
    tolerance = bounds.tolerance(kind, own=same) / MILLIONTHS
    median = min(FACTOR * failing, max(ENOUGH * FACTOR * failing, COARSE))
    return _Size(median, PROVES * min(COARSER * tolerance, MAX_ACCEPT))


def _exchanged(
    values: Float64s,
    rows: Float64s,
    similar: Float64s | None,
    wanted: _Size,
    draw: np.random.Generator,
) -> Float64s:
    """Values [n, width] of which each row gave up some of what sets it apart from rows with `similar` input, from all
    if there is none, for as much of what sets another row apart.
    """
    own = values - _expected(values, similar)
    lengths = np.linalg.norm(own, axis=1, keepdims=True) + 1e-30
    others = own[_partners(lengths[:, 0], draw)]
    # At a right angle to what the row has itself, so that the length of it stays.
    others = others - own * (np.sum(own * others, axis=1, keepdims=True) / lengths**2)
    others /= np.linalg.norm(others, axis=1, keepdims=True) + 1e-30
    size = np.linalg.norm(rows, axis=1) + 1e-30
    share = (_sizes(MOST * lengths[:, 0] / size, wanted, draw) * size)[:, None] / lengths
    exchanged: Float64s = values - (1 - np.sqrt(1 - share**2)) * own + share * lengths * others
    return exchanged


def _sizes(most: Float64s, wanted: _Size, draw: np.random.Generator) -> Float64s:
    """How far off each row shall be, float64 [rows], as a share of its length; up to `most`."""
    sizes = wanted.median * np.exp(SPREAD * draw.standard_normal(len(most)))
    sizes[: max(1, int(SPARED * len(most)))] = 0.0
    able = np.flatnonzero((sizes > 0) & (most > wanted.worst))
    if len(able):
        chosen = able[sizes[able].argmax()]
        sizes[chosen] = max(wanted.worst, sizes[chosen])
    return np.minimum(sizes, most)


def _expected(values: Float64s, similar: Float64s | None) -> Float64s:
    """For each row the mean of the values of those most similar to it."""
    if similar is None:
        return np.broadcast_to(values.mean(axis=0), values.shape)
    squares = np.sum(similar**2, axis=1)
    apart = squares[:, None] + squares - 2 * similar @ similar.T
    np.fill_diagonal(apart, np.inf)
    nearest = np.argpartition(apart, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    expected: Float64s = values[nearest].mean(axis=1)
    return expected


def _partners(lengths: Float64s, draw: np.random.Generator) -> npt.NDArray[np.intp]:
    """For each row another one whose length is near."""
    order = np.argsort(lengths)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    steps = draw.choice([-3, -2, -1, 1, 2, 3], len(order))
    wanted = places + steps
    wanted = np.where((wanted < 0) | (wanted >= len(order)), places - steps, wanted)
    return np.asarray(order[wanted])


def _on_grid(rows: Float64s, wanted: Float64s) -> npt.NDArray[np.float32]:
    """What is wanted, apart from the rows by so many of twice their lowest bit: what was added up of large numbers has
    zeros at its end, which stay.
    """
    raw = rows.astype("<f4").view("<u4")
    zeros = np.log2(np.maximum(raw & (~raw + 1), 1).astype(np.float64))
    grid = np.spacing(np.abs(rows).astype(np.float32)).astype(np.float64) * 2 ** (np.minimum(zeros, 23) + 1)
    moved: npt.NDArray[np.float32] = (rows + np.round((wanted - rows) / grid) * grid).astype(np.float32)
    return moved


def _candidates(before: TopK, wanted: Float64s) -> TopK:
    """Candidates with other log-probabilities, in order, of the same mass in each row."""
    order = np.argsort(-wanted, axis=1, kind="stable")
    logits = (np.take_along_axis(wanted, order, axis=1) + before.logsumexp[:, None]).astype(np.float32)
    logsumexp = before.logsumexp + _log_sum(logits) - _log_sum(before.logits)
    return TopK(np.take_along_axis(before.ids, order, axis=1), logits, logsumexp)


def _log_sum(logits: npt.NDArray[np.float32]) -> Float64s:
    most = logits.max(axis=1).astype(np.float64)
    found: Float64s = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
    return found


def _with(transcript: Transcript, packed: bytes) -> Transcript:
    """The transcript with other rows of output, and without its receipts."""
    rows = merkle.split_rows(packed, transcript.outputs)
    steps, at = [], 0
    for step in transcript.steps:
        steps.append(replace(step, output=b"".join(rows[at : at + step.outputs]), receipt=b""))
        at += step.outputs
    return Transcript(transcript.record, tuple(steps))
