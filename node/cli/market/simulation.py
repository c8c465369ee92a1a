"""`hc-market simulate`: whole markets in discrete time, and the documented experiments."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hypercluster.node.cli.console import Json, err, out, print_json


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
        str | None,
        typer.Option(
            help="paper, equilibrium, earnings, shocks, alternatives, deterrence or all: those of "
            "docs/economics.md and docs/verification.md."
        ),
    ] = None,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out", help="For an experiment the folder of its figures; else a .csv or .parquet of the run."
        ),
    ] = None,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="Draw the run as .png or .svg.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    effort: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Shrink an experiment for a quick look; 1 is the documented size."
        ),
    ] = 1.0,
    providers: Annotated[int, typer.Option(min=1, help="Providers at the start.")] = 1000,
    layers: Annotated[int, typer.Option(min=1, max=1024, help="Layers of the model.")] = 24,
    ticks: Annotated[int, typer.Option(min=1, help="Steps of 5 seconds.")] = 300,
    sessions: Annotated[float, typer.Option(min=0, help="New client sessions per tick.")] = 60.0,
    temperature: Annotated[float, typer.Option(min=0.001, help="Of the clients' choice.")] = 1.0,
    variety: Annotated[
        float,
        typer.Option(min=0, max=1, help="1: every node of a range adds demand (the paper); 0: none does."),
    ] = 1.0,
    outside: Annotated[float, typer.Option(help="Weight of the clients' outside option.")] = 14.0,
    churn: Annotated[
        float, typer.Option(min=0, max=1, help="Chance per tick that a provider leaves.")
    ] = 0.002,
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
        _experiment(experiment, out_ or Path("figures"), seed, effort, json_)
        return
    from rich.progress import Progress

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
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("simulating", total=ticks)
        result = simulate_(scenario, progress=lambda done: bar.update(task, completed=done))
    if out_:
        write_rows(out_, result.ticks)
        write_rows(out_.with_stem(out_.stem + "-providers"), result.providers)
    if plot_to:
        from hypercluster.market.economics.plots import draw_run

        draw_run(plot_to, result.ticks)
    summary: dict[str, object] = {name: result.mean(name) for name in result.ticks[0] if name != "tick"}
    if json_:
        print_json(summary)
    else:
        out.print(_rows_table("means over the second half", [{"": k, "mean": v} for k, v in summary.items()]))


def _experiment(name: str, folder: Path, seed: int, effort: float, as_json: bool) -> None:
    from hypercluster.market.economics.simulation.experiments import Setup, experiments, run_experiment

    names = list(experiments()) if name == "all" else [name]
    found = {}
    for each in names:
        with err.status(f"{each} ...") as status:
            setup = Setup(folder, seed, effort, lambda what, each=each: status.update(f"{each}: {what} ..."))  # type: ignore[misc]
            found[each] = run_experiment(each, setup)
    if as_json:
        print_json(found if name == "all" else found[name])
        return
    for each, tables in found.items():
        for title, rows in tables.items():
            out.print(_rows_table(f"{each}: {title}", rows))
    out.print(f"figures in {folder}")


def _rows_table(title: str, rows: list[dict[str, object]]) -> Table:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table
