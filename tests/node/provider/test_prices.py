"""Where a price starts, and where a restart goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypercluster.market.ledger import Ledger, PriceRow
from hypercluster.node.provider.prices import PriceRule, resumed

MODEL = "ab" * 32
RULE = PriceRule(start_wei=1_000, start_prompt_wei=250, adapt=True)


def step(after: int, layers: tuple[int, int] = (0, 4), **inputs: int) -> PriceRow:
    return PriceRow(
        model_id=MODEL,
        layer_start=layers[0],
        layer_stop=layers[1],
        price_before=1,
        price_after=after,
        gradient=0.0,
        probability=0.5,
        inputs={"next_prompt_price_wei": after // 5, **inputs},
    )


def test_o3_the_price_goes_on_from_the_last_update_of_the_same_layers(tmp_path: Path) -> None:
    """O3: not from the start again, nor from where the price of other layers was."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        assert ledger.history.last_price(MODEL, 0, 4) is None
        for row in (step(4_000), step(4_990), step(70, layers=(4, 8))):
            ledger.history.save_price(row)
        last = ledger.history.last_price(MODEL, 0, 4)
        assert resumed(RULE, last) == replace(RULE, start_wei=4_990, start_prompt_wei=998)
        assert ledger.history.last_price("cd" * 32, 0, 4) is None


def test_o3_floor_and_a_fixed_price_come_first() -> None:
    """O3: a floor that was raised holds, and a price fixed by hand is not moved by what the gradient once found."""
    assert resumed(replace(RULE, floor_wei=6_000), step(4_990)).start_wei == 6_000
    fixed = replace(RULE, adapt=False)
    assert resumed(fixed, step(4_990)) == fixed
    assert resumed(RULE, None) == RULE
