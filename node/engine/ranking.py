"""The best candidates for the next token: what the tail of a path returns and the client samples from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hypercluster.node.errors import NodeError


class NoCandidates(NodeError):
    """The logits hold a value that is not a number, so nothing can be ranked."""


class BadCandidates(NodeError):
    """Candidates that no honest tail can have returned."""


@dataclass(frozen=True, slots=True)
class TopK:
    """For each of n rows the k best tokens, best first, equal logits by ascending id.

    ids int32 [n, k]; logits float32 [n, k]; logsumexp float64 [n] over the whole vocabulary, so that
    exp(logit - logsumexp) is the true probability of a candidate at temperature 1.
    """

    ids: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float64]


def best(logits: Sequence[npt.NDArray[np.float32]], k: int) -> TopK:
    """Rank n >= 1 rows of float32 [vocabulary]; k is cut to the vocabulary. Raises NoCandidates for nan."""
    n, vocabulary = len(logits), len(logits[0])
    k = min(k, vocabulary)
    ids = np.empty((n, k), np.int32)
    values = np.empty((n, k), np.float32)
    logsumexp = np.empty(n, np.float64)
    for i, row in enumerate(logits):
        top = row.max()
        if not np.isfinite(top):
            raise NoCandidates("The logits are not finite.")
        logsumexp[i] = top + np.log(np.exp(row - top).sum(dtype=np.float64))
        # of several equal to the k-th, the lowest ids are kept
        found = np.flatnonzero(row >= _bound(row, k))
        order = np.argsort(-row[found], kind="stable")[:k]
        ids[i] = found[order]
        values[i] = row[ids[i]]
    return TopK(ids, values, logsumexp)


def _bound(row: npt.NDArray[np.float32], k: int) -> np.float32:
    """Return a value that the k-th largest is not below, and few others reach."""
    width = len(row) // 64
    if width > k:
        # the k-th largest of the maxima of disjoint groups; far cheaper than to partition the whole row
        row = row[: 64 * width].reshape(64, width).max(axis=0)
    place = len(row) - k
    return np.float32(np.partition(row, place)[place])


def join(parts: Sequence[TopK]) -> TopK:
    """Put the rows of several answers with the same k one after the other."""
    if len(parts) == 1:
        return parts[0]
    return TopK(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.logsumexp for part in parts]),
    )


def check(best: TopK, n_vocab: int) -> None:
    """Refuse candidates from elsewhere that are not k >= 1 different tokens per row, best first, with finite
    logits whose mass stays within logsumexp. Raises BadCandidates.
    """
    n, k = best.ids.shape if best.ids.ndim == 2 else (0, 0)
    if n < 1 or k < 1 or best.logits.shape != (n, k) or best.logsumexp.shape != (n,):
        raise BadCandidates("The candidates' ids, logits and logsumexp do not fit together.")
    ordered = np.sort(best.ids, axis=1)
    if ordered[:, 0].min() < 0 or ordered[:, -1].max() >= n_vocab or not np.diff(ordered).all():
        raise BadCandidates(f"The candidates are not different tokens of the vocabulary of {n_vocab}.")
    with np.errstate(all="ignore"):
        mass = np.exp(best.logits.astype(np.float64) - best.logsumexp[:, None]).sum(axis=1)
        falling = (np.diff(best.logits) <= 0).all()
    if not (np.isfinite(best.logits).all() and falling and (mass <= 1.001).all()):
        raise BadCandidates("The candidates' logits are not finite, not in order, or more than all there is.")
