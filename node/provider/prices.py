"""The price a provider asks: fixed by hand, or climbing its expected revenue against the adverts it sees."""

import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from hypercluster.market.economics.graph import MAX_PRICE_WEI, Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import PROMPT_SHARE
from hypercluster.market.economics.pricing import PriceStep, price_step
from hypercluster.market.ledger import PriceRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prices:
    """Asked now, in wei per generated and per prompt token."""

    price_wei: int
    prompt_price_wei: int

    @property
    def prompt_share(self) -> float:
        """What a prompt token costs, of the price of a generated one; the usual share where that costs nothing."""
        return self.prompt_price_wei / self.price_wei if self.price_wei else PROMPT_SHARE

    def cached_wei(self, percent: int) -> int:
        """Per token that a parked session holds, at so many hundredths of a prompt token's price, rounded down."""
        return self.prompt_price_wei * percent // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRule:
    """How a provider sets its price. All in wei per token.

    `adapt` is off for a price fixed by hand. `given` says that the start was named by the operator, and did not come
    by default. `floor_wei` is what a token costs the provider itself.
    """

    start_wei: int
    start_prompt_wei: int
    adapt: bool
    given: bool = False
    floor_wei: int = 0
    ceiling_wei: int = MAX_PRICE_WEI


def resumed(rule: PriceRule, last: PriceRow | None) -> PriceRule:
    """The rule, going on from where the last update left the price; a price that is fixed stays what it is."""
    if last is None or not rule.adapt:
        return rule
    prompt = last.inputs.get("next_prompt_price_wei")
    return replace(
        rule,
        start_wei=min(max(last.price_after, rule.floor_wei), rule.ceiling_wei),
        start_prompt_wei=prompt if isinstance(prompt, int) else rule.start_prompt_wei,
    )


class Asking:
    """The current price of one provider and the rule that moves it (paper eq. 2 to 5)."""

    def __init__(self, rule: PriceRule, market: MarketParameters, layers: int) -> None:
        self.rule = rule
        self.prices = Prices(rule.start_wei, rule.start_prompt_wei)
        self._market = market
        self._layers = layers

    def step(self, own: Node, others: list[Node]) -> PriceStep | None:
        """Take one step of gradient ascent; None for a fixed price, or where no other advert is known yet."""
        if not self.rule.adapt:
            return None
        own = replace(own, price_wei=self.prices.price_wei, prompt_price_wei=self.prices.prompt_price_wei)
        step = price_step(
            own,
            others,
            layers=self._layers,
            market=self._market,
            floor_wei=self.rule.floor_wei,
            ceiling_wei=self.rule.ceiling_wei,
        )
        self.prices = Prices(step.next_price_wei, step.next_prompt_price_wei)
        return step


def price_row(step: PriceStep, model_id: str) -> PriceRow:
    """The ledger's row of a price step: what it saw and what it did."""
    inputs = asdict(step)
    shown = {"peer", "start", "stop", "price_wei", "next_price_wei", "gradient", "marginal"}
    return PriceRow(
        model_id=model_id,
        layer_start=step.start,
        layer_stop=step.stop,
        price_before=step.price_wei,
        price_after=step.next_price_wei,
        gradient=step.gradient,
        probability=step.marginal,
        inputs={key: _finite(value) for key, value in inputs.items() if key not in shown},
    )


def _finite(value: Any) -> Any:
    """JSON knows no infinity: such numbers become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
