"""Which adverts `hc-market` looks at: those of a file, or those that the network shows now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.cli.client.joining import say_unchecked
from hypercluster.node.cli.console import err, fail
from hypercluster.node.cli.opening import sought
from hypercluster.node.cli.options import share

if TYPE_CHECKING:
    from hypercluster.market.economics.advert_file import AdvertFile

Adverts = Annotated[
    Path | None,
    typer.Option(
        help="JSON file of adverts; docs/economics.md describes it. Default: the live network (HC_BOOTSTRAP)."
    ),
]
Alpha = Annotated[float | None, share("Weight of price against time. Default: the file's.")]
LOOK_SECONDS = 5.0


def load(adverts: Path | None, model: str | None, alpha: float | None) -> AdvertFile:
    """The adverts to look at, with `alpha` for clients where it is given. Raises BadAdvertFile, NodeError."""
    from hypercluster.market.economics.advert_file import load_adverts

    file = live(model) if adverts is None else load_adverts(adverts)
    return file if alpha is None else replace(file, market=file.market.with_alpha(alpha))


def live(model: str | None) -> AdvertFile:
    """Join the network for a few seconds and return the adverts seen, with latencies measured from here."""
    from hypercluster.node.home.settings import Settings

    settings = Settings()
    if not settings.bootstrap and not settings.mdns:
        fail(
            "there is no market to look at: give --adverts a file, or set HC_PROFILE to the profile of a network, or "
            "HC_BOOTSTRAP to the address of one of its nodes."
        )
    import trio

    from hypercluster.market.economics.advert_file import AdvertFile
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.client.onlooking import look
    from hypercluster.node.home.resources import open_chain_to_look

    chain, unchecked = open_chain_to_look(settings)
    wanted = sought(model, settings)
    with err.status("looking for providers ..."):
        nodes, why = trio.run(look, settings, wanted, chain, LOOK_SECONDS)
    if why:
        fail(why)
    say_unchecked(unchecked)
    return AdvertFile(wanted.layers, tuple(nodes), {}, MarketParameters())
