"""The best candidates for the next token: what the tail of a path returns and the client samples from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK


class NoCandidates(NodeError):
    """The logits hold a value that is not a number, so nothing can be ranked."""


def best(logits: Sequence[npt.NDArray[np.float32]], k: int) -> TopK:
    """Rank n >= 1 rows of float32 [vocabulary]; k is cut to the vocabulary. Raises NoCandidates for nan."""
    n, k = len(logits), min(k, len(logits[0]))
    ids = np.empty((n, k), np.int32)
    values = np.empty((n, k), np.float32)
    logsumexp = np.empty(n, np.float64)
    for i, row in enumerate(logits):
        ids[i], values[i], logsumexp[i] = best_of(row, k)
    return TopK(ids, values, logsumexp)


def best_of(
    row: npt.NDArray[np.float32], k: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], np.float64]:
    """The k best ids of one row, k being within the vocabulary, their logits, and the row's logsumexp.

    Raises NoCandidates for nan. Each step of a tail pays for it, hence ufuncs in place of what wraps them.
    """
    top = np.maximum.reduce(row)
    if not math.isfinite(top):
        raise NoCandidates("The logits are not finite.")
    weights = row - top
    np.exp(weights, out=weights)
    logsumexp = top + np.log(np.add.reduce(weights, dtype=np.float64))
    # of several equal to the k-th, the lowest ids are kept
    found = (row >= _bound(row, k)).nonzero()[0]
    values = row[found]
    order = (-values).argsort(kind="stable")[:k]
    return found[order], values[order], logsumexp


def _bound(row: npt.NDArray[np.float32], k: int) -> np.float32:
    """Return a value that the k-th largest is not below, and few others reach."""
    width = len(row) // 64
    # the k-th largest of the maxima of disjoint groups; far cheaper than to partition the whole row
    some = np.maximum.reduce(row[: 64 * width].reshape(64, width), axis=0) if width > k else row.copy()
    place = len(some) - k
    some.partition(place)
    return np.float32(some[place])
