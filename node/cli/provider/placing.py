"""`hc-provider advise`: which layers this machine should serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from hypercluster.market.money.units import parse_price, round_price
from hypercluster.node.cli.client.joining import say_unchecked
from hypercluster.node.cli.console import Json, Shown, err, fail, say, show
from hypercluster.node.cli.opening import Model, taken_to_serve
from hypercluster.node.cli.options import Bootstrap, gib, real, seconds, whole
from hypercluster.node.cli.serving import Threads
from hypercluster.node.cli.staking import default_threads
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.resources import open_chain_to_look, open_ledger
from hypercluster.node.home.settings import LEDGER, Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.economics.placement import Machine, ModelSize, Placement
    from hypercluster.node.provider.placing import Serving
    from hypercluster.node.shards.store import StoredModel


FIRST_PRICE = parse_price("1")
"""wei per token that a provider asks for at first, unless it was told otherwise"""


Reserve = Annotated[
    int,
    whole(
        "Tokens whose price a channel must still hold for each session that is open on it.", most=10_000_000
    ),
]
Slowest = Annotated[
    float | None,
    real(
        "Milliseconds that a token may take by present load for another session to be taken. Default: as many "
        "sessions as there are places.",
        "--slowest",
        least=0.01,
        most=60_000,
    ),
]


PromptTokens = Annotated[
    float | None,
    real(
        "Prompt tokens that clients have computed for each token of an answer, which tells what layers earn. Default: "
        "as in the sessions that this home served in the last 30 days, else 4.",
        "--prompt-tokens",
        least=0,
        most=100_000,
    ),
]


def advise(
    model: Model = None,
    bootstrap: Bootstrap = None,
    memory: Annotated[
        float | None,
        gib(
            "Memory for weights. Default: 85 % of what is free on the cards or the machine, sessions included."
        ),
    ] = None,
    sessions: Annotated[int, whole("Sessions to have room for.", least=1, most=256)] = 4,
    session_tokens: Annotated[int, whole("Tokens of each, within what the model holds.", least=16)] = 2048,
    gpu_layers: Annotated[
        int | None,
        whole("0 to compute on the processor where there are cards. Default: on the cards.", most=10_000),
    ] = None,
    threads: Threads = None,
    prompt_tokens: PromptTokens = None,
    wait: Annotated[float, seconds("To look for others.")] = 5.0,
    top: Annotated[int, whole("Ranges to show.", least=1)] = 10,
    json_: Json = False,
) -> None:
    """Say which layers this machine should serve: the ranges that fit it, by what they would earn.

    Example: [bold]hc-provider advise --model llama.gguf --memory 12[/]

    Loads and times a layer of each kind on this machine, looks at what others offer, and takes for each range the
    price that earns most there, with a quarter of it for each token of a prompt. While no path through the model
    exists, ranges that nobody serves come first. Needs no keys, and with a profile no chain that answers.
    """
    from hypercluster.node.network.addresses import through

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    chain, unchecked = open_chain_to_look(settings)
    stored = taken_to_serve(model, None, settings, chain)
    from hypercluster.node.engine.profile import Backend
    from hypercluster.node.provider.placing import Serving

    serving = Serving(
        sessions=sessions,
        session_tokens=session_tokens,
        threads=threads or default_threads(),
        backend=Backend(gpu_layers=-1 if gpu_layers is None else gpu_layers),
    )
    market = market_of(settings, prompt_tokens)
    machine, size, ranked = prospects(
        settings, chain, stored, serving, in_bytes(memory), market=market, wait=wait
    )
    document = {
        "machine": asdict(machine),
        "prompt_ratio": market.prompt_ratio,
        "layers": [
            {"bytes": held, "ms": machine.layer_ms * cost}
            for held, cost in zip(size.layer_bytes, size.layer_costs, strict=True)
        ],
        "ranges": [asdict(place) for place in ranked[:top]],
        "stake_checked": not unchecked,
    }
    show(document, _view, json_)
    say_unchecked(unchecked)


def _view(found: dict[str, Any]) -> Iterator[Shown]:
    machine = found["machine"]
    yield (
        f"this machine: {machine['memory_bytes'] / 2**30:.1f} GiB, {_span(each['ms'] for each in found['layers'])} ms "
        f"a token and layer; a layer takes {_span(each['bytes'] / 2**20 for each in found['layers'])} MiB"
    )
    ratio = found["prompt_ratio"]
    yield f"a token of an answer comes with {ratio:.3g} of a prompt, each of which costs a quarter of its price"
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


def _span(values: Iterable[float]) -> str:
    """The least and the most of some numbers, or the one that they all are."""
    told = sorted(values)
    least, most = f"{told[0]:.3g}", f"{told[-1]:.3g}"
    return least if least == most else f"{least} to {most}"


def market_of(settings: Settings, prompt_tokens: float | None) -> MarketParameters:
    """The market with so many prompt tokens for each of an answer, or as many as this home's ledger shows."""
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.node.provider.mix import USUAL, as_seen

    if prompt_tokens is not None:
        return MarketParameters(prompt_ratio=prompt_tokens)
    if settings.ledger_url is None and not (settings.home / LEDGER).exists():
        return MarketParameters(prompt_ratio=USUAL)
    with open_ledger(settings) as ledger:
        return as_seen(MarketParameters(), ledger)


def in_bytes(gibibytes: float | None) -> int | None:
    """An option in GiB."""
    return None if gibibytes is None else int(gibibytes * 2**30)


def prospects(
    settings: Settings,
    chain: Chain | None,
    stored: StoredModel,
    serving: Serving,
    memory: int | None,
    *,
    room: int | None = None,
    beside: Sequence[tuple[int, int]] = (),
    market: MarketParameters,
    wait: float,
) -> tuple[Machine, ModelSize, list[Placement]]:
    """This machine, the model, and the ranges it could serve among what others offer now, the best first.

    `beside` are layers of the model that this provider will serve as well.
    `memory` and `room` are bytes, see `measure_machine`, `wait` in seconds. Raises Failed, NodeError,
    MarketError.
    """
    import trio

    from hypercluster.market.economics.graph import Node
    from hypercluster.market.economics.placement import PROMPT_PART, apart, placements
    from hypercluster.node.client.onlooking import Sought, look
    from hypercluster.node.provider.placing import measure_machine

    if not stored.whole:
        fail(
            "to choose among all layers the whole model is needed: give --model a GGUF file, or the id of the model."
        )
    with err.status("Loading and timing layers on this machine"):
        machine, size = measure_machine(stored, serving, memory, room)
    with err.status("Looking at what others offer"):
        manifest = stored.manifest
        sought = Sought(manifest.model_id, manifest.layers, manifest.summary)
        others, why = trio.run(look, settings, sought, chain, wait)
    if why:
        say(why, err)
    own = [
        Node(
            f"own {start}:{stop}",
            start,
            stop,
            FIRST_PRICE,
            machine.layer_ms * (stop - start),
            prompt_price_wei=FIRST_PRICE // PROMPT_PART,
        )
        for start, stop in beside
    ]
    ranked = placements(machine, size, [*others, *own], market=market)
    if not ranked:
        fail("no range of layers fits the memory of this machine: give --memory more.")
    return machine, size, apart(ranked, beside)
