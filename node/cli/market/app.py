"""`hc-market`: paths, frontiers, marginals and prices over a file of adverts, and experiments on the
market.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from hypercluster.market.economics.advert_file import AdvertFile, load_adverts
from hypercluster.market.money.units import format_price
from hypercluster.node.cli.console import Json, err, fail, out, print_json
from hypercluster.node.cli.market.deterrence import deterrence
from hypercluster.node.cli.market.simulation import simulate
from hypercluster.node.cli.program import application, run

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path, Rival

app = application("Look at a market of adverts: the path to take, its rivals, and what a node should charge.")

Adverts = Annotated[
    FilePath | None,
    typer.Option(
        help="JSON file of adverts; docs/economics.md describes it. Default: the live network (HC_BOOTSTRAP).",
        show_default=False,
    ),
]
Model = Annotated[
    FilePath | None,
    typer.Option(help="Live network: GGUF file or folder of the model. Default: the demo model."),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Weight of price against time; by default the file's.", show_default=False
    ),
]
LOOK_SECONDS = 5.0
MaxPrice = Annotated[int | None, typer.Option(help="Highest price of the path, wei per token.")]
MaxMs = Annotated[float | None, typer.Option(help="Longest time of the path, ms per token.")]


def _load(adverts: FilePath | None, model: FilePath | None, alpha: float | None) -> AdvertFile:
    file = _live(model) if adverts is None else load_adverts(adverts)
    return file if alpha is None else replace(file, market=file.market.with_alpha(alpha))


def _live(model: FilePath | None) -> AdvertFile:
    """Join the network for a few seconds and return the adverts seen, with latencies measured from here."""
    import trio

    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.joining import joined
    from hypercluster.node.client.purse import empty_purse
    from hypercluster.node.home.resources import open_chain
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.shards.store import demo_model, open_model

    settings = Settings()
    chain, stored = open_chain(settings), open_model(model or demo_model(), settings.home)

    async def look() -> AdvertFile:
        async with joined(settings, chain, stored, empty_purse()) as client:
            with err.status("looking for providers ..."):
                await trio.sleep(LOOK_SECONDS)
            return AdvertFile(client.layers, tuple(await client.nodes(full=True)), {}, MarketParameters())

    return trio.run(look)


def _plain(path: Path) -> dict[str, object]:
    return {"weight": path.weight, "price_wei": path.price_wei, "ms": path.ms, "nodes": path.ids}


def _show(paths: list[Path], title: str) -> None:
    table = Table(title=title)
    for name in ("weight", "HCT per M tokens", "ms per token", "nodes"):
        table.add_column(name, justify="left" if name == "nodes" else "right")
    for path in paths:
        hops = " → ".join(f"{escape(node.id)} [{node.start},{node.stop})" for node in path.nodes)
        table.add_row(f"{path.weight:.4f}", format_price(path.price_wei), f"{path.ms:.2f}", hops)
    out.print(table)


@app.command()
def path(
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    k: Annotated[int, typer.Option(min=1, max=100, help="How many paths to find.")] = 1,
    share: Annotated[
        int | None, typer.Option(min=0, help="Nodes that any two of the k paths may have in common.")
    ] = None,
    max_price: MaxPrice = None,
    max_ms: MaxMs = None,
    json_: Json = False,
) -> None:
    """Find the path of least weight, or the k best.

    Example: [bold]hc-market path --adverts market.json --alpha 0.3 --k 3 --share 1[/]

    With [bold]--json[/] and k = 1 prints one object, else a list of them. Limits on price or time pick the
    best path on the exact frontier that keeps them.
    """
    from hypercluster.market.economics.alternatives import k_best
    from hypercluster.market.economics.frontier import frontier as frontier_of
    from hypercluster.market.economics.frontier import pick
    from hypercluster.market.economics.routing import best_path, rivals

    file = _load(adverts, model, alpha)
    latency, limited = file.latency(), max_price is not None or max_ms is not None
    if k > 1 and (latency is not None or limited):
        fail("--k goes with neither direct links in the file nor limits on price or time.")
    if limited:
        found = [
            pick(
                frontier_of(file.nodes, layers=file.layers, market=file.market, latency=latency),
                max_price,
                max_ms,
            )
        ]
    elif k > 1:
        found = k_best(file.nodes, layers=file.layers, k=k, share=share, market=file.market)
    else:
        found = [best_path(file.nodes, layers=file.layers, market=file.market, latency=latency)]
    if json_:
        print_json(_plain(found[0]) if k == 1 else [_plain(path) for path in found])
        return
    _show(found, f"alpha {file.market.alpha:g}")
    if k == 1 and latency is None and not limited:
        others = rivals(file.nodes, layers=file.layers, market=file.market)
        if others:
            out.print(_rivals_table(others[:8]))


def _rivals_table(others: list[Rival]) -> Table:
    table = Table(title="closest rivals")
    for name in ("node", "layers", "HCT per M tokens", "ms per token", "path heavier by"):
        table.add_column(name, justify="left" if name == "node" else "right")
    for rival in others:
        node = rival.node
        layers, excess = f"[{node.start},{node.stop})", f"{rival.excess:.4f}"
        table.add_row(escape(node.id), layers, format_price(node.price_wei), f"{node.total_ms:.2f}", excess)
    return table


@app.command()
def frontier(
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    epsilon: Annotated[
        float,
        typer.Option(
            min=0, help="0 is exact; else prices may be this much (0.01 is 1 %) above the frontier."
        ),
    ] = 0.0,
    json_: Json = False,
) -> None:
    """List every path that no other beats in both price and time.

    Example: [bold]hc-market frontier --adverts market.json --json[/]
    """
    from hypercluster.market.economics.frontier import frontier as frontier_of

    file = _load(adverts, model, alpha)
    found = frontier_of(
        file.nodes, layers=file.layers, market=file.market, latency=file.latency(), epsilon=epsilon
    )
    if json_:
        print_json([{name: value for name, value in _plain(p).items() if name != "weight"} for p in found])
    else:
        _show(found, f"{len(found)} efficient paths")


@app.command()
def marginals(adverts: Adverts = None, model: Model = None, alpha: Alpha = None, json_: Json = False) -> None:
    """Show each node's probability of being on a client's path, when clients choose at the file's
    temperature.

    Example: [bold]hc-market marginals --adverts market.json --json[/]
    """
    from hypercluster.market.economics.gibbs import linked_marginals
    from hypercluster.market.economics.gibbs import marginals as marginals_of
    from hypercluster.market.economics.graph import AdvertTable

    file = _load(adverts, model, alpha)
    table, latency = AdvertTable.of(file.nodes, file.layers), file.latency()
    found = (
        marginals_of(table, file.market) if latency is None else linked_marginals(table, file.market, latency)
    )
    chances = dict(zip(table.ids, found.probability.tolist(), strict=True))
    if json_:
        print_json(chances)
        return
    shown = Table(title=f"outside option {found.outside:.4f}")
    for name in ("node", "layers", "probability"):
        shown.add_column(name, justify="left" if name == "node" else "right")
    for node in sorted(file.nodes, key=lambda node: (node.start, -chances[node.id])):
        shown.add_row(escape(node.id), f"[{node.start},{node.stop})", f"{chances[node.id]:.4f}")
    out.print(shown)


@app.command()
def price(
    peer: Annotated[
        str, typer.Option(help="Id of the advert whose price is asked about.", show_default=False)
    ],
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    floor: Annotated[int, typer.Option(min=0, help="Least price, wei per token.")] = 0,
    ceiling: Annotated[int, typer.Option(min=0, help="Highest price, wei per token.")] = 10**15,
    json_: Json = False,
) -> None:
    """Show what a node earns, which way its revenue rises, and its best price against the others as they
    stand.

    Example: [bold]hc-market price --adverts market.json --peer QmNode --json[/]

    Revenue is in wei per token that any client of the model asks for; the gradient in units of p_ref.
    """
    from hypercluster.market.economics.pricing import price_step

    file = _load(adverts, model, alpha)
    own = next((node for node in file.nodes if node.id == peer), None)
    if own is None:
        fail(f"there is no advert of {peer}.")
    step = price_step(
        own, file.nodes, layers=file.layers, market=file.market, floor_wei=floor, ceiling_wei=ceiling
    )
    if json_:
        print_json(
            {
                "price_wei": step.price_wei,
                "revenue": step.revenue_wei,
                "gradient": step.gradient,
                "best_response_wei": step.best_response_wei,
            }
        )
        return
    shown = Table(title=f"{escape(peer)} on layers [{own.start},{own.stop})", show_header=False)
    for label, value in {
        "price": f"{format_price(step.price_wei)} HCT per M tokens",
        "on a client's path": f"{step.marginal:.4f}",
        "expected revenue": f"{step.revenue_wei} wei per token asked for",
        "gradient": f"{step.gradient:+.6f}",
        "next step to": f"{format_price(step.next_price_wei)} HCT per M tokens",
        "best response": f"{format_price(step.best_response_wei)} HCT per M tokens",
        "rivals on these layers": str(step.rivals),
    }.items():
        shown.add_row(label, value)
    out.print(shown)


@app.command()
def snapshot(
    to: Annotated[FilePath, typer.Argument(help="JSON file to write.", show_default=False)],
    model: Model = None,
) -> None:
    """Keep the adverts of the live network in a file that every other command reads.

    Example: [bold]hc-market snapshot today.json[/]
    """
    from hypercluster.market.economics.advert_file import save_adverts

    file = _live(model)
    save_adverts(to, file)
    out.print(f"wrote {len(file.nodes)} adverts to {to}")


@app.command()
def plot(
    adverts: Adverts = None,
    model: Model = None,
    what: Annotated[str, typer.Argument(help="dag, frontier or revenue.")] = "dag",
    to: Annotated[FilePath, typer.Option(help="PNG or SVG file to write.")] = FilePath("market.svg"),
    peer: Annotated[str | None, typer.Option(help="For revenue: id of the advert.")] = None,
    alpha: Alpha = None,
) -> None:
    """Draw the layer graph with the chosen path, the frontier, or a node's revenue over its price.

    Example: [bold]hc-market plot dag --adverts market.json --to market.svg[/]
    """
    from hypercluster.market.economics import plots
    from hypercluster.market.economics.frontier import frontier as frontier_of
    from hypercluster.market.economics.frontier import pick
    from hypercluster.market.economics.routing import best_path

    file = _load(adverts, model, alpha)
    latency = file.latency()
    if what == "dag":
        best = best_path(file.nodes, layers=file.layers, market=file.market, latency=latency)
        plots.draw_dag(to, file.nodes, file.layers, best)
    elif what == "frontier":
        efficient = frontier_of(file.nodes, layers=file.layers, market=file.market, latency=latency)
        plots.draw_frontier(to, efficient, pick(efficient))
    elif what == "revenue":
        _plot_revenue(file, peer, to)
    else:
        fail(f"Nothing called {what} can be drawn: choose dag, frontier or revenue.")
    out.print(f"wrote {to}")


def _plot_revenue(file: AdvertFile, peer: str | None, to: FilePath) -> None:
    import numpy as np

    from hypercluster.market.economics import plots
    from hypercluster.market.economics.demand import uniform_demand
    from hypercluster.market.economics.pricing import RevenueCurve, price_step

    own = next((node for node in file.nodes if node.id == peer), None)
    if own is None:
        fail("Name the advert whose revenue to draw with --peer.")
    step = price_step(own, file.nodes, layers=file.layers, market=file.market)
    curve = RevenueCurve.of(np.array(step.log_odds), uniform_demand(file.market), file.market)
    top = 3 * step.best_response_wei
    prices = np.linspace(0, top, 400)
    many = RevenueCurve(np.broadcast_to(curve.log_odds, (400, 1)), curve.share, curve.kappa, curve.ratio)
    revenue = many.revenue(prices / file.market.p_ref) * file.market.p_ref / 1e12
    with plots.picture(to) as (axes,):
        plots.lines(
            axes,
            prices / 1e12,
            {own.id: revenue},
            xlabel="price, HCT per million tokens",
            ylabel="expected revenue, HCT per million tokens asked for",
        )
        axes.axvline(step.best_response_wei / 1e12, color="0.5", ls="--", lw=1)
        axes.annotate(
            "best response", (step.best_response_wei / 1e12, 0), fontsize=8, rotation=90, va="bottom"
        )
        if math.isfinite(step.revenue_wei):
            axes.scatter([own.price_wei / 1e12], [step.revenue_wei / 1e12], c="0.0", zorder=3)


app.command()(simulate)
app.command()(deterrence)


def main() -> NoReturn:
    """Entry point of hc-market."""
    run(app, "hc-market")
