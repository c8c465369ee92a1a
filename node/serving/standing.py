"""How a node's money stands, read from chain and ledger once in a while: for its pages and its metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypercluster.market.chain import Chain, Stake
from hypercluster.market.ledger import IncomingChannel, Ledger
from hypercluster.market.money.claiming import ClaimCost, ClaimRule, Outlook
from hypercluster.market.money.units import unit
from hypercluster.node.serving.collector import Collector
from hypercluster.node.serving.terms import Wallets
from hypercluster.node.threads import Threads

LOOK_SECONDS = 10.0
"""between looks"""
STALE_SECONDS = 60.0
"""after which a chain that was not read counts as away"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnChain:
    """What the chain said as of one latest block, `tip`; otherwise as in Standing."""

    tip: tuple[int, bytes]
    stake: Stake
    backing_wei: int
    balance_wei: int
    node_gas_wei: int
    head: int
    cost: ClaimCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What chain and ledger said at `taken` (unix s). Amounts in wei of HCT, gas in wei of the chain's coin."""

    taken: float
    stake: Stake
    backing_wei: int
    """active stake behind the node key, 0 where it may not serve"""
    carries: int
    """sessions that this is enough for"""
    balance_wei: int
    node_gas_wei: int
    head: int
    """when the newest block was made, unix s"""
    channels: tuple[IncomingChannel, ...]
    """that pay this node on this chain"""
    outlook: Outlook

    @property
    def earned_wei(self) -> int:
        """By vouchers, ever."""
        return sum(row.best for row in self.channels)

    @property
    def unclaimed_wei(self) -> int:
        """Of that, what the chain has not paid yet."""
        return sum(row.unclaimed for row in self.channels)

    @property
    def closing_unclaimed_wei(self) -> int:
        """Of that, what is lost when it is not claimed before its channel closes."""
        return sum(row.unclaimed for row in self.channels if row.close_at)


class Standings:
    """Looks again every LOOK_SECONDS; `now` is what was seen last. While no block comes the chain says nothing new."""

    def __init__(
        self, *, chain: Chain, ledger: Ledger, collector: Collector, wallets: Wallets, rule: ClaimRule
    ) -> None:
        self._chain, self._ledger, self._collector = chain, ledger, collector
        self._wallets, self._rule = wallets, rule
        self._in_thread = Threads(1, abandon=True)
        self.now: Standing | None = None
        self._seen: _OnChain | None = None

    @property
    def tip(self) -> tuple[int, bytes] | None:
        """Number and hash of the block that was the latest at the last look."""
        return self._seen.tip if self._seen else None

    async def look(self) -> None:
        """Read chain and ledger. Raises MarketError; the next call tries again."""
        self.now = await self._in_thread(self._look, self._collector.known)

    def _look(self, known: frozenset[bytes]) -> Standing:
        chain = self._chain
        rows = tuple(
            row
            for row in self._ledger.payee.channels(chain.channels.domain)
            if row.ended or row.channel_id in known  # others are of a chain that was reset
        )
        owed = [row.unclaimed for row in rows]
        tip = chain.tip()
        seen = self._seen
        if seen is None or seen.tip != tip:
            seen = self._seen = self._read(tip)
        return Standing(
            taken=time.time(),
            stake=seen.stake,
            backing_wei=seen.backing_wei,
            carries=seen.backing_wei // chain.staking.session_stake,
            balance_wei=seen.balance_wei,
            node_gas_wei=seen.node_gas_wei,
            head=seen.head,
            channels=rows,
            outlook=Outlook.of(owed, seen.cost, self._rule),
        )

    def _read(self, tip: tuple[int, bytes]) -> _OnChain:
        chain, node, operator = self._chain, self._wallets.sender.address, self._wallets.operator
        (backing,) = chain.staking.backings([(node, operator)])
        return _OnChain(
            tip=tip,
            stake=chain.staking.stake_of(operator),
            backing_wei=backing,
            balance_wei=chain.token.balance(operator),
            node_gas_wei=chain.balance(node),
            head=chain.timestamp(),
            cost=chain.channels.settle_cost(),
        )

    async def chain_wrong(self) -> str | None:
        """What is wrong with the chain as a sentence, or None: for /readyz."""
        if self.now is None or time.time() - self.now.taken > STALE_SECONDS:
            return "The chain or the ledger has not answered for a minute."
        return None

    async def stake_wrong(self) -> str | None:
        """Whether the node may serve: for /readyz."""
        may = self.now is None or self.now.backing_wei > 0
        return (
            None if may else "The node may not serve: its operator's stake or its authorisation is missing."
        )

    def document(self) -> dict[str, Any]:
        """Stake, balances and what is to be claimed, as JSON; nulls before the first look. Amounts as text."""
        now = self.now
        if now is None:
            return {
                "stake": None,
                "balance_wei": None,
                "node_gas_wei": None,
                "unclaimed_wei": None,
                "claim": None,
            }
        outlook = now.outlook
        return {
            "stake": {
                "active_wei": str(now.stake.active),
                "thawing_wei": str(now.stake.thawing),
                "thaw_end": now.stake.thaw_end or None,
                "eligible": now.backing_wei > 0,
                "backing_wei": str(now.backing_wei),
                "carries": now.carries,
            },
            "balance_wei": str(now.balance_wei),
            "node_gas_wei": str(now.node_gas_wei),
            "unclaimed_wei": str(now.unclaimed_wei),
            "claim": {
                "owed_wei": str(outlook.owed_wei),
                "channels": outlook.channels,
                "gas_coin_wei": str(outlook.gas_coin_wei),
                "gas_wei": str(outlook.gas_wei),
                "net_wei": str(outlook.net_wei),
                "multiple": outlook.rule.multiple,
                "due": outlook.due,
            },
        }

    def me(self, role: str, peer: str) -> dict[str, Any]:
        """Who serves the pages, as JSON."""
        from importlib.metadata import version

        now = self.now
        chain = {"id": self._chain.chain_id, "head_age_s": max(0.0, time.time() - now.head)} if now else None
        return {
            "role": role,
            "version": version("hypercluster"),
            **unit()._asdict(),
            "name": peer,
            "peer": peer,
            "wallet": {
                "address": self._wallets.operator,
                "hct_wei": str(now.balance_wei) if now else None,
                "gas_wei": str(now.node_gas_wei) if now else None,
            },
            "chain": chain,
        }


def channel_documents(rows: Iterable[IncomingChannel]) -> list[dict[str, Any]]:
    """Channels that pay us as JSON, the newest first; amounts as text, moments unix s."""
    return [
        {
            "channel": "0x" + row.channel_id.hex(),
            "payer": row.payer,
            "earned_wei": str(row.best),
            "claimed_wei": str(row.settled),
            "unclaimed_wei": str(row.unclaimed),
            "deposit_wei": str(row.deposit),
            "state": "ended" if row.ended else "closing" if row.close_at else "open",
            "opened": row.opened.timestamp(),
        }
        for row in sorted(rows, key=lambda row: row.opened, reverse=True)
    ]
