"""Reading logs over many blocks, from nodes that give few at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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


def again_from(next_block: int) -> int:
    """Where to read from at the next look, when `next_block` is the first block that was not read yet.

    Whoever reads again sees events again, and goes by their ids.
    """
    return max(0, next_block - AGAIN_BLOCKS)


def logs_of(rpc: Rpc, first: int, last: int, wanted: Sequence[FilterParams]) -> list[LogReceipt]:
    """The logs of blocks `first` to `last`, both included, that any of the filters wants.

    Where the node refuses a query, half as many blocks are asked for, then and later. Raises ChainError.
    """
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
    return found
