"""What programs keep in a home: how much each store may take there, and what happens when it is full."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypercluster.node.home.settings import EVIDENCE, LEDGER, PEERS, TRANSCRIPTS, VOUCHERS

GIB, MIB = 2**30, 2**20
NEARLY = 0.9
"""share of its bound from which on a store is told of"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One store: files in a home by their patterns, `most` bytes of them as long as `option` says nothing else."""

    name: str
    files: tuple[str, ...]
    most: int
    full: str
    """what happens then"""
    option: str = ""

    def taken(self, home: Path) -> int:
        """Bytes that it takes in a home; files that go meanwhile count nothing."""
        return sum(map(_size, {path for pattern in self.files for path in home.glob(pattern)}))

    def sentence(self, taken: int) -> str | None:
        """What to say of a store that is nearly full, or None."""
        if taken < NEARLY * self.most:
            return None
        unless = f", unless {self.option} says otherwise" if self.option else ""
        return f"The {self.name} take {size(taken)} of {size(self.most)}{unless}. When they are full, {self.full}."


STORES = (
    Store(
        name="ledger's rows",
        files=(f"{LEDGER}*",),
        most=2 * GIB,
        full="the oldest sessions, requests, adverts, prices and audits are dropped, and never what is owed",
    ),
    Store(
        name="transcripts of a provider",
        files=(f"{TRANSCRIPTS}/provider/*",),
        most=4 * GIB,
        full="no session opens until the oldest may go",
        option="--keep-transcripts",
    ),
    Store(
        name="transcripts of a client",
        files=(f"{TRANSCRIPTS}/client/*",),
        most=2 * GIB,
        full="the oldest go, and what is gone cannot be audited or disputed",
    ),
    Store(
        name="transcripts of cases",
        files=(f"{EVIDENCE}/*",),
        most=16 * GIB,
        full="no more evidence is taken until the oldest may go",
    ),
    Store(
        name="receipts of requests",
        files=("receipts/*/*",),
        most=512 * MIB,
        full="those of the oldest day go",
    ),
    Store(
        name="vouchers of requests under way",
        files=(f"{VOUCHERS}*",),
        most=64 * MIB,
        full="requests go on, and after a kill the providers' books would have to tell what was spent",
    ),
    Store(
        name="peers and adverts remembered",
        files=(PEERS,),
        most=16 * MIB,
        full="the ones met longest ago are forgotten",
    ),
    Store(
        name="logs of a network of one's own",
        files=("log", "*/log", "testnet/*/log"),
        most=160 * MIB,
        full="each is emptied when it is longer than 16 MiB, as its node is started or looked at",
    ),
)


def size(taken: int) -> str:
    """Bytes for people."""
    return f"{taken / GIB:.1f} GiB" if taken >= GIB else f"{taken / MIB:.0f} MiB"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
