"""Sending transactions from one account, several at a time and from several threads.

A call is executed once, whatever becomes of requests and answers on their way: a call that may have been taken is
signed for another nonce only after the transaction that took the first one was seen, and is another's.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from threading import Lock, RLock
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3.types import Nonce, TxParams, TxReceipt, Wei

from hypercluster.market.chain.patience import RateLimited, Unconnected
from hypercluster.market.chain.reverts import reverted
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.transactions import Mined as Mined
from hypercluster.market.chain.transactions import Sent as Sent
from hypercluster.market.chain.transactions import Version, hexed
from hypercluster.market.errors import (
    ChainError,
    NodeUnreachable,
    Reverted,
    TransactionReplaced,
    TransactionTimeout,
)

log = logging.getLogger(__name__)

GAS_MARGIN_PERCENT = 25
ATTEMPTS = 5
CHECK_SECONDS = 1.0
BUMP_SECONDS = 15.0
"""after which a transaction whose fee no longer reaches is signed again for a higher one"""
BUMP_PERCENT = 25
"""by which both of its fees rise at least; pools ask for 10"""
MOST_BUMPS = 12
MOST_MINED = 64
"""calls that are remembered after they were mined"""
BLOCKS_BACK = 32
"""in which the transaction that took a nonce is looked for"""
_KNOWN = ("already known", "already imported")
_TOO_LOW = ("nonce too low", "invalid nonce")
_OTHERS_WAIT = ("underpriced", "nonce too high")


class Sender:
    """Signs and sends with one account.

    Nonces are handed out and used up under a lock, so that a refused transaction leaves no gap; one that the
    node forgets later is sent again by whoever waits for it or for a later one, and one whose fee has become too low
    is signed again for a higher one. Other processes may use the same account: a nonce that one of them took first is
    passed over.

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
        self._under_way: dict[int, Sent] = {}
        """by nonce, until somebody saw them mined or replaced"""
        self._mined: dict[int, Sent] = {}
        """the latest ones that were: a reorganisation may lose them, and what comes behind waits for their nonces"""

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
            NodeUnreachable: the node cannot be reached, and nothing was sent.
            TransactionTimeout, TransactionReplaced: see :meth:`wait`.
        """
        return self.wait(self.submit(action, to, data, value))

    def submit(self, action: str, to: str | None, data: str, value: int = 0) -> Sent:
        """Sign and send a call without waiting for it; arguments and errors as for :meth:`transact`.

        Raises TransactionTimeout where nobody can say whether the node took it: it may be mined later.
        """
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
        pause, check, bump = 0.01, started + CHECK_SECONDS, started + BUMP_SECONDS
        while (mined := self._receipt(sent)) is None:
            now = time.monotonic()
            if now > started + patience:
                with self._lock:
                    self._next = 0  # trust the node's count again
                raise self._timeout(sent, f"was not mined within {patience:.0f} s")
            if now > check:
                self._look_after(sent, bump=now > bump)
                check = time.monotonic() + CHECK_SECONDS
                if now > bump:
                    bump = now + BUMP_SECONDS
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
        self._keep_mined(sent)
        if not mined["status"]:
            raise self._why(sent, mined)
        return Mined(
            hexed(bytes(mined["transactionHash"])),
            mined["blockNumber"],
            mined["gasUsed"],
            mined["gasUsed"] * mined["effectiveGasPrice"],
            tuple(mined["logs"]),
            mined["contractAddress"],
        )

    def catch_up(self) -> None:
        """Send again, and wait for, what a reorganisation lost of the latest calls. Raises NodeUnreachable."""
        if not self._mined:
            return
        used = self._count("latest")
        with self._lock:
            lost = [each for nonce, each in sorted(self._mined.items()) if nonce >= used]
        for each in lost:
            log.warning(
                "transaction %s %s was lost by a reorganisation", hexed(each.transaction), each.action
            )
            self._offer(each.action, each.versions[-1])
        for each in lost:
            with suppress(Reverted):
                self.wait(each)

    def _keep_mined(self, sent: Sent) -> None:
        with self._lock:
            self._under_way.pop(sent.nonce, None)
            self._mined[sent.nonce] = sent
            while len(self._mined) > MOST_MINED:
                del self._mined[min(self._mined)]

    def _receipt(self, sent: Sent) -> TxReceipt | None:
        """Of whichever version was mined, the latest first."""
        found = (self.rpc.receipt(version.transaction) for version in reversed(sent.versions))
        return next((receipt for receipt in found if receipt is not None), None)

    def _send(self, action: str, call: TxParams) -> Sent:
        for attempt in range(ATTEMPTS):
            nonce = max(self._next, self._count("pending"))
            sent = Sent(nonce, action, call)
            if self._hand_over(sent, self._sign(sent)):
                self._next = nonce + 1
                self._under_way[nonce] = sent
                return sent
            log.debug("nonce %d of %s is taken", nonce, self.address)
            self._next = 0
            time.sleep(0.05 * attempt)
        raise ChainError(
            f"The node refused {ATTEMPTS} nonces of {self.address} {action}: "
            "see whether another program sends from that account."
        )

    def _sign(self, sent: Sent) -> Version:
        sent.call["nonce"] = Nonce(sent.nonce)
        signed = self.account.sign_transaction(cast("dict[str, Any]", sent.call))
        # Kept before it is sent: whatever answer gets lost, it can be looked up.
        sent.versions.append(Version(bytes(signed.hash), bytes(signed.raw_transaction)))
        return sent.versions[-1]

    def _hand_over(self, sent: Sent, version: Version) -> bool:
        """Give the node a signed transaction; false where its nonce is another's, and it will never be mined.

        Raises:
            TransactionTimeout: nobody can say whether it was taken.
            ChainError: it was refused for another reason, or the node cannot be reached and did not get it.
        """
        lost: NodeUnreachable | None = None
        for attempt in range(ATTEMPTS):
            try:
                with self.rpc.clear_errors(sent.action, self.address):
                    self.rpc.web3.eth.send_raw_transaction(version.raw)
                return True
            except (RateLimited, Unconnected):
                if lost is None:
                    raise  # the node has not looked at it
            except NodeUnreachable as error:
                lost = error
            except ChainError as error:
                words = str(error).lower()
                if any(each in words for each in _KNOWN):
                    return True
                if any(each in words for each in _TOO_LOW):
                    taken = self._took(sent)
                    if taken is not None:
                        return taken in (each.transaction for each in sent.versions)
                elif any(each in words for each in _OTHERS_WAIT):
                    return lost is not None and self._arrived(version)
                elif lost is None:
                    raise
            # The same bytes cannot count twice; a fresh nonce could. So they are sent until that is settled.
            if self._arrived(version):
                return True
            time.sleep(0.1 * 2**attempt)
        raise self._timeout(sent, "may or may not have reached the node") from lost

    def _arrived(self, version: Version) -> bool:
        try:
            return self.rpc.knows(version.transaction)
        except NodeUnreachable:
            return False

    def _took(self, sent: Sent) -> bytes | None:
        """Hash of the mined transaction that used the nonce, None where the node cannot show it (yet)."""
        try:
            return self.rpc.mined_at(self.account.address, sent.nonce, BLOCKS_BACK)
        except NodeUnreachable:
            return None

    def _count(self, block: str) -> int:
        with self.rpc.clear_errors("to count transactions"):
            return self.rpc.web3.eth.get_transaction_count(self.account.address, block)  # type: ignore[arg-type]

    def _look_after(self, sent: Sent, *, bump: bool) -> None:
        """See that it can still be mined; complain if its nonce went to another one."""
        used = self._count("latest")
        if used > sent.nonce:
            self._look_for(sent)
            return
        sent.missed = 0
        # What stands before it in the row may have been forgotten, and nobody may wait for that.
        with self._lock:
            known = self._mined | self._under_way
            row = [each for nonce, each in sorted(known.items()) if used <= nonce < sent.nonce]
        for each in (*row, sent):
            if bump and self._raised(each):
                log.info("the fee of a transaction %s no longer reaches: it is sent for more", each.action)
            elif self._arrived(each.versions[-1]):
                continue
            else:
                log.info("the node forgot transaction %s; sending it again", hexed(each.transaction))
            self._offer(each.action, each.versions[-1])

    def _look_for(self, sent: Sent) -> None:
        if any(self._arrived(each) for each in sent.versions):
            return
        taken = self._took(sent)
        sent.missed += 1
        # One node of several behind a URL may be behind the others, so a single look proves nothing.
        ours = taken is not None and any(taken == each.transaction for each in sent.versions)
        if not ours and (taken is not None or sent.missed > ATTEMPTS):
            self._under_way.pop(sent.nonce, None)
            raise TransactionReplaced(
                f"Another transaction of {self.address} took the place of {hexed(sent.transaction)} "
                f"{sent.action}: try again."
            )

    def _raised(self, sent: Sent) -> bool:
        """Sign it again for a higher fee, if what it offers no longer reaches; whether that was done."""
        max_fee, tip = self.rpc.fees()
        with self._lock:
            offered, its_tip = int(sent.call["maxFeePerGas"]), int(sent.call["maxPriorityFeePerGas"])
            # The fees of now leave room for the base fee to double.
            reaches = 2 * offered > max_fee + tip and its_tip >= tip
            if reaches or len(sent.versions) > MOST_BUMPS:
                return False
            sent.call["maxFeePerGas"] = Wei(max(max_fee, _more(offered)))
            sent.call["maxPriorityFeePerGas"] = Wei(max(tip, _more(its_tip)))
            self._sign(sent)
            return True

    def _offer(self, action: str, version: Version) -> None:
        """Give the node a transaction that it may have; the next look tells what became of it."""
        try:
            with self.rpc.clear_errors(action):
                self.rpc.web3.eth.send_raw_transaction(version.raw)
        except ChainError as error:
            log.debug("it was not taken: %s", error)

    def _timeout(self, sent: Sent, what: str) -> TransactionTimeout:
        return TransactionTimeout(
            f"The transaction {hexed(sent.transaction)} {sent.action} {what}; look it up before you send another."
        )

    def _why(self, sent: Sent, mined: TxReceipt) -> ChainError:
        """Run a failed transaction again on the state before its block to learn its error."""
        try:
            with self.rpc.clear_errors(sent.action):
                call = {key: sent.call[key] for key in ("from", "to", "data", "value") if key in sent.call}
                self.rpc.web3.eth.call(cast(TxParams, call), mined["blockNumber"])
        except ChainError as error:
            return error
        return reverted(sent.action, None, "it worked when tried again, so something changed in between")


def _more(fee: int) -> int:
    return fee + fee * BUMP_PERCENT // 100 + 1
