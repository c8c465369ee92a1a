"""An Ethereum node behind an HTTP URL, with every failure turned into a sentence."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any, NoReturn

from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    BadResponseFormat,
    BlockNotFound,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import ExtraDataToPOAMiddleware
from web3.types import RPCEndpoint, TxReceipt

from hypercluster.market.chain.logs import MOST_BLOCKS, ReadLogs
from hypercluster.market.chain.patience import PatientProvider
from hypercluster.market.chain.reverts import reverted
from hypercluster.market.errors import ChainError, InsufficientFunds, NodeUnreachable
from hypercluster.market.money.signing import checksum
from hypercluster.market.money.units import format_coin
from hypercluster.market.redaction import redact

TEST_CHAINS = (1337, 31337)
"""ids of chains that live on one machine, and do not reorganise"""
CONFIRMATIONS = 12
"""blocks that a deposit waits for elsewhere, unless it is said"""
_HASH_BYTES = 32
TOGETHER_SECONDS = 0.05
"""within which several that look at the chain at the same time share one question for its latest block"""


def tip_in(block: dict[str, Any]) -> tuple[int, bytes]:
    """Number and hash, 32 bytes, in what a node answers for a block. Raises ValueError, TypeError, LookupError."""
    number, name = int(block["number"], 16), bytes.fromhex(block["hash"].removeprefix("0x"))
    if not 0 <= number < 1 << 64 or len(name) != _HASH_BYTES:
        raise ValueError("a block has a number of 64 bits and a hash of 32 bytes")
    return number, name


class Rpc:
    """A connection to a node; may be used from several threads.

    Args:
        url: HTTP or HTTPS address of the node's JSON-RPC; or several, separated by commas, of which one is used until
            it fails.
        chain_id: the chain it must speak for; any if None.
        confirmations: blocks that have to follow one before what is in it counts as final; None for CONFIRMATIONS,
            and for none on chains of one machine.

    Raises:
        NodeUnreachable: no answer, or the answer of another chain; RateLimited: too many requests.
    """

    def __init__(self, url: str, chain_id: int | None = None, confirmations: int | None = None) -> None:
        self.url = url
        self.blocks_per_query = MOST_BLOCKS
        """of logs; lower once a node refused so many"""
        self.read_logs = ReadLogs()
        self._one_tip = threading.Lock()
        self._tip: tuple[float, tuple[int, bytes]] = (-math.inf, (0, b""))
        self._provider = PatientProvider(url)
        self.web3 = Web3(self._provider)
        self.web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)  # harmless on other chains
        with self.clear_errors("to name its chain"):
            self.chain_id = int(self.web3.eth.chain_id)
        if chain_id not in (None, self.chain_id):
            raise NodeUnreachable(
                f"The node at {self.place} speaks for chain {self.chain_id} and chain {chain_id} is needed: "
                "give the URL of a node of that chain."
            )
        self._provider.chain_id = self.chain_id
        usual = 0 if self.chain_id in TEST_CHAINS else CONFIRMATIONS
        self.confirmations = usual if confirmations is None else confirmations

    @property
    def place(self) -> str:
        """The URL that is in use, as it may be shown."""
        return self._provider.place

    @contextmanager
    def clear_errors(self, action: str, payer: str | None = None) -> Iterator[None]:
        """Turn what web3 raises within the block into a ChainError.

        Args:
            action: what was tried ("to settle a channel").
            payer: the account that pays for it, to be named if it is empty.
        """
        try:
            yield
        except ContractLogicError as error:
            raise reverted(action, error.data, str(error.message)) from error
        except Web3RPCError as error:
            self._refused(action, payer, error)
        except BadFunctionCallOutput as error:
            raise ChainError(
                f"The contract asked {action} is not on chain {self.chain_id}: "
                "the deployment file is of another chain, or of one that was reset."
            ) from error
        except (OSError, BadResponseFormat, JSONDecodeError) as error:  # requests' errors are OSErrors
            raise NodeUnreachable(
                f"{self.place} answers, but not as an Ethereum node ({type(error).__name__}): correct HC_RPC_URL."
            ) from None
        except Web3Exception as error:
            said = redact(str(error)).rstrip(".")
            raise ChainError(f"The node at {self.place} gave no usable answer {action}: {said}.") from None
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            # What came is JSON-RPC, and not what was asked for: web3 looks at it when it makes values of it.
            raise NodeUnreachable(
                f"{self.place} answers, but not as an Ethereum node ({action} it sends what cannot be read): "
                "correct HC_RPC_URL, or set it to another node."
            ) from error

    def _refused(self, action: str, payer: str | None, error: Web3RPCError) -> NoReturn:
        response: dict[str, Any] = dict(error.rpc_response or {})
        details = response.get("error")
        message = str(details.get("message", "")) if isinstance(details, dict) else str(error.message)
        if "insufficient funds" in message.lower():
            holds = (
                f"{payer} holds {format_coin(self.balance(payer))} coin" if payer else "The account is empty"
            )
            raise InsufficientFunds(
                f"{holds}, too little for the gas {action}: send it some of the chain's coin."
            ) from error
        data = details.get("data") if isinstance(details, dict) else None
        if "revert" in message.lower():
            raise reverted(action, data, message) from error
        raise ChainError(f"The node refused {action}: {message}.") from error

    def block_number(self) -> int:
        """Return the number of the latest block."""
        with self.clear_errors("to name its latest block"):
            return int(self.web3.eth.block_number)

    def tip(self, *, within: float = 0.0) -> tuple[int, bytes]:
        """Return number and hash of the latest block, as of now or of so many seconds ago at most."""
        began = time.monotonic()
        with self._one_tip:
            at, tip = self._tip
            if at < began - within:
                at = time.monotonic()
                block = self._latest()
                with self.clear_errors("to show its latest block"):
                    tip = tip_in(block)
                self._tip = at, tip
            return tip

    def _latest(self) -> dict[str, Any]:
        """The latest block as the node sends it: it is asked for every few seconds, and web3's values cost as much as
        the question.
        """
        with self.clear_errors("to show its latest block"):
            block = self.raw_block("latest")
            if block is None:
                self.web3.eth.get_block("latest")  # raises what there is to say of it
                raise ValueError
            return block

    def raw_block(self, which: str) -> dict[str, Any] | None:
        """A block as the node sends it, by its number in hex or a word for it; None where what comes is none.

        Raises what web3 does: see `clear_errors`.
        """
        answer = self._provider.make_request(RPCEndpoint("eth_getBlockByNumber"), [which, False])
        block = answer.get("result")
        return block if isinstance(block, dict) else None

    def block_hash(self, number: int) -> bytes | None:
        """Return the hash of the block of that number, None where the node has none (yet)."""
        with self.clear_errors("to show a block"):
            try:
                return bytes(self.web3.eth.get_block(number)["hash"])
            except BlockNotFound:
                return None

    def confirmed_block(self) -> int:
        """Return the number of the latest block that as many followed as `confirmations` wants."""
        return max(0, self.block_number() - self.confirmations)

    def timestamp(self) -> int:
        """Return the time of the latest block, unix seconds."""
        block = self._latest()
        with self.clear_errors("to show its latest block"):
            return int(block["timestamp"], 16)

    def balance(self, address: str) -> int:
        """Return an account's balance of the chain's own coin, in wei."""
        with self.clear_errors("to look up a balance"):
            return int(self.web3.eth.get_balance(self.web3.to_checksum_address(checksum(address))))

    def code_hashes(self, addresses: Sequence[str]) -> list[str]:
        """Return the Keccak-256 of the code at each address, 64 hex digits."""
        with self.clear_errors("to show a contract's code"):
            codes = [self.web3.eth.get_code(self.web3.to_checksum_address(each)) for each in addresses]
        return [keccak(code).hex() for code in codes]

    def fees(self) -> tuple[int, int]:
        """Return (max fee, priority fee) per gas in wei for a transaction now (EIP-1559).

        The maximum leaves room for the base fee to double.
        """
        with self.clear_errors("to name its fees"):
            tip = int(self.web3.eth.max_priority_fee)
            base = int(self.web3.eth.fee_history(1, "latest", [])["baseFeePerGas"][-1])
            return 2 * base + tip, tip

    def gas_price(self) -> int:
        """Return what one gas costs about now, in wei: base fee and priority fee."""
        with self.clear_errors("to name its gas price"):
            return int(self.web3.eth.gas_price)

    def receipt(self, transaction: bytes) -> TxReceipt | None:
        """Return the receipt of a transaction hash, None while it is not mined."""
        with self.clear_errors("to show a receipt"):
            try:
                return self.web3.eth.get_transaction_receipt(transaction)  # type: ignore[arg-type]
            except TransactionNotFound:
                return None

    def knows(self, transaction: bytes) -> bool:
        """Say whether the node has a transaction, mined or waiting."""
        with self.clear_errors("to look up a transaction"):
            try:
                self.web3.eth.get_transaction(transaction)  # type: ignore[arg-type]
            except TransactionNotFound:
                return False
            return True

    def mined_at(self, sender: str, nonce: int, back: int) -> bytes | None:
        """Return the hash of the sender's transaction that used a nonce, looked for in the last ``back`` blocks."""
        with self.clear_errors("to show its latest blocks"):
            head = int(self.web3.eth.block_number)
            for number in range(head, max(-1, head - back), -1):
                for each in self.web3.eth.get_block(number, True)["transactions"]:
                    transaction: dict[str, Any] = dict(each)  # type: ignore[arg-type]
                    if transaction["from"] == sender and transaction["nonce"] == nonce:
                        return bytes(transaction["hash"])
        return None
