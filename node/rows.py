"""How the rows of a step are laid out where they are committed to: in receipts, transcripts and audits.

Rows of one kind have one width. Tokens are little-endian uint32; activations are in the wire dtype (of q8 tells
market/trust/q8.py), and where the layers of a model read token ids, each row of a later stage's input ends with its
own; a row of candidates is k ids (uint32), k logits (float32) and their logsumexp (float64), all little-endian.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust import q8
from hypercluster.market.trust.merkle import root, split_rows
from hypercluster.node.errors import ErrorCode, NodeError, WireError

Float32s = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]
Payload = npt.NDArray[Any]
"""A step's input: token ids int32 [n]; float32 [n, width]; or [n] of `input_dtype`, where the model reads both."""


def input_dtype(width: int) -> np.dtype[np.void]:
    """A row of `residual` (so many numbers, float32) and `token` (its id)."""
    return np.dtype([("residual", "<f4", (width,)), ("token", "<i4")])


TOKEN_BYTES = 4
_FLOAT32 = np.dtype(np.float32)
_MILD = 1e30
"""sum of squares, where each value is 1e15 at most"""


class WireDtype(enum.IntEnum):
    """How activations travel."""

    F32 = 1
    F16 = 2
    Q8 = 3

    @property
    def rounding(self) -> int:
        """Of the length of a row, in millionths, that it loses at most by how it travels, where that is not to be seen
        as an error of whoever computed it.
        """
        return q8.ROUNDING if self is WireDtype.Q8 else 0

    def fits(self, width: int) -> bool:
        """Whether rows of so many values can travel so."""
        return self is not WireDtype.Q8 or width % q8.BLOCK == 0

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of so many values. Raises WireError(BAD_SHAPE) for a width that cannot travel so."""
        if self is not WireDtype.Q8:
            return width * _VALUE[self].itemsize
        try:
            return q8.row_bytes(width)
        except q8.BadBlocks as error:
            raise WireError("wire_dtype", f"does not fit: {error}", ErrorCode.BAD_SHAPE) from None

    @classmethod
    def named(cls, name: str) -> WireDtype:
        """The dtype called "f32", "f16" or "q8"; WireError for any other name."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise WireError("wire_dtype", f'is "{name}", not f32, f16 or q8') from None


_VALUE: dict[WireDtype, np.dtype[Any]] = {WireDtype.F32: np.dtype("<f4"), WireDtype.F16: np.dtype("<f2")}


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

    def __getitem__(self, rows: slice) -> TopK:
        """Some of the rows; views, no copies."""
        return TopK(self.ids[rows], self.logits[rows], self.logsumexp[rows])


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
    different = all(len(set(row)) == k for row in best.ids.tolist())
    if not different or best.ids.min() < 0 or best.ids.max() >= n_vocab:
        raise BadCandidates(f"The candidates are not different tokens of the vocabulary of {n_vocab}.")
    with np.errstate(all="ignore"):
        mass = np.exp(best.logits.astype(np.float64) - best.logsumexp[:, None]).sum(axis=1)
    falling = (best.logits[:, 1:] <= best.logits[:, :-1]).all()
    # what falls all the way, and is finite at both ends, is finite
    if not (falling and np.isfinite(best.logits[:, :: max(1, k - 1)]).all() and (mass <= 1.001).all()):
        raise BadCandidates("The candidates' logits are not finite, not in order, or more than all there is.")


def mild(values: npt.NDArray[np.float32]) -> bool:
    """Whether it is plain that no value is beyond 1e15, NaN or infinite: a sum of squares, which takes a tenth of the
    time that looking at each value does. Where this is False they may be all right as well.
    """
    # Unlike `dot` it warns of nothing; to hide a warning costs as much again.
    return values.dtype is _FLOAT32 and bool(np.vdot(values, values) <= _MILD)


