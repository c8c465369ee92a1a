"""How the rows of a step are laid out where they are committed to: in receipts, transcripts and audits.

Rows of one kind have one width. Tokens are little-endian uint32; activations are in the wire dtype; a row of
candidates is k ids (uint32), k logits (float32) and their logsumexp (float64), all little-endian.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust.merkle import root, split_rows
from hypercluster.node.engine.ranking import TopK
from hypercluster.node.errors import ErrorCode, WireError


def pack_tokens(tokens: npt.NDArray[np.int32]) -> bytes:
    """Bytes of token ids, int32 [n]: 4 each."""
    return np.ascontiguousarray(tokens, dtype="<u4").tobytes()


def unpack_tokens(data: bytes, rows: int) -> npt.NDArray[np.int32]:
    """Token ids int32 [rows]. Raises WireError for a wrong length or an id of 2^31 or more."""
    if len(data) != 4 * rows:
        raise WireError("input", f"has {len(data)} bytes, which are not {rows} tokens", ErrorCode.BAD_SHAPE)
    tokens = np.frombuffer(data, dtype="<i4")
    if len(tokens) and int(tokens.min()) < 0:
        raise WireError("input", "holds something that is no token id")
    return tokens.astype(np.int32, copy=False)


def pack_topk(topk: TopK) -> bytes:
    """Bytes of candidates, row after row: 8 k + 8 each."""
    rows, k = topk.ids.shape
    table = np.empty(rows, dtype=_row(k))
    table["ids"], table["logits"], table["logsumexp"] = topk.ids, topk.logits, topk.logsumexp
    return table.tobytes()


def unpack_topk(data: bytes, rows: int) -> TopK:
    """Candidates of `rows` rows. Raises WireError for a length that no k has, or values that are not finite."""
    width, rest = divmod(len(data), rows) if rows > 0 else (0, 1)
    k, over = divmod(width - 8, 8)
    if rest or over or k < 1:
        raise WireError("output", f"has {len(data)} bytes, which are not {rows} rows", ErrorCode.BAD_SHAPE)
    table = np.frombuffer(data, dtype=_row(k))
    topk = TopK(
        table["ids"].astype(np.int32), table["logits"].astype(np.float32), table["logsumexp"].astype(float)
    )
    if not (np.isfinite(topk.logits).all() and np.isfinite(topk.logsumexp).all()):
        raise WireError("output", "holds a value that is not finite", ErrorCode.NOT_FINITE)
    return topk


def rows_root(data: bytes, rows: int) -> bytes:
    """Merkle root, 32 bytes, over the rows of packed data. Raises BadProof if it does not divide into them."""
    return root(split_rows(data, rows))


def _row(k: int) -> np.dtype[np.void]:
    return np.dtype([("ids", "<u4", (k,)), ("logits", "<f4", (k,)), ("logsumexp", "<f8")])
