"""Tokens of others that could be what the market is paid in, and some that could not."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from hypercluster.market.chain import Sender

ROOT = Path(__file__).parents[3]
SOURCE = Path(__file__).parent / "Tokens.sol"


def create(sender: Sender, name: str) -> str:
    """Deploy one of Tokens.sol; all of it belongs to the sender. Returns its address."""
    made = _compiled()[name]
    mined = sender.transact(f"to deploy {name}", None, "0x" + made["evm"]["bytecode"]["object"])
    assert mined.contract is not None
    return mined.contract


@cache
def _compiled() -> dict[str, Any]:
    question = {
        "language": "Solidity",
        "sources": {"Tokens.sol": {"content": SOURCE.read_text()}},
        "settings": {
            "evmVersion": "cancun",
            "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
        },
    }
    answer = subprocess.run(
        ["node", ROOT / "contracts" / "solc.js", "--standard-json"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(answer.stdout)
    assert "contracts" in told, told["errors"]
    contracts: dict[str, Any] = told["contracts"]["Tokens.sol"]
    return contracts
