"""`hc-market deterrence`: what must be at stake so that each way to cheat loses money."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from hypercluster.market.money.units import HCT, parse_price
from hypercluster.node.cli.console import Json, out, print_json

RATES = [0.005, 0.01, 0.02, 0.05, 0.1]


def deterrence(
    rate: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the stages that is audited; repeat for several. [default: 0.5 to 10 %]",
            show_default=False,
        ),
    ] = None,
    price: Annotated[str, typer.Option(help="Price of a stage, HCT per million tokens.")] = "1",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a session.")] = 500,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the stage, for skipping one of them.")] = 8,
    detection: Annotated[
        float, typer.Option(min=0, max=1, help="Probability that an audit of a cheated stage convicts.")
    ] = 0.9,
    reward: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Share of the slashed stake that may come back to the cheater."),
    ] = 0.2,
    in_flight: Annotated[
        float, typer.Option(min=0, help="Sessions that are paid from the caught one until the verdict lands.")
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
    price_wei = parse_price(price)
    rows = stake_table(
        cheats(layers),
        rates,
        price_wei=price_wei,
        tokens=tokens,
        detection=detection,
        reward_share=reward,
        in_flight=in_flight,
    )
    if json_:
        print_json(
            {
                "price_wei": price_wei,
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
        )
        return
    table = Table(title="HCT at stake that take the profit out, by share of stages audited")
    for name in ("cheat", "saves", "HCT a session", *(f"{100 * each:g} %" for each in rates)):
        table.add_column(name, justify="left" if name == "cheat" else "right", overflow="fold")
    for row in rows:
        stakes = (f"{stake / HCT:.3g}" for stake in row.stakes_wei)
        table.add_row(row.cheat.name, f"{float(row.cheat.saved):.1%}", f"{row.gain_wei / HCT:.3g}", *stakes)
    out.print(table)