def pack_activations(rows: npt.NDArray[np.float32], dtype: WireDtype) -> bytes:
    """Bytes of `rows` (float [n, width]) in the wire dtype, row-major and little-endian.

    Raises WireError(NOT_FINITE) if a value is NaN or infinite, or too large for f16 or q8, and WireError(BAD_SHAPE) for
    a width that cannot travel as q8.
    """
    if dtype is WireDtype.Q8:
        try:
            return q8.pack(rows)
        except q8.BadBlocks as error:
            raise _bad("activations", error) from None
    if dtype is WireDtype.F16:
        with np.errstate(over="ignore"):
            rows = rows.astype(_VALUE[dtype])
    if not mild(rows) and not np.isfinite(rows).all():
        raise WireError("activations", "holds a value that is not finite", ErrorCode.NOT_FINITE)
    return np.ascontiguousarray(rows, dtype=_VALUE[dtype]).tobytes()


def unpack_activations(data: bytes, rows: int, width: int, dtype: WireDtype) -> npt.NDArray[np.float32]:
    """The float32 [rows, width] array in `data`: a read-only view for f32, a copy for f16 and q8.

    Raises WireError(BAD_SHAPE) for a wrong length or q8 blocks that no rows are packed into, and WireError(NOT_FINITE)
    for NaN or infinity.
    """
    if len(data) != rows * dtype.row_bytes(width):
        wanted = f"{rows} rows of {width} {dtype.name.lower()} values"
        raise WireError("activations", f"has {len(data)} bytes, which are not {wanted}", ErrorCode.BAD_SHAPE)
    return _numbers(data, rows, width, dtype)


def _numbers(data: bytes, rows: int, width: int, dtype: WireDtype) -> Float32s:
    if dtype is WireDtype.Q8:
        try:
            return q8.unpack(data, rows, width)
        except q8.BadBlocks as error:
            raise _bad("activations", error) from None
    array = np.frombuffer(data, dtype=_VALUE[dtype]).reshape(rows, width)
    if not mild(array) and not np.isfinite(array).all():
        raise WireError("activations", "holds NaN or infinity", ErrorCode.NOT_FINITE)
    values: Float32s = array.astype(np.float32, copy=False)
    return values


def _bad(field: str, error: q8.BadBlocks) -> WireError:
    return WireError(
        field, f"is no q8: {error}", ErrorCode.BAD_SHAPE if error.finite else ErrorCode.NOT_FINITE
    )


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


def unpack_input(
    data: bytes, rows: int, *, first: bool, width: int, reads_tokens: bool, dtype: WireDtype
) -> Payload:
    """A step's input: token ids at the first stage, else activations, each with its token id if the model
    `reads_tokens`.

    Raises WireError: BAD_SHAPE for a wrong length, NOT_FINITE, or an id of 2^31 or more.
    """
    if first:
        return unpack_tokens(data, rows)
    if not reads_tokens:
        return unpack_activations(data, rows, width, dtype)
    residual = dtype.row_bytes(width)
    if len(data) != rows * (residual + TOKEN_BYTES):
        wanted = f"{rows} rows of {width} {dtype.name.lower()} values and a token id"
        raise WireError("input", f"has {len(data)} bytes, which are not {wanted}", ErrorCode.BAD_SHAPE)
    sent = np.frombuffer(data, np.dtype([("residual", "u1", (residual,)), ("token", "<i4")]))
    table = np.empty(rows, input_dtype(width))
    table["residual"] = _numbers(sent["residual"].tobytes(), rows, width, dtype)
    table["token"] = sent["token"]
    if len(table) and int(table["token"].min()) < 0:
        raise WireError("input", "holds something that is no token id")
    return table


def with_tokens(data: bytes, tokens: Sequence[int]) -> bytes:
    """Packed activations with the token id of each row behind it, as a model that reads both takes them."""
    rows = np.frombuffer(data, np.uint8).reshape(len(tokens), -1)
    ids = np.asarray(tokens, "<u4").view(np.uint8).reshape(len(tokens), TOKEN_BYTES)
    return np.concatenate([rows, ids], axis=1).tobytes()


def unpack_residual(data: bytes, rows: int, width: int, dtype: WireDtype) -> Float32s:
    """The activations float32 [rows, width] in the input of a later stage, whether it has token ids or not.

    Raises WireError as unpack_input does.
    """
    reads_tokens = len(data) == rows * (dtype.row_bytes(width) + TOKEN_BYTES)
    table = unpack_input(data, rows, first=False, width=width, reads_tokens=reads_tokens, dtype=dtype)
    residual: Float32s = table["residual"] if reads_tokens else table
    return residual


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
