"""Time the market's algorithms against networkx, rustworkx and scipy.sparse.csgraph on the same graphs.

    python scripts/bench_market.py [--sizes 1000 10000 100000 1000000] [--repeat 5] [--json]

Every library gets the compact form, adverts as edges between 81 layer boundaries: the node graph of the paper
would need 10^8 edges at 10^5 adverts. "Whole" counts everything from columns of adverts to the ids on the
path: weights, graph, search, and reading off the nodes. Medians; memory is the peak traced by tracemalloc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import networkx as nx
import numpy as np
import rustworkx as rx
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from hypercluster.market.economics.demand import uniform_demand
from hypercluster.market.economics.frontier import frontier_rows
from hypercluster.market.economics.gibbs import marginals, sample_paths
from hypercluster.market.economics.graph import AdvertTable, Floats, Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import price_step
from hypercluster.market.economics.routing import cheapest_rows

LAYERS = 80
MARKET = MarketParameters()


def adverts(size: int, seed: int = 0) -> AdvertTable:
    """Draw ``size`` adverts of 1 to 12 layers; the first 80 serve one layer each, so that a path exists."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, LAYERS, size)
    stop = np.minimum(start + rng.integers(1, 13, size), LAYERS)
    start[:LAYERS], stop[:LAYERS] = np.arange(LAYERS), np.arange(1, LAYERS + 1)
    length = stop - start
    return AdvertTable(
        layers=LAYERS,
        ids=[f"p{i}" for i in range(size)],
        start=start,
        stop=stop,
        price_wei=(rng.lognormal(0.0, 0.5, size) * length * 1e11).astype(np.int64),
        prompt_price_wei=np.zeros(size, dtype=np.int64),
        service_ms=rng.lognormal(0.0, 0.5, size) * length,
        latency_ms=rng.uniform(0.5, 20.0, size),
        risk=np.zeros(size),
        cached_price_wei=np.zeros(size, dtype=np.int64),
    )


def fresh(table: AdvertTable) -> AdvertTable:
    """Return the same columns without anything cached from them."""
    return AdvertTable(
        table.layers, table.ids, table.start, table.stop, table.price_wei, table.prompt_price_wei,
        table.service_ms, table.latency_ms, table.risk, table.cached_price_wei,
    )  # fmt: skip


def plain_weights(table: AdvertTable) -> Floats:
    """Return the weights as the other libraries get them."""
    price = MARKET.alpha / MARKET.p_ref * table.price_wei
    return price + (1 - MARKET.alpha) / MARKET.c_ref * (table.service_ms + 2 * table.latency_ms)


def ours(table: AdvertTable) -> list[str]:
    table = fresh(table)
    return [table.ids[i] for i in cheapest_rows(table, table.weights(MARKET))]


def by_networkx(table: AdvertTable) -> list[str]:
    graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
    weights = plain_weights(table).tolist()
    columns = zip(table.start.tolist(), table.stop.tolist(), range(len(table)), weights, strict=True)
    for a, b, row, weight in columns:
        graph.add_edge(a, b, row=row, weight=weight)
    path = nx.dijkstra_path(graph, 0, LAYERS)
    return [
        table.ids[min(graph[a][b].values(), key=lambda edge: edge["weight"])["row"]]
        for a, b in itertools.pairwise(path)
    ]


def by_rustworkx(table: AdvertTable) -> list[str]:
    graph = rx.PyDiGraph(multigraph=True)
    graph.add_nodes_from(range(LAYERS + 1))
    rows = list(enumerate(plain_weights(table).tolist()))
    graph.add_edges_from(list(zip(table.start.tolist(), table.stop.tolist(), rows, strict=True)))
    path = rx.dijkstra_shortest_paths(graph, 0, LAYERS, weight_fn=lambda row: row[1])[LAYERS]
    return [
        table.ids[min(graph.get_all_edge_data(a, b), key=lambda row: row[1])[0]]
        for a, b in itertools.pairwise(list(path))
    ]


def by_scipy(table: AdvertTable) -> list[str]:
    # A sparse matrix adds up parallel edges, so all but the lightest of each range go first.
    weights = plain_weights(table)
    key = table.start * (LAYERS + 1) + table.stop
    order = np.lexsort((weights, key))
    kept = order[np.unique(key[order], return_index=True)[1]]
    size = LAYERS + 1
    graph = csr_array((weights[kept], (table.start[kept], table.stop[kept])), shape=(size, size))
    _, before = dijkstra(graph, indices=[0], return_predecessors=True)
    row_of = dict(zip(key[kept].tolist(), kept.tolist(), strict=True))
    path, at = [], LAYERS
    while at:
        previous = int(before[0, at])
        path.append(table.ids[row_of[previous * size + at]])
        at = previous
    return path[::-1]


def median_ms(call: Callable[[], object], repeat: int) -> float:
    """Return the median time of ``call`` in ms, after one run to warm up."""
    call()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def peak_mib(call: Callable[[], object]) -> float:
    """Return the most memory that ``call`` allocates at once, MiB."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def measure(size: int, repeat: int) -> dict[str, float]:
    """Return all figures for ``size`` adverts."""
    table = adverts(size)
    rivals = {"networkx": by_networkx, "rustworkx": by_rustworkx, "scipy": by_scipy}
    answer = ours(table)
    row: dict[str, float] = {"adverts": size, "path": median_ms(lambda: ours(table), max(repeat, 9))}
    for name, rival in rivals.items():
        if rival(table) != answer:
            sys.exit(f"{name} finds another path at {size} adverts")
        row[name] = median_ms(lambda rival=rival: rival(table), repeat if size < 10**6 else 1)  # type: ignore[misc]
    row["times faster than the fastest"] = min(row[name] for name in rivals) / row["path"]
    row["path, MiB"] = peak_mib(lambda: ours(table))
    row["marginals"] = median_ms(lambda: marginals(fresh(table), MARKET), repeat)
    row["1000 samples"] = median_ms(
        lambda: sample_paths(fresh(table), MARKET, 1000, np.random.default_rng(0)), repeat
    )
    own = Node("own", 20, 30, 10**12, 10.0)
    demand = uniform_demand(MARKET)
    row["price update"] = median_ms(
        lambda: price_step(own, fresh(table), layers=LAYERS, market=MARKET, demand=demand), repeat
    )
    row["exact frontier"] = median_ms(lambda: frontier_rows(fresh(table)), min(repeat, 3))
    row["paths on it"] = len(frontier_rows(table))
    row["frontier, MiB"] = peak_mib(lambda: frontier_rows(fresh(table)))
    return row


def main() -> None:
    """Print one column per size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        print(f"{size} adverts ...", file=sys.stderr)
        rows.append(measure(size, options.repeat))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for name in rows[0]:
        print(f"{name:32}" + "".join(f"{row[name]:12.4g}" for row in rows))
    print("times in ms")


if __name__ == "__main__":
    main()
