"""`hc-provider advise`: which layers this machine should serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from hypercluster.market.money.units import round_price
from hypercluster.node.cli.client.joining import say_unchecked
from hypercluster.node.cli.console import Json, Shown, err, fail, say, show
from hypercluster.node.cli.opening import Model, opened_to_serve
from hypercluster.node.cli.options import Bootstrap, gib, seconds, whole
from hypercluster.node.cli.serving import Threads
from hypercluster.node.cli.staking import default_threads
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.resources import open_chain_to_look
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.economics.placement import Machine, ModelSize, Placement
    from hypercluster.node.shards.store import StoredModel


def advise(
    model: Model = None,
    bootstrap: Bootstrap = None,
    memory: Annotated[float | None, gib("Memory for weights. Default: 60 % of what is free.")] = None,
    threads: Threads = None,
    wait: Annotated[float, seconds("To look for others.")] = 5.0,
    top: Annotated[int, whole("Ranges to show.", least=1)] = 10,
    json_: Json = False,
) -> None:
    """Say which layers this machine should serve: the ranges that fit it, by what they would earn.

    Example: [bold]hc-provider advise --model llama.gguf --memory 12[/]

    Times a layer on this machine, looks at what others offer, and takes for each range the price that earns most
    there. While no path through the model exists, ranges that nobody serves come first. Needs no keys, and with a
    profile no chain that answers.
    """
    from hypercluster.node.network.addresses import through

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    chain, unchecked = open_chain_to_look(settings)
    stored = opened_to_serve(model, settings)
    machine, _, ranked = prospects(settings, chain, stored, threads or default_threads(), memory, wait=wait)
    ranges = [asdict(place) for place in ranked[:top]]
    show({"machine": asdict(machine), "ranges": ranges, "stake_checked": not unchecked}, _view, json_)
    say_unchecked(unchecked)


def _view(found: dict[str, Any]) -> Iterator[Shown]:
    machine = found["machine"]
    yield (
        f"this machine: {machine['memory_bytes'] / 2**30:.1f} GiB for weights, "
        f"{machine['layer_ms']:.3f} ms a token and layer"
    )
    table = Table("layers", "best price HCT/M", "ms a token", "chance", "revenue HCT/M", "unserved layers")
    for place in found["ranges"]:
        table.row(
            f"{place['start']}:{place['stop']}",
            round_price(place["price_wei"]),
            f"{place['cost_ms']:.2f}",
            f"{place['marginal']:.1%}",
            round_price(round(place["revenue_wei"])),
            str(place["unserved"]),
        )
    yield table


def prospects(
    settings: Settings,
    chain: Chain | None,
    stored: StoredModel,
    threads: int,
    memory: float | None,
    *,
    wait: float,
) -> tuple[Machine, ModelSize, list[Placement]]:
    """This machine, the model, and the ranges it could serve among what others offer now, the best first.

    `memory` is in GiB, `wait` in seconds. Raises Failed, NodeError, MarketError.
    """
    import trio

    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.economics.placement import placements
    from hypercluster.node.client.onlooking import Sought, look
    from hypercluster.node.provider.placing import free_memory, measure_machine, model_size

    if stored.source is None:
        fail("to choose among all layers the whole model is needed: give --model a GGUF file.")
    with err.status("Timing a layer on this machine"):
        room = int(memory * 2**30) if memory else free_memory()
        machine = measure_machine(stored, memory_bytes=room, threads=threads)
    with err.status("Looking at what others offer"):
        manifest = stored.manifest
        sought = Sought(manifest.model_id, manifest.layers, manifest.summary)
        others, why = trio.run(look, settings, sought, chain, wait)
    if why:
        say(why, err)
    size = model_size(stored.source)
    ranked = placements(machine, size, others, market=MarketParameters())
    if not ranked:
        fail("no range of layers fits the memory of this machine: give --memory more.")
    return machine, size, ranked
