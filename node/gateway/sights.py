"""What a gateway looks at every few seconds: its wallet and channels, coverage of its models, what keys have left."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import COIN, one
from hypercluster.node.threads import Threads
from hypercluster.node.web.health import Check, found_by

if TYPE_CHECKING:
    from hypercluster.node.gateway.gateway import Gateway

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
LATE_SECONDS = 60.0
"""without an answer of the chain, after which the gateway is not ready"""
MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Wallet:
    """What the chain said last: wei of HCT and of its own coin; when its head is of and when it was asked, unix s."""

    hct: int
    gas: int
    head: int
    asked: float
    tip: tuple[int, bytes]
    """number and hash of that head"""


class Sights:
    """Looks, and sets the gauges of the metrics."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._on_chain, self._on_ledger = Threads(1, abandon=True), Threads(1)
        self.wallet: Wallet | None = None

    async def watch(self) -> None:
        """Look every LOOK_SECONDS until cancelled."""
        self._gateway.metrics.process.chain_head(lambda: self.wallet.head if self.wallet else None)
        while True:
            self._look_at_models()
            try:
                await self._look_at_channels()
                with trio.move_on_after(LOOK_SECONDS):
                    self.wallet = await self._on_chain(self._ask)
            except (MarketError, OSError) as error:
                log.info("the wallet could not be looked at: %s", error)
            self._tell()
            wrong = (await found_by(self.checks())).values()
            self._gateway.metrics.process.ready.set(not any(wrong))
            await trio.sleep(LOOK_SECONDS)

    def checks(self) -> list[Check]:
        """What must be there for the gateway to be of use."""

        async def chain() -> str | None:
            if self.wallet is None or time.time() - self.wallet.asked > LATE_SECONDS:
                return "The chain does not answer."
            return None

        async def models() -> str | None:
            holes = [entry.name for entry in self._gateway.market.models() if entry.coverage < 1]
            return f"Nobody serves all layers of {', '.join(holes)}." if holes else None

        async def staying() -> str | None:
            return "The gateway is about to end." if self._gateway.stopping.is_set() else None

        return [Check("chain", chain), Check("models", models), Check("staying", staying)]

    def _ask(self) -> Wallet:
        market, known = self._gateway.market, self.wallet
        chain, owner = market.chain, market.payer.payer
        tip = chain.tip()
        if known is not None and known.tip == tip:
            return replace(known, asked=time.time())
        return Wallet(chain.token.balance(owner), chain.balance(owner), chain.timestamp(), time.time(), tip)

    def _look_at_models(self) -> None:
        metrics = self._gateway.metrics
        for entry in self._gateway.market.models():
            metrics.covered.labels(entry.name).set(entry.coverage)
            metrics.sessions.labels(entry.name).set(entry.sessions)
            if entry.price_wei is not None:
                metrics.price.labels(entry.name).set(entry.price_wei * MILLION / one())
        for name, budget in self._gateway.keyring.budgets().items():
            if budget.left_wei is not None:
                metrics.budget.labels(name).set(budget.left_wei / one())

    async def _look_at_channels(self) -> None:
        market = self._gateway.market
        rows = await self._on_ledger(market.ledger.payer.channels, market.payer.domain, ended=False)
        self._gateway.metrics.deposit.set(sum(row.deposit for row in rows) / one())
        self._gateway.metrics.available.set(sum(max(0, row.deposit - row.signed) for row in rows) / one())

    def _tell(self) -> None:
        if self.wallet is not None:
            self._gateway.metrics.wallet.set(self.wallet.hct / one())
            self._gateway.metrics.gas.set(self.wallet.gas / COIN)
