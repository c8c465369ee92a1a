"""The best candidates for the next token: what the tail of a path returns and the client samples from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hypercluster.node.errors import NodeError
from hypercluster.node.rows import TopK


class NoCandidates(NodeError):
    """The logits hold a value that is not a number, so nothing can be ranked."""


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
