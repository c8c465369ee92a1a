"""Two verdicts of one verifier on two sets of rows, as `proveContradiction` takes them."""

import struct
from collections.abc import Sequence
from typing import Any

from tests.contracts.court import Court, tree_path, tree_root
from tests.contracts.kinds import Account, Call

F32, F16 = 1, 2


def pack(values: Sequence[float], encoding: int = F32) -> bytes:
    return struct.pack(f"<{len(values)}{'f' if encoding == F32 else 'e'}", *values)


GOOD = [pack([float(row + column + 1) for column in range(12)]) for row in range(5)]
BAD = [*GOOD[:3], pack([-1.0] * 12), GOOD[4]]


def contradiction(court: Court) -> Call:
    """Arguments of a proof over two sets of rows; what the verdicts say else, and who signs the second."""

    def proof(
        first: Any = GOOD,
        second: Any = BAD,
        row: int = 3,
        second_by: Account | None = None,
        by: Account | None = None,
        second_says: Any = (),
        **says: Any,
    ) -> list[Any]:
        a = court.verdict(outRoot=tree_root(first), outputs=len(first), **says)
        b = a | {"outRoot": tree_root(second), "job": b"k" * 32} | dict(second_says)
        return [
            tuple(a.values()),
            court.sign_verdict(a, by),
            tuple(b.values()),
            court.sign_verdict(b, second_by or by),
            row,
            first[row],
            tree_path(first, row),
            second[row],
            tree_path(second, row),
        ]

    return proof
