"""Who serves and who pays: a ledger, a wallet with money, and an operator that nobody has paid yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Ledger
from tests.node.helpers.providers import Wallet, new_wallet


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def wallet(chain: Chain) -> Wallet:
    return new_wallet(chain)


@pytest.fixture
def operator() -> str:
    return str(Accounts.create().address)
