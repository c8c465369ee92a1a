"""`hc-market`: paths, frontiers, marginals and prices over a file of adverts, and experiments on the market."""

from __future__ import annotations

from typing import NoReturn

from hypercluster.node.cli.market.deterrence import deterrence
from hypercluster.node.cli.market.drawing import plot, snapshot
from hypercluster.node.cli.market.looking import frontier, marginals, path, price
from hypercluster.node.cli.market.simulation import simulate
from hypercluster.node.cli.program import application, run

app = application(
    "Look at a market of adverts: the path to take, its rivals, and what a node should charge.", network=True
)
for command in (path, frontier, marginals, price, snapshot, plot, simulate, deterrence):
    app.command()(command)


def main() -> NoReturn:
    """Entry point of hc-market."""
    run(app, "hc-market")
