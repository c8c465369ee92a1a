"""Rollups, as far as our programs see them: what stands at the addresses that tell them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, deploy
from hypercluster.market.chain.channels import SETTLE_BYTES, SETTLE_ROW_BYTES
from hypercluster.market.chain.rollups import ARBITRUM_SYSTEM, OP_FEES
from hypercluster.market.errors import ChainError
from tests.market.chain.blocks import ask

GWEI_A_BYTE = "0x36633b9aca000260005260206000f3"
"""code that answers the length of its calldata in bytes, times 10^9"""


@contextmanager
def standing(chain: Chain, address: str, code: str) -> Iterator[None]:
    ask(chain, "anvil_setCode", address, code)
    try:
        yield
    finally:
        ask(chain, "anvil_setCode", address, "0x")


def test_arbitrum_is_refused_before_anything_is_sent(chain: Chain, accounts: list[LocalAccount]) -> None:
    before = chain.block_number()
    with (
        standing(chain, ARBITRUM_SYSTEM, "0xfe"),
        pytest.raises(ChainError, match="Arbitrum chains are not supported"),
    ):
        deploy(chain.url, accounts[0])
    assert chain.block_number() == before


def test_data_on_the_l1_counts_in_what_claims_cost(chain: Chain) -> None:
    plain = chain.channels.settle_cost()
    with standing(chain, OP_FEES, GWEI_A_BYTE):
        dear = Chain(chain.url, chain.deployment).channels.settle_cost()
    assert dear.row_wei - plain.row_wei == SETTLE_ROW_BYTES * 10**9
    head = 4 + 2 * 32
    padded = (SETTLE_BYTES + 31) // 32 * 32
    assert dear.base_wei - plain.base_wei == (head + padded) * 10**9
