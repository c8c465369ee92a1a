"""`hc-market simulate`: whole markets in discrete time, and the documented experiments."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from hypercluster.node.cli.console import Json, Shown, err, show
from hypercluster.node.cli.market.views import rows_table
from hypercluster.node.cli.options import check_writable, real, share, whole
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.start import loading

TITLE = "means over the second half"


class Pricing(StrEnum):
    """Rules by which providers set prices."""

    ascent = "ascent"
    best_response = "best-response"
    uniform = "uniform"
    cost_plus = "cost-plus"


class Routing(StrEnum):
    """Rules by which clients choose paths."""

    gibbs = "gibbs"
    cheapest = "cheapest"
    fastest = "fastest"


class Placing(StrEnum):
    """Rules by which providers choose layers."""

    revenue = "revenue"
    share = "share"
    weakest = "weakest"
    random = "random"


def simulate(
    experiment: Annotated[
        Literal[
            "paper",
            "equilibrium",
            "earnings",
            "shocks",
            "alternatives",
            "deterrence",
            "slander",
            "disputes",
            "all",
        ]
        | None,
        typer.Option(help="One of those of docs/economics.md and docs/verification.md."),
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out", help="For an experiment the folder of its figures; else a .csv or .parquet of the run."
        ),
    ] = None,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="Draw the run as .png or .svg.")] = None,
    seed: Annotated[int, whole("Seed of every random draw.", most=2**32 - 1)] = 0,
    effort: Annotated[
        float, real("Shrink an experiment for a quick look; 1 is the documented size.", least=0.01, most=1)
    ] = 1.0,
    providers: Annotated[int, whole("Providers at the start.", least=1, most=10**6)] = 1000,
    layers: Annotated[int, whole("Layers of the model.", least=1, most=1024)] = 24,
    ticks: Annotated[int, whole("Steps of 5 seconds.", least=1, most=10**7)] = 300,
    sessions: Annotated[float, real("New client sessions per tick.", least=0, most=10**6)] = 60.0,
    temperature: Annotated[float, real("Of the clients' choice.", least=0.001, most=1000)] = 1.0,
    variety: Annotated[float, share("1: every node of a range adds demand (the paper); 0: none does.")] = 1.0,
    outside: Annotated[float, real("Weight of the clients' outside option.", least=-1000, most=1000)] = 14.0,
    churn: Annotated[float, share("Chance per tick that a provider leaves.")] = 0.002,
    pricing: Pricing = Pricing.ascent,
    routing: Routing = Routing.gibbs,
    placing: Placing = Placing.revenue,
    json_: Json = False,
) -> None:
    """Run a market of providers and clients, or one of the documented experiments. The same seed repeats it.

    Example: [bold]hc-market simulate --providers 2000 --ticks 200 --out run.parquet --plot run.svg[/]

    Example: [bold]hc-market simulate --experiment shocks --out docs/figures[/]
    """
    if experiment is not None:
        check_writable("--out", out_, folder=True)
        _experiment(experiment, out_ or Path("figures"), seed, effort, json_)
        return
    if out_ is not None and out_.suffix not in (".csv", ".parquet"):
        raise typer.BadParameter(f"--out: {out_} ends in neither .csv nor .parquet")
    if plot_to is not None and plot_to.suffix not in (".png", ".svg"):
        raise typer.BadParameter(f"--plot: {plot_to} ends in neither .png nor .svg")
    check_writable("--out", out_)
    check_writable("--plot", plot_to)
    with loading():
        from hypercluster.market.economics.parameters import MarketParameters
        from hypercluster.market.economics.simulation.run import simulate as simulate_
        from hypercluster.market.economics.simulation.run import write_rows
        from hypercluster.market.economics.simulation.scenario import Scenario

    scenario = Scenario(
        providers=providers,
        layers=layers,
        ticks=ticks,
        sessions=sessions,
        market=MarketParameters(temperature=temperature, variety=variety, outside_weight=outside),
        churn=churn,
        pricing=pricing.value,
        routing=routing.value,
        placing=placing.value,
        memory=(min(2, layers), min(12, layers)),
        seed=seed,
    )
    with bar("simulating", ticks, unit="ticks") as told:
        result = simulate_(scenario, progress=lambda _: told(1))
    if out_:
        write_rows(out_, result.ticks)
        write_rows(out_.with_stem(out_.stem + "-providers"), result.providers)
    if plot_to:
        from hypercluster.market.economics.plots import draw_run

        draw_run(plot_to, result.ticks)
    summary: dict[str, float] = {name: result.mean(name) for name in result.ticks[0] if name != "tick"}
    show(summary, lambda means: rows_table(TITLE, [{"": k, "mean": v} for k, v in means.items()]), json_)


def _experiment(name: str, folder: Path, seed: int, effort: float, json_: bool) -> None:
    with loading():
        from hypercluster.market.economics.simulation.experiments import Setup, experiments, run_experiment

        names = list(experiments()) if name == "all" else [name]
    found = {}
    for each in names:
        with err.status(f"{each} ...") as status:
            setup = Setup(folder, seed, effort, lambda what, each=each: status.update(f"{each}: {what} ..."))  # type: ignore[misc]
            found[each] = run_experiment(each, setup)

    def view(_: object) -> Iterator[Shown]:
        for each, tables in found.items():
            for title, rows in tables.items():
                yield rows_table(f"{each}: {title}", rows)
        yield f"figures in {folder}"

    show(found if name == "all" else found[name], view, json_)
