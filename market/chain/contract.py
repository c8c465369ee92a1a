"""What the bindings of all contracts share: reading a view, sending a call."""

from __future__ import annotations

from typing import Any

from web3.contract import Contract as Web3Contract

from hypercluster.contracts import artifact
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Receipt, Sender
from hypercluster.market.money.signing import checksum


class Contract:
    """A deployed contract with the ABI of one of our artifacts."""

    artifact_name: str

    def __init__(self, rpc: Rpc, address: str) -> None:
        self.rpc = rpc
        self.address = checksum(address)
        self.abi = artifact(self.artifact_name).abi
        self._contract: Web3Contract = rpc.web3.eth.contract(
            address=rpc.web3.to_checksum_address(self.address), abi=self.abi
        )

    def _read(self, function: str, *arguments: object) -> Any:
        with self.rpc.clear_errors(f"to read {function} of {self.artifact_name}"):
            return self._contract.functions[function](*arguments).call()

    def _send(self, sender: Sender, action: str, function: str, *arguments: object) -> Receipt:
        return sender.transact(action, self.address, self._contract.encode_abi(function, args=arguments))
