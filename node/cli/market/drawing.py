"""`hc-market snapshot` and `plot`: the market in a file and in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hypercluster.node.cli.console import Json, fail, show
from hypercluster.node.cli.market.adverts import Adverts, Alpha, live, load
from hypercluster.node.cli.opening import Model


def snapshot(
    to: Annotated[Path, typer.Argument(help="JSON file to write.", show_default=False)],
    model: Model = None,
    json_: Json = False,
) -> None:
    """Keep the adverts of the live network in a file that every other command reads.

    Example: [bold]hc-market snapshot today.json[/]
    """
    from hypercluster.market.economics.advert_file import save_adverts

    file = live(model)
    save_adverts(to, file)
    document = {"file": str(to), "adverts": len(file.nodes)}
    show(document, lambda _: f"wrote {len(file.nodes)} adverts to {to}", json_)


def plot(
    adverts: Adverts = None,
    model: Model = None,
    what: Annotated[Literal["dag", "frontier", "revenue"], typer.Argument(help="What to draw.")] = "dag",
    to: Annotated[Path, typer.Option(help="PNG or SVG file to write.")] = Path("market.svg"),
    peer: Annotated[str | None, typer.Option(help="For revenue: id of the advert.")] = None,
    alpha: Alpha = None,
) -> None:
    """Draw the layer graph with the chosen path, the frontier, or a node's revenue over its price.

    Example: [bold]hc-market plot dag --adverts market.json --to market.svg[/]
    """
    if to.suffix not in (".png", ".svg"):
        raise typer.BadParameter(f"--to: {to} ends in neither .png nor .svg")
    if what == "revenue" and peer is None:
        raise typer.BadParameter("--peer is missing: name the advert whose revenue to draw")
    from hypercluster.market.economics import plots
    from hypercluster.market.economics.frontier import frontier as frontier_of
    from hypercluster.market.economics.frontier import pick
    from hypercluster.market.economics.revenue_plot import draw_revenue
    from hypercluster.market.economics.routing import best_path

    file = load(adverts, model, alpha)
    latency = file.latency()
    if what == "dag":
        best = best_path(file.nodes, layers=file.layers, market=file.market, latency=latency)
        plots.draw_dag(to, file.nodes, file.layers, best)
    elif what == "frontier":
        efficient = frontier_of(file.nodes, layers=file.layers, market=file.market, latency=latency)
        plots.draw_frontier(to, efficient, pick(efficient))
    else:
        own = next((node for node in file.nodes if node.id == peer), None)
        if own is None:
            fail(f"there is no advert of {peer}.")
        draw_revenue(to, own, file.nodes, layers=file.layers, market=file.market)
    show(None, lambda _: f"wrote {to}", False)
