"""Reading logs over many blocks, from nodes that give few at once."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from web3.types import FilterParams, LogReceipt

from hypercluster.market.chain.patience import Malformed
from hypercluster.market.errors import ChainError, NodeUnreachable

if TYPE_CHECKING:
    from hypercluster.market.chain.rpc import Rpc

log = logging.getLogger(__name__)

MOST_BLOCKS = 2000
"""in one query, until a node refuses that"""
AGAIN_BLOCKS = 64
"""that are read again at every look: they may have been replaced, or be of a node that knew less than another"""
SURE = 3
"""so often the same is read about the same blocks before it is believed"""
BELIEVED_SECONDS = 20.0
"""for which it is then, as long as the latest block stays the latest"""
MOST_REMEMBERED = 16


@dataclass(frozen=True, slots=True)
class _Answer:
    tip: bytes
    logs: list[LogReceipt]
    times: int
    at: float


class ReadLogs:
    """What was read of the latest blocks: while no block comes, who looks every few seconds need not read them again.

    Only what several readings in a row agreed upon, as a node behind the others may know less at first.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, question: str, tip: bytes) -> list[LogReceipt] | None:
        """The answer to a question about the blocks up to the one with this hash; None where it has to be asked."""
        with self._lock:
            found = self._answers.get(question)
        sure = found is not None and found.tip == tip and found.times >= SURE
        return list(found.logs) if found and sure and time.monotonic() < found.at + BELIEVED_SECONDS else None

    def note(self, question: str, tip: bytes, logs: Sequence[LogReceipt]) -> None:
        """Note an answer."""
        with self._lock:
            before = self._answers.pop(question, None)
            agreed = before is not None and (before.tip, before.logs) == (tip, list(logs))
            times = before.times + 1 if before and agreed else 1
            self._answers[question] = _Answer(tip, list(logs), times, time.monotonic())
            while len(self._answers) > MOST_REMEMBERED:
                self._answers.popitem(last=False)


def again_from(next_block: int) -> int:
    """Where to read from at the next look, when `next_block` is the first block that was not read yet.

    Whoever reads again sees events again, and goes by their ids.
    """
    return max(0, next_block - AGAIN_BLOCKS)


def logs_of(rpc: Rpc, first: int, tip: tuple[int, bytes], wanted: Sequence[FilterParams]) -> list[LogReceipt]:
    """The logs of the blocks from `first` up to the latest, of which `tip` is number and hash, that any of the filters
    wants.

    Where the node refuses a query, half as many blocks are asked for, then and later. Raises ChainError.
    """
    last, latest = tip
    question = f"{first} {last} {wanted}"
    known = rpc.read_logs.known(question, latest)
    if known is not None:
        return known
    found: list[LogReceipt] = []
    while first <= last:
        many = rpc.blocks_per_query
        until = min(first + many - 1, last)
        some: list[LogReceipt] = []
        try:
            for each in wanted:
                query: FilterParams = {**each, "fromBlock": first, "toBlock": until}
                with rpc.clear_errors("to list events"):
                    some += rpc.web3.eth.get_logs(query)
        except ChainError as error:
            asked = until - first + 1
            lost = isinstance(error, NodeUnreachable) and not isinstance(error, Malformed)
            if lost or asked == 1:
                raise
            rpc.blocks_per_query = min(many, asked) // 2
            log.info("events of %d blocks at once are refused, %d are asked for", asked, rpc.blocks_per_query)
            continue
        found += some
        first = until + 1
    rpc.read_logs.note(question, latest, found)
    return found
