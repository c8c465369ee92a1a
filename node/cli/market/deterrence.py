"""`hc-market deterrence`: what must be at stake so that each way to cheat loses money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from hypercluster.market.money.units import HCT, MILLION, one
from hypercluster.node.cli.console import Json, show
from hypercluster.node.cli.options import price as price_option
from hypercluster.node.cli.options import real, share, whole
from hypercluster.node.cli.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercluster.market.economics.deterrence import StakeRow

RATES = [0.005, 0.01, 0.02, 0.05, 0.1]


def deterrence(
    rate: Annotated[
        list[float] | None,
        share("Share of the stages that is audited; repeat for several. Default: 0.005 to 0.1."),
    ] = None,
    price: Annotated[int, price_option("Price of a stage, HCT per million tokens.", default="1")] = HCT
    // MILLION,
    tokens: Annotated[int, whole("Tokens of a session.", least=1)] = 500,
    layers: Annotated[int, whole("Layers of the stage, for skipping one of them.", least=1, most=1024)] = 8,
    detection: Annotated[float, share("Probability that an audit of a cheated stage convicts.")] = 0.9,
    reward: Annotated[
        float,
        real("Share of the slashed stake that may come back to the cheater.", least=0, most=0.99),
    ] = 0.2,
    in_flight: Annotated[
        float,
        real("Sessions that are paid from the caught one until the verdict lands.", least=0, most=10**9),
    ] = 100.0,
    json_: Json = False,
) -> None:
    """Show the stake at which each way to cheat loses money, by audit rate.

    Example: [bold]hc-market deterrence --price 2 --tokens 1000 --rate 0.01 --rate 0.05[/]

    Formula and derivation: market.deterrence.required_stake. Detection is what `hc-verifier calibrate` and its
    tests find for a model; the reward is the worst case that accuser and committee are all the cheater's own.
    """
    from hypercluster.market.economics.deterrence import cheats, stake_table

    rates = rate or RATES
    rows = stake_table(
        cheats(layers),
        rates,
        price_wei=price,
        tokens=tokens,
        detection=detection,
        reward_share=reward,
        in_flight=in_flight,
    )
    document = {
        "price_wei": price,
        "tokens": tokens,
        "layers": layers,
        "detection": detection,
        "reward_share": reward,
        "in_flight": in_flight,
        "cheats": [
            {
                "cheat": row.cheat.name,
                "how": row.cheat.how,
                "saved": float(row.cheat.saved),
                "gain_wei": row.gain_wei,
                "stakes": [
                    {"audit_rate": each, "stake_wei": stake}
                    for each, stake in zip(rates, row.stakes_wei, strict=True)
                ],
            }
            for row in rows
        ],
    }
    show(document, lambda _: _table(rates, rows), json_)


def _table(rates: Sequence[float], rows: Sequence[StakeRow]) -> Table:
    table = Table(
        "cheat", "saves", "HCT a session", *(f"{100 * each:g} %" for each in rates),
        title="HCT at stake that take the profit out, by share of stages audited",
    )  # fmt: skip
    for row in rows:
        stakes = (f"{stake / one():.3g}" for stake in row.stakes_wei)
        table.row(row.cheat.name, f"{float(row.cheat.saved):.1%}", f"{row.gain_wei / one():.3g}", *stakes)
    return table
