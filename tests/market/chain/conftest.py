"""Blocks that are mined only when asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hypercluster.market.chain import Chain
from tests.market.chain.blocks import ask


@pytest.fixture(scope="module")
def snapshot(chain: Chain) -> Iterator[None]:
    """The chain is put back behind these tests: they move its clock by days."""
    taken = chain.web3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    yield
    chain.web3.provider.make_request("evm_revert", [taken])  # type: ignore[arg-type]


@pytest.fixture
def by_hand(chain: Chain) -> Iterator[None]:
    """Blocks are mined only when asked for; afterwards the base fee is as it was."""
    ask(chain, "evm_setAutomine", False)
    yield
    ask(chain, "anvil_setNextBlockBaseFeePerGas", "0x3b9aca00")
    ask(chain, "evm_mine")
    ask(chain, "evm_setAutomine", True)
