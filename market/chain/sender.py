"""Sending transactions from one account, several at a time and from several threads."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock, RLock
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3.types import LogReceipt, Nonce, TxParams, TxReceipt, Wei

from hypercluster.market.chain.patience import RateLimited
from hypercluster.market.chain.reverts import reverted
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.errors import (
    ChainError,
    NodeUnreachable,
    TransactionReplaced,
    TransactionTimeout,
)

log = logging.getLogger(__name__)

GAS_MARGIN_PERCENT = 25
ATTEMPTS = 5
CHECK_SECONDS = 1.0
_KNOWN = ("already known", "already imported")
_NONCE_TAKEN = ("nonce too low", "underpriced", "nonce too high", "invalid nonce", *_KNOWN)


@dataclass(frozen=True)
class Mined:
    """A mined transaction: gas in units, ``cost_wei`` in the chain's coin, ``contract`` if it created one."""

    transaction: str
    block: int
    gas_used: int
    cost_wei: int
    logs: tuple[LogReceipt, ...]
    contract: str | None


@dataclass(frozen=True)
class Sent:
    """A transaction that was sent and is not known to be mined; ``raw`` is what was signed."""

    transaction: bytes
    raw: bytes
    nonce: int
    action: str
    call: TxParams


class Sender:
    """Signs and sends with one account.

    Nonces are handed out and used up under a lock, so that a refused transaction leaves no gap; one that the
    node forgets later is sent again by whoever waits for it. Other processes may use the same account: a
    nonce that one of them took first is passed over.

    Args:
        rpc: the node, or a :class:`~market.chain.Chain`.
        account: an unlocked account.
        patience: seconds to wait for a receipt.
    """

    def __init__(self, rpc: Rpc, account: LocalAccount, *, patience: float = 120.0) -> None:
        self.rpc = rpc
        self.account = account
        self.address: str = account.address
        self.patience = patience
        self.permits = RLock()
        """Held from the signing of an EIP-2612 permit until it is mined, as the next needs its nonce used."""
        self._lock = Lock()
        self._next = 0

    def transact(self, action: str, to: str | None, data: str, value: int = 0) -> Mined:
        """Send a call and wait until it is mined.

        Args:
            action: what it does, for messages ("to settle a channel").
            to: the contract; None creates one.
            data: calldata as 0x hex.
            value: coin to send along, in wei.

        Raises:
            Reverted: the contract refuses, now or when mined.
            InsufficientFunds: not enough coin for the gas, or not enough HCT.
            NodeUnreachable, TransactionTimeout, TransactionReplaced: see :meth:`wait`.
        """
        return self.wait(self.submit(action, to, data, value))

    def submit(self, action: str, to: str | None, data: str, value: int = 0) -> Sent:
        """Sign and send a call without waiting for it; arguments and errors as for :meth:`transact`."""
        call: TxParams = {
            "from": self.account.address,
            "data": data,  # type: ignore[typeddict-item]
            "value": Wei(value),
            "chainId": self.rpc.chain_id,
        }
        if to is not None:
            call["to"] = to
        with self.rpc.clear_errors(action, self.address):
            gas = self.rpc.web3.eth.estimate_gas(call, "pending")
        max_fee, tip = self.rpc.fees()
        call["gas"] = gas + gas * GAS_MARGIN_PERCENT // 100
        call["maxFeePerGas"], call["maxPriorityFeePerGas"] = Wei(max_fee), Wei(tip)
        with self._lock:
            return self._send(action, call)

    def wait(self, sent: Sent, patience: float | None = None) -> Mined:
        """Wait until a transaction is mined.

        Raises:
            Reverted: it was mined and refused.
            TransactionReplaced: another transaction of this account took its nonce.
            TransactionTimeout: not mined in time; it may still be.
            NodeUnreachable: the node went away; the transaction may still be mined.
        """
        patience = self.patience if patience is None else patience
        started = time.monotonic()
        pause, check = 0.01, started + CHECK_SECONDS
        while (mined := self.rpc.receipt(sent.transaction)) is None:
            now = time.monotonic()
            if now > started + patience:
                with self._lock:
                    self._next = 0  # trust the node's count again
                raise TransactionTimeout(
                    f"The transaction {_hex(sent.transaction)} {sent.action} was not mined within "
                    f"{patience:.0f} s; look it up before you send another."
                )
            if now > check:
                self._look_after(sent)
                check = now + CHECK_SECONDS
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
        if not mined["status"]:
            raise self._why(sent, mined)
        return Mined(
            _hex(sent.transaction),
            mined["blockNumber"],
            mined["gasUsed"],
            mined["gasUsed"] * mined["effectiveGasPrice"],
            tuple(mined["logs"]),
            mined["contractAddress"],
        )

    def _send(self, action: str, call: TxParams) -> Sent:
        for attempt in range(ATTEMPTS):
            nonce = max(self._next, self._count("pending"))
            call["nonce"] = Nonce(nonce)
            signed = self.account.sign_transaction(cast("dict[str, Any]", call))
            sent = Sent(bytes(signed.hash), bytes(signed.raw_transaction), nonce, action, call)
            try:
                self._hand_over(sent)
            except NodeUnreachable:
                self._next = 0  # nobody knows whether it arrived
                raise
            except ChainError as error:
                if not any(words in str(error).lower() for words in _NONCE_TAKEN):
                    raise
                log.debug("nonce %d of %s is taken: %s", nonce, self.address, error)
                self._next = 0
                time.sleep(0.05 * attempt)
                continue
            self._next = nonce + 1
            return sent
        raise ChainError(
            f"The node refused {ATTEMPTS} nonces of {self.address} {action}: "
            "see whether another program sends from that account."
        )

    def _hand_over(self, sent: Sent) -> None:
        """Give the node a signed transaction, the very same once more if the answer got lost on the way."""
        try:
            with self.rpc.clear_errors(sent.action, self.address):
                self.rpc.web3.eth.send_raw_transaction(sent.raw)
        except RateLimited:
            raise
        except NodeUnreachable:
            # The same bytes cannot count twice; a fresh nonce could. So ask for it before anything else.
            if self.rpc.knows(sent.transaction):
                return
            try:
                with self.rpc.clear_errors(sent.action, self.address):
                    self.rpc.web3.eth.send_raw_transaction(sent.raw)
            except NodeUnreachable:
                raise
            except ChainError:
                if not self.rpc.knows(sent.transaction):
                    raise

    def _count(self, block: str) -> int:
        with self.rpc.clear_errors("to count transactions"):
            return self.rpc.web3.eth.get_transaction_count(self.account.address, block)  # type: ignore[arg-type]

    def _look_after(self, sent: Sent) -> None:
        """Send a transaction again that the node forgot; complain if its nonce went to another one."""
        if self._count("latest") > sent.nonce:
            if not self.rpc.knows(sent.transaction):
                raise TransactionReplaced(
                    f"Another transaction of {self.address} took the place of {_hex(sent.transaction)} "
                    f"{sent.action}: try again."
                )
        elif not self.rpc.knows(sent.transaction):
            log.info("the node forgot transaction %s; sending it again", _hex(sent.transaction))
            try:
                with self.rpc.clear_errors(sent.action):
                    self.rpc.web3.eth.send_raw_transaction(sent.raw)
            except (
                ChainError
            ) as error:  # it came back meanwhile, or its nonce is being used; the next look tells
                log.debug("it was not taken: %s", error)

    def _why(self, sent: Sent, mined: TxReceipt) -> ChainError:
        """Run a failed transaction again on the state before its block to learn its error."""
        try:
            with self.rpc.clear_errors(sent.action):
                call = {key: sent.call[key] for key in ("from", "to", "data", "value") if key in sent.call}
                self.rpc.web3.eth.call(cast(TxParams, call), mined["blockNumber"])
        except ChainError as error:
            return error
        return reverted(sent.action, None, "it worked when tried again, so something changed in between")


def _hex(transaction: bytes) -> str:
    return "0x" + transaction.hex()
