"""Merkle trees over the rows of a step: RFC 9162, section 2.1, with SHA-256.

A root commits to every row of a step's input or output. Whoever holds the rows can show one of them with a proof
of a few hashes, which the contract checks with the EVM's SHA-256 precompile.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from hypercluster.market.errors import MarketError


class BadProof(MarketError):
    """A Merkle proof was asked for a row that is not there."""


def root(rows: Sequence[bytes]) -> bytes:
    """Return the tree's root, 32 bytes; a single row, the common case, costs one hash.

    Raises BadProof for no rows at all.
    """
    if not rows:
        raise BadProof("A tree has at least one row.")
    return root_of_hashes([_leaf(row) for row in rows])


def proof(rows: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from row ``index`` to the root, the nearest first (RFC 9162, 2.1.3.1).

    Raises BadProof for an index beyond the rows.
    """
    if not 0 <= index < len(rows):
        raise BadProof(f"There is no row {index} among {len(rows)}.")
    hashes = [_leaf(row) for row in rows]
    path: list[bytes] = []
    while len(hashes) > 1:
        split = _split(len(hashes))
        if index < split:
            path.append(root_of_hashes(hashes[split:]))
            hashes = hashes[:split]
        else:
            path.append(root_of_hashes(hashes[:split]))
            hashes, index = hashes[split:], index - split
    return path[::-1]


def verify(row: bytes, index: int, size: int, path: Sequence[bytes], expected: bytes) -> bool:
    """Say whether ``row`` is row ``index`` of the ``size`` rows under the root ``expected`` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, _leaf(row)
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = _node(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = _node(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == expected


def split_rows(data: bytes, rows: int) -> list[bytes]:
    """Cut row-major data into its ``rows`` equal rows. Raises BadProof if it does not divide."""
    width, rest = divmod(len(data), rows) if rows > 0 else (0, 1)
    if rest or not width:
        raise BadProof(f"{len(data)} bytes are not {rows} rows of the same length.")
    if rows == 1:
        return [data]
    return [data[at : at + width] for at in range(0, len(data), width)]


def _leaf(row: bytes) -> bytes:
    return sha256(b"\0" + row).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of rows (`sha256(0x00 || row)`), of which there is at least one."""
    # Level by level: an odd one out moves up, which gives the tree of the RFC's recursion.
    level = list(hashes)
    while len(level) > 1:
        pairs = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]
    return level[0]
