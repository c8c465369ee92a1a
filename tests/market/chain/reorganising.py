"""Having Anvil take blocks back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypercluster.market.chain import Chain
from tests.market.chain.blocks import ask


@contextmanager
def replaced(chain: Chain, blocks: int = 3) -> Iterator[None]:
    """What happens on the chain within the block is taken back at its end, and as if it never had happened so many
    other blocks follow.
    """
    taken = ask(chain, "evm_snapshot")
    yield
    height = chain.block_number()
    assert ask(chain, "evm_revert", taken)
    while chain.block_number() < height + blocks:
        ask(chain, "evm_mine")
