"""`hc-market path`, `frontier`, `marginals` and `price`: questions to a market as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.cli.console import Json, Shown, fail, show
from hypercluster.node.cli.market.adverts import Adverts, Alpha, load
from hypercluster.node.cli.market.views import chances_table, paths_table, price_table, rivals_table
from hypercluster.node.cli.opening import Model
from hypercluster.node.cli.options import MOST, real, whole
from hypercluster.node.cli.options import price as price_option

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path

MOST_WEI = 10**15
RIVALS = 8


def _plain(path: Path) -> dict[str, object]:
    return {"weight": path.weight, "price_wei": path.price_wei, "ms": path.ms, "nodes": path.ids}


def path(
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    k: Annotated[int, whole("How many paths to find.", least=1, most=100)] = 1,
    share: Annotated[int | None, whole("Nodes that any two of the k paths may have in common.")] = None,
    max_price: Annotated[
        int | None, price_option("Highest price of the path, HCT per million tokens.")
    ] = None,
    max_ms: Annotated[
        float | None, real("Longest time of the path, ms per token.", least=0, most=MOST, metavar="MS")
    ] = None,
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

    limited = max_price is not None or max_ms is not None
    if k > 1 and limited:
        raise typer.BadParameter("--k goes with no limits on price or time")
    if k == 1 and share is not None:
        raise typer.BadParameter("--share is about several paths: give --k as well")
    file = load(adverts, model, alpha)
    latency = file.latency()
    if k > 1 and latency is not None:
        fail("--k does not go with a file that has direct links.")
    if limited:
        efficient = frontier_of(file.nodes, layers=file.layers, market=file.market, latency=latency)
        found = [pick(efficient, max_price, max_ms)]
    elif k > 1:
        found = k_best(file.nodes, layers=file.layers, k=k, share=share, market=file.market)
    else:
        found = [best_path(file.nodes, layers=file.layers, market=file.market, latency=latency)]

    def view(_: object) -> Iterator[Shown]:
        yield paths_table(found, f"alpha {file.market.alpha:g}")
        if k == 1 and latency is None and not limited:
            others = rivals(file.nodes, layers=file.layers, market=file.market)
            if others:
                yield rivals_table(others[:RIVALS])

    show(_plain(found[0]) if k == 1 else [_plain(path) for path in found], view, json_)


def frontier(
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    epsilon: Annotated[
        float,
        real("0 is exact; else prices may be this much (0.01 is 1 %) above the frontier.", least=0, most=100),
    ] = 0.0,
    json_: Json = False,
) -> None:
    """List every path that no other beats in both price and time.

    Example: [bold]hc-market frontier --adverts market.json --json[/]
    """
    from hypercluster.market.economics.frontier import frontier as frontier_of

    file = load(adverts, model, alpha)
    found = frontier_of(
        file.nodes, layers=file.layers, market=file.market, latency=file.latency(), epsilon=epsilon
    )
    plain = [{name: value for name, value in _plain(p).items() if name != "weight"} for p in found]
    show(plain, lambda _: paths_table(found, f"{len(found)} efficient paths"), json_)


def marginals(adverts: Adverts = None, model: Model = None, alpha: Alpha = None, json_: Json = False) -> None:
    """Show each node's probability of being on a client's path, when clients choose at the file's temperature.

    Example: [bold]hc-market marginals --adverts market.json --json[/]
    """
    from hypercluster.market.economics.gibbs import linked_marginals
    from hypercluster.market.economics.gibbs import marginals as marginals_of
    from hypercluster.market.economics.graph import AdvertTable

    file = load(adverts, model, alpha)
    table, latency = AdvertTable.of(file.nodes, file.layers), file.latency()
    found = (
        marginals_of(table, file.market) if latency is None else linked_marginals(table, file.market, latency)
    )
    chances = dict(zip(table.ids, found.probability.tolist(), strict=True))
    show(chances, lambda chances: chances_table(file.nodes, chances, found.outside), json_)


def price(
    peer: Annotated[
        str, typer.Option(help="Id of the advert whose price is asked about.", show_default=False)
    ],
    adverts: Adverts = None,
    model: Model = None,
    alpha: Alpha = None,
    floor: Annotated[int, price_option("Least price, HCT per million tokens.", default="0")] = 0,
    ceiling: Annotated[
        int, price_option("Highest price, HCT per million tokens.", default="1000")
    ] = MOST_WEI,
    json_: Json = False,
) -> None:
    """Show what a node earns, which way its revenue rises, and its best price against the others as they stand.

    Example: [bold]hc-market price --adverts market.json --peer QmNode --json[/]

    Revenue is per token that any client of the model asks for; the gradient in units of p_ref.
    """
    from hypercluster.market.economics.pricing import price_step

    if ceiling < floor:
        raise typer.BadParameter("--ceiling is below --floor")
    file = load(adverts, model, alpha)
    own = next((node for node in file.nodes if node.id == peer), None)
    if own is None:
        fail(f"there is no advert of {peer}.")
    step = price_step(
        own, file.nodes, layers=file.layers, market=file.market, floor_wei=floor, ceiling_wei=ceiling
    )
    document = {
        "price_wei": step.price_wei,
        "revenue": step.revenue_wei,
        "gradient": step.gradient,
        "best_response_wei": step.best_response_wei,
    }
    show(document, lambda _: price_table(own, step), json_)
