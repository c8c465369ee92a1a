"""Whose word it is what the names of models stand for: one signature over all models of a network's profile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import coincurve

from hypercluster.market.errors import InvalidAddress, InvalidAmount, InvalidSignature
from hypercluster.market.money.signing import (
    address_of,
    checksum,
    domain_separator,
    keccak,
    recover_compact,
    sign_compact,
    uint,
)
from hypercluster.node.catalogue import BadCatalogue, ListedModel

_TYPE = keccak(b"Names(bytes32 models,uint64 issued)")


@dataclass(frozen=True, slots=True)
class SignedNames:
    """Who signed (EIP-55 address), when (Unix seconds), and the compact signature, 64 bytes."""

    signer: str
    issued: int
    signature: bytes

    def check(self, models: Sequence[ListedModel], chain_id: int, registry: str) -> None:
        """Raise BadCatalogue unless it is over these models of the network with this registry."""
        try:
            signer = recover_compact(_digest(models, self.issued, chain_id, registry), self.signature)
        except (InvalidSignature, InvalidAmount) as error:
            raise BadCatalogue(f"the signature of its models is none: {error}") from None
        if signer != self.signer:
            raise BadCatalogue(
                f"its models are not those that {self.signer} signed for this network: somebody changed them."
            )

    def document(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"signer": self.signer, "issued": self.issued, "signature": "0x" + self.signature.hex()}

    @classmethod
    def parse(cls, told: dict[str, Any] | None) -> SignedNames | None:
        """Read a document; None where nobody signed. Raises BadCatalogue."""
        if told is None:
            return None
        issued, signature = told["issued"], told["signature"]
        if type(issued) is not int or not 0 <= issued < 2**63:
            raise BadCatalogue("when its models were signed is no number of seconds.")
        try:
            return cls(checksum(told["signer"]), issued, bytes.fromhex(str(signature).removeprefix("0x")))
        except (ValueError, InvalidAddress) as error:
            raise BadCatalogue(f"the signature of its models is none: {error}") from None


def sign_names(
    key: coincurve.PrivateKey, models: Sequence[ListedModel], issued: int, chain_id: int, registry: str
) -> SignedNames:
    """Sign what the names of these models stand for in the network with this registry."""
    return SignedNames(
        address_of(key), issued, sign_compact(key, _digest(models, issued, chain_id, registry))
    )


def _digest(models: Sequence[ListedModel], issued: int, chain_id: int, registry: str) -> bytes:
    """EIP-712; where a file comes from is left out, as every file is compared with the model id."""
    told = [
        [each.name, list(each.aliases), each.model_id, each.layers, each.n_vocab, each.context, each.about]
        for each in models
    ]
    canonical = json.dumps(told, separators=(",", ":"), ensure_ascii=True).encode()
    struct = keccak(_TYPE + hashlib.sha256(canonical).digest() + uint(issued, 64))
    return keccak(b"\x19\x01" + domain_separator("HyperCluster names", "1", chain_id, registry) + struct)
