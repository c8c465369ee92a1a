"""What the bindings of all contracts share: reading a view, sending a call, decoding a log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from eth_utils.abi import event_abi_to_log_topic
from web3.contract import Contract as Web3Contract
from web3.types import LogReceipt

from hypercluster.contracts import artifact
from hypercluster.market.chain.patience import RateLimited
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender, Sent
from hypercluster.market.errors import ChainError
from hypercluster.market.money.signing import NOBODY, checksum

log = logging.getLogger(__name__)


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

    def decoded(self, log: LogReceipt) -> tuple[str, dict[str, Any]]:
        """Return the name and the fields of an event that this contract logged."""
        name = self._events[bytes(log["topics"][0])]
        return name, dict(self._contract.events[name]().process_log(log)["args"])

    def named(self, other: str) -> str:
        """Return the address that a view without arguments gives, such as that of the token. Raises ChainError."""
        return checksum(self._read(other))

    def _topic(self, event: str) -> str:
        return "0x" + next(topic for topic, name in self._events.items() if name == event).hex()

    def _read(self, function: str, *arguments: object, block: int | None = None) -> Any:
        """The answer of a view, as of the end of a block; the latest one if None."""
        with self.rpc.clear_errors(f"to read {function} of {self.artifact_name}"):
            call = self._contract.functions[function](*arguments)
            return call.call(block_identifier="latest" if block is None else block)

    def _read_many(self, calls: Sequence[tuple[object, ...]]) -> list[Any]:
        """Several views in one request: (function, arguments ...) each. Nodes without batches are asked one by one."""
        if len(calls) > 1:
            try:
                action = f"to read {self.artifact_name}"
                with self.rpc.clear_errors(action), self.rpc.web3.batch_requests() as batch:
                    for function, *arguments in calls:
                        batch.add(self._contract.functions[str(function)](*arguments))
                    return list(batch.execute())
            except RateLimited:
                raise
            except ChainError as error:
                log.debug("no batch of calls: %s", error)
        return [self._read(str(function), *arguments) for function, *arguments in calls]

    def _send(self, sender: Sender, action: str, function: str, *arguments: object) -> Mined:
        return sender.transact(action, self.address, self._contract.encode_abi(function, args=arguments))

    def _submit(self, sender: Sender, action: str, function: str, *arguments: object) -> Sent:
        return sender.submit(action, self.address, self._contract.encode_abi(function, args=arguments))

    @cached_property
    def _events(self) -> dict[bytes, str]:
        """Names of the events by their topics."""
        abis = [entry for entry in self._contract.abi if entry["type"] == "event"]
        return {bytes(event_abi_to_log_topic(abi)): str(abi["name"]) for abi in abis}


def somebody(address: str) -> str | None:
    """Return an address from the chain in EIP-55, None for the zero address."""
    return None if address == NOBODY else checksum(address)
