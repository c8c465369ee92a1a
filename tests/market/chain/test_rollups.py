"""Rollups, as far as our programs see them: what stands at the addresses that tell them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from eth_account.signers.local import LocalAccount
from eth_typing import HexStr

from hypercluster.market.chain import Chain, Sender, deploy
from hypercluster.market.chain.channels import (
    OPEN_BYTES,
    OPEN_ROW_BYTES,
    SETTLE_BYTES,
    SETTLE_ROW_BYTES,
    TOP_UP_BYTES,
)
from hypercluster.market.chain.rollups import ARBITRUM_SYSTEM, OP_FEES
from hypercluster.market.chain.sender import Mined
from hypercluster.market.errors import ChainError
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor
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


def test_data_on_the_l1_counts_in_what_funding_costs(chain: Chain) -> None:
    """A wallet that could pay the gas alone is told before it sends."""
    with standing(chain, OP_FEES, GWEI_A_BYTE):
        dear = Chain(chain.url, chain.deployment).channels
        data = {
            each: dear.funding_cost_wei(*each) - chain.channels.funding_cost_wei(*each)
            for each in ((0, 0), (1, 0), (3, 0), (0, 2), (3, 2))
        }
    gwei = 10**9
    assert data[0, 0] == 0
    assert data[3, 0] - data[1, 0] == 2 * OPEN_ROW_BYTES * gwei
    assert data[1, 0] >= (OPEN_BYTES + OPEN_ROW_BYTES) * gwei
    assert data[0, 2] >= 2 * TOP_UP_BYTES * gwei
    assert data[3, 2] == data[3, 0] + data[0, 2]


def test_the_bytes_of_funding_are_those_of_its_transactions(
    chain: Chain, accounts: list[LocalAccount]
) -> None:
    sender = Sender(chain, accounts[0])
    openings = [
        (ChannelDescriptor(sender.address, accounts[8].address, accounts[9].address, os.urandom(32)), HCT)
        for _ in range(3)
    ]

    def size(mined: Mined) -> int:
        return len(chain.web3.eth.get_raw_transaction(HexStr(mined.transaction)))

    opened = size(chain.channels.open_many(sender, openings))
    topped_up = size(chain.channels.top_up(sender, openings[0][0], HCT))
    assert opened == pytest.approx(OPEN_BYTES + 3 * OPEN_ROW_BYTES, abs=20)
    assert topped_up == pytest.approx(TOP_UP_BYTES, abs=20)
