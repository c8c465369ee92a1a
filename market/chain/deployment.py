"""Where the contracts live: one small JSON file that every participant of a market shares."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hypercluster.market.errors import ChainError, InvalidAddress, InvalidAmount
from hypercluster.market.money.signing import checksum
from hypercluster.market.money.units import DECIMALS, SYMBOL, Unit, check_decimals, check_symbol

CONTRACTS = ("token", "registry", "channels", "cases", "proofs", "demands")
"""fields of a deployment that are addresses"""


@dataclass(frozen=True)
class Deployment:
    """The chain, the EIP-55 addresses of the contracts on it, and the block they were deployed in."""

    chain_id: int
    token: str
    registry: str
    channels: str
    cases: str
    proofs: str
    demands: str
    block: int = 0
    code: dict[str, str] = field(default_factory=dict, compare=False)
    """Keccak-256 of the code of each contract (64 hex digits) by its field; files of older versions have none"""

    decimals: int = DECIMALS
    """of the token"""

    symbol: str = SYMBOL
    """of the token, as programs write it"""

    def __post_init__(self) -> None:
        check_decimals(self.decimals)
        check_symbol(self.symbol)
        for name in CONTRACTS:
            object.__setattr__(self, name, checksum(getattr(self, name)))

    @property
    def unit(self) -> Unit:
        """What amounts are counted and written in."""
        return Unit(self.decimals, self.symbol)

    def save(self, path: Path) -> None:
        """Write the file in one move: a reader sees the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Read the file.

        Raises:
            ChainError: it is missing, or not such a file.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
            values.setdefault("code", {})
            values.setdefault("decimals", DECIMALS)
            values.setdefault("symbol", SYMBOL)
            known = {each.name: values[each.name] for each in fields(cls)}
            _check_code(known["code"])
            if not isinstance(known["chain_id"], int) or not isinstance(known["block"], int):
                raise TypeError("a number is not a number")
            return cls(**known)
        except FileNotFoundError:
            raise ChainError(f"There is no deployment file {path}: deploy the contracts first.") from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            InvalidAddress,
            InvalidAmount,
        ) as error:
            raise ChainError(
                f"The deployment file {path} cannot be used: {_what_is_wrong(error)}. Take the file that "
                "`hc-testnet up` or the deployment of the contracts wrote."
            ) from error


def _check_code(code: dict[str, str]) -> None:
    if not isinstance(code, dict):
        raise TypeError("no hashes")
    if code and code.keys() != set(CONTRACTS):
        raise KeyError("code of each contract")
    if not all(re.fullmatch("[0-9a-f]{64}", digits) for digits in code.values()):
        raise ValueError("no hash")


def _what_is_wrong(error: Exception) -> str:
    match error:
        case OSError(strerror=str(text)):
            return text
        case KeyError(args=(str(name),)):
            return f"it does not say {name!r}"
        case InvalidAddress() | InvalidAmount():
            return str(error).removesuffix(".")
        case json.JSONDecodeError():
            return f"it is no JSON ({error})"
        case UnicodeError():
            return "it is no text"
    return "it is no such document, or holds something of another kind than it should"
