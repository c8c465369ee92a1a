"""Compiled contracts: interface and bytecode of each, as committed in `artifacts/`."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ARTIFACTS = Path(__file__).parent / "artifacts"

__all__ = ["Artifact", "artifact"]


@dataclass(frozen=True)
class Artifact:
    """A compiled contract.

    `bytecode` creates it, followed by the ABI-encoded constructor arguments. `deployed_bytecode` is what then
    lies on chain, with zeros in place of its immutables. Both are 0x-prefixed hex.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str


@cache
def artifact(name: str) -> Artifact:
    """Return the artifact of the contract `name`, e.g. "PaymentChannels".

    Raises KeyError for a name that is not there.
    """
    path = _ARTIFACTS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _ARTIFACTS.glob("*.json")))
        raise KeyError(f"no contract is named {name}; there are {known}")
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Artifact(
        name=fields["contractName"],
        abi=fields["abi"],
        bytecode=fields["bytecode"],
        deployed_bytecode=fields["deployedBytecode"],
    )
