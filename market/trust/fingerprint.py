"""A compact fingerprint of outputs: 8 bytes a row under a seed that its maker did not choose.

Each row is scaled to length one and projected on three random directions of signs; its length goes along. Two
fingerprints under one seed tell how far apart the rows are (Johnson and Lindenstrauss), and one under a seed of
one's own cannot be made without the rows. 32 rows take 264 bytes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from hypercluster.market.errors import MarketError

PROJECTIONS = 3
ROW_BYTES = 2 * (PROJECTIONS + 1)
_HEADER = b"HCF1"
_SMALLEST = 2.0**-60


class BadFingerprint(MarketError):
    """Bytes that are no fingerprint."""


def fingerprint(rows: npt.NDArray[np.float32], seed: bytes) -> bytes:
    """Return the fingerprint of finite rows, float32 [n, width]: 8 + 8 n bytes."""
    return _HEADER + len(rows).to_bytes(4, "big") + _values(rows, seed).astype("<f2").tobytes()


def distance(data: bytes, rows: npt.NDArray[np.float32], seed: bytes) -> float:
    """Return about how far rows, float32 [n, width], are from those that were fingerprinted.

    It estimates the root mean square over the rows of |difference| / |row|; over 32 rows to about 15 %.

    Raises:
        BadFingerprint: the bytes are malformed, hold no finite numbers, or are of another number of rows.
    """
    theirs = _read(data)
    if len(theirs) != len(rows):
        raise BadFingerprint(f"The fingerprint is of {len(theirs)} rows, not of {len(rows)}.")
    own = _values(rows, seed).astype("<f2").astype(np.float64)
    directions = ((theirs[:, 1:] - own[:, 1:]) ** 2).sum(axis=1) / PROJECTIONS
    lengths = (np.log(2.0) * (theirs[:, 0] - own[:, 0])) ** 2
    return float(np.sqrt((directions + lengths).mean()))


def digest(data: bytes) -> bytes:
    """Return SHA-256 of a fingerprint, 32 bytes, as verdicts and votes hold it."""
    return hashlib.sha256(data).digest()


def seed_of(*parts: bytes) -> bytes:
    """Return the seed for a verifier and an occasion, 32 bytes."""
    return hashlib.sha256(b"hypercluster-fingerprint-v1:" + b"".join(parts)).digest()


def _values(rows: npt.NDArray[np.float32], seed: bytes) -> npt.NDArray[np.float64]:
    """Binary logarithm of the length, and the projections of the direction, float64 [n, 4]."""
    count, width = rows.shape
    length = np.maximum(np.linalg.norm(rows.astype(np.float64), axis=1), _SMALLEST)
    bits = np.frombuffer(hashlib.shake_256(seed).digest((PROJECTIONS * width + 7) // 8), np.uint8)
    signs = np.unpackbits(bits)[: PROJECTIONS * width].reshape(PROJECTIONS, width) * 2.0 - 1.0
    values = np.empty((count, PROJECTIONS + 1))
    values[:, 0] = np.log2(length)
    values[:, 1:] = (rows / length[:, None]) @ signs.T
    return values


def _read(data: bytes) -> npt.NDArray[np.float64]:
    body = data[8:]
    if data[:4] != _HEADER or len(body) != ROW_BYTES * int.from_bytes(data[4:8], "big") or not body:
        raise BadFingerprint("The bytes are no fingerprint: wrong header or length.")
    values = np.frombuffer(body, "<f2").astype(np.float64).reshape(-1, PROJECTIONS + 1)
    if not np.isfinite(values).all():
        raise BadFingerprint("The fingerprint holds values that are not finite.")
    return values
