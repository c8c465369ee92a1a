"""`hc-provider run`: what the command line says, made into terms."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hypercluster.market.money.units import in_token
from hypercluster.node.cli.console import Json, password
from hypercluster.node.cli.opening import Model
from hypercluster.node.cli.options import (
    Bootstrap,
    Proportions,
    gib,
    layer_range,
    multiaddr,
    price,
    proportions,
    real,
    seconds,
    shard_of_model,
    whole,
)
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.provider.placing import FIRST_PRICE, PromptTokens, Reserve, Slowest, in_bytes
from hypercluster.node.cli.provider.stands import (
    Named,
    asked_for,
    begun,
    begun_at_once,
    homes_of,
    models_of,
    one_is_named,
    places,
    reaches_of,
    settings_of,
    shifted,
)
from hypercluster.node.cli.serving import (
    AllowHost,
    Announce,
    ClaimEvery,
    ClaimMultiple,
    HctPerCoin,
    Http,
    Listen,
    Refresh,
    Threads,
    http_terms,
    kept_address,
    node_held,
    print_link,
    say_ready,
    unlocking,
    wallets_of,
)
from hypercluster.node.cli.staking import default_threads
from hypercluster.node.home.last_run import remembered
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import PEERS, Settings

if TYPE_CHECKING:
    from hypercluster.node.serving.presence import Presence

Memory = Annotated[
    float | None,
    gib(
        "Memory for weights, with --layers auto; with --also for all shards and their sessions. Default: 85 % of what "
        "is free, sessions included.",
        "--memory",
    ),
]
MOST_SESSION_TOKENS = 2048
"""tokens of a session where nobody said and the model holds more"""


def run(
    context: typer.Context,
    layers: Annotated[
        str,
        layer_range(
            "Layers to serve as a half-open range, 0:3 is 0, 1 and 2; or auto: what earns most.", word="auto"
        ),
    ],
    model: Model = None,
    also: Annotated[
        list[str] | None,
        shard_of_model(
            "A further shard to serve, of the same model or another; may be given several times. Each needs a node "
            "key: hc-provider init --shards N."
        ),
    ] = None,
    asked_price: Annotated[
        int | None,
        price(
            "Per million tokens. With --price-rule gradient this is where the price starts, and a restart goes on "
            "from where it was. Default: 1.",
            "--price",
        ),
    ] = None,
    prompt_price: Annotated[
        int | None, price("Per million prompt tokens. Default: a quarter of the price.")
    ] = None,
    price_rule: Annotated[
        Literal["fixed", "gradient"],
        typer.Option(help="fixed, or gradient: climb the expected revenue against the adverts seen."),
    ] = "gradient",
    floor: Annotated[int, price("Lowest price, per million: your own cost.", default="0")] = 0,
    listen: Listen = None,
    direct: Annotated[
        str | None, multiaddr("Fast TCP listener for steps; 'off' for none.", use="listen", word="off")
    ] = None,
    announce: Announce = None,
    announce_direct: Annotated[
        str | None, multiaddr("Address of the fast listener to tell others instead.", use="announce")
    ] = None,
    bootstrap: Bootstrap = None,
    sessions: Annotated[int, whole("Sessions served at once.", least=1, most=256)] = 4,
    session_tokens: Annotated[
        int | None,
        whole(
            "Longest session in tokens, within what the model holds. Default: 2048, or what the model holds.",
            least=16,
        ),
    ] = None,
    idle: Annotated[
        float, seconds("Until a session whose client sends nothing is closed.", least=15)
    ] = 120.0,
    first_step: Annotated[
        float, seconds("Until a session whose first step was not paid is closed.", least=5)
    ] = 15.0,
    park: Annotated[
        float,
        seconds(
            "For which a session may stay when its client pauses, while nobody else needs the place; 0: none stays.",
            most=86_400,
        ),
    ] = 600.0,
    cached_percent: Annotated[
        int,
        whole("Price of a token that such a session still holds, in percent of a prompt token's.", most=100),
    ] = 5,
    slowest: Slowest = None,
    reserve: Reserve = 256,
    threads: Threads = None,
    memory: Memory = None,
    prompt_tokens: PromptTokens = None,
    claim_every: ClaimEvery = 60.0,
    claim_multiple: ClaimMultiple = 10,
    hct_per_coin: HctPerCoin = 1000,
    refresh: Refresh = 20.0,
    price_every: Annotated[float, seconds("Between price updates.", least=0.5)] = 30.0,
    give: Annotated[
        float,
        real(
            "Most a second for those who fetch these layers, all together; nobody pays for it. 0 to give none.",
            least=0,
            most=100_000,
            metavar="MIB",
        ),
    ] = 16.0,
    keep_transcripts: Annotated[
        float, gib("Disk for what receipts commit to; when it is full no session opens.")
    ] = 4.0,
    kv_type: Annotated[
        Literal["f16", "f32", "bf16", "q8_0"],
        typer.Option(help="Type of the cache; q8_0 with --flash-attention."),
    ] = "f16",
    flash_attention: Annotated[
        bool, typer.Option("--flash-attention", help="Faster on long contexts; audits then allow more.")
    ] = False,
    gpu_layers: Annotated[
        int | None,
        whole(
            "Of the layers served, those that accelerators compute; 0 for none. Default: all, where there are any.",
            most=10_000,
        ),
    ] = None,
    main_gpu: Annotated[
        int | None, whole("The one card that computes, by its number. Default: all there are.", most=15)
    ] = None,
    tensor_split: Annotated[
        Proportions | None,
        proportions("Share of the layers that each card takes. Default: by their free memory."),
    ] = None,
    throttle: Annotated[
        float,
        real(
            "Rest before each step, to leave the machine to others.",
            least=0,
            most=1000,
            metavar="MS",
        ),
    ] = 0.0,
    http: Http = None,
    allow_host: AllowHost = None,
) -> None:
    """Serve layers of a model until Ctrl-C.

    Example: [bold]hc-provider run --layers 0:8 --model llama.gguf --price 2.5 --listen /ip4/0.0.0.0/tcp/4001[/]

    A model that is named by its id, or by a name of which nobody says where its file is, comes from its providers: the
    layers alone, each block compared with the id.

    Finds clients and rivals through the nodes named by --bootstrap; the first node of a network has none. What
    clients paid is kept in the ledger before each answer and claimed when it is worth its gas.
    """
    from hypercluster.node.engine.processes import begun_ahead

    settings = Settings()
    asked = asked_for(model, layers, also or [])
    homes = homes_of(settings, asked)
    with ExitStack() as stack:
        if one_is_named(asked):
            stack.enter_context(begun_ahead())
        for home in homes:
            stack.enter_context(node_held(home, "hc-provider run"))

        from hypercluster.node.engine.profile import Backend, check_cards
        from hypercluster.node.provider.placing import Serving

        backend = Backend(
            flash_attention=flash_attention,
            kv_type=kv_type,
            gpu_layers=-1 if gpu_layers is None else gpu_layers,
            main_gpu=-1 if main_gpu is None else main_gpu,
            tensor_split=tensor_split.shares if tensor_split else (),
        )
        check_cards(backend)
        serving = Serving(
            sessions=sessions,
            session_tokens=session_tokens or MOST_SESSION_TOKENS,
            # several engines on all cores at once would wait for each other
            threads=max(1, (threads or default_threads()) // len(asked)),
            backend=backend,
        )
        # Loaded by another process, and hashed, while this one imports what follows; several would only be in
        # each other's way.
        readying = begun_at_once(settings, asked, serving, throttle, context.obj)
        if readying is not None:
            stack.enter_context(closing(readying))

        from hypercluster.node.serving.registration import check_carried

        lasts = [remembered(home) for home in homes]
        named = Named(listen, direct, announce, announce_direct, bootstrap)
        reaches = reaches_of(settings, homes, lasts, named)
        settings = settings.model_copy(update={"bootstrap": reaches[0].bootstrap})
        unlocked = unlocking(homes, password(settings))
        chain = open_chain(settings)

        # Unlocking takes a second, with the work that a key asks for by default.
        from hypercluster.market.economics.placement import PROMPT_PART
        from hypercluster.market.money.claiming import ClaimRule
        from hypercluster.node.provider.prices import PriceRule
        from hypercluster.node.provider.process import HONEST
        from hypercluster.node.provider.running import Premises, Stand, run_provider
        from hypercluster.node.provider.terms import ProviderTerms

        nodes = unlocked.result()
        wallets = [wallets_of(home, chain, node) for home, node in zip(homes, nodes, strict=True)]
        models = models_of(settings, chain, asked)
        for each in wallets:
            check_carried(chain, each.sender.address, each.operator, sessions, "hc-provider")
        first = in_token(FIRST_PRICE) if asked_price is None else asked_price
        placed = places(settings, chain, asked, models, serving, in_bytes(memory), prompt_tokens)
        if readying is None and len(asked) == 1:
            place = placed[0]
            begun_now = begun(place.stored, place.start, place.stop, serving, throttle, context.obj)
            readying = stack.enter_context(closing(begun_now))

        stands = []
        for place, reach, wallet in zip(placed, reaches, wallets, strict=True):
            terms = ProviderTerms(
                start=place.start,
                stop=place.stop,
                price=PriceRule(
                    start_wei=first,
                    start_prompt_wei=first // PROMPT_PART if prompt_price is None else prompt_price,
                    adapt=price_rule == "gradient",
                    given=asked_price is not None or prompt_price is not None,
                    floor_wei=floor,
                ),
                listen=reach.listen,
                direct=reach.direct,
                announce=reach.announce,
                direct_announce=reach.direct_announce,
                bootstrap=reach.bootstrap,
                sessions=sessions,
                session_tokens=serving.session_tokens,
                idle_seconds=idle,
                first_step_seconds=first_step,
                park_seconds=park,
                cached_percent=cached_percent,
                reserve_tokens=reserve,
                slowest_ms=slowest,
                threads=serving.threads,
                refresh_seconds=refresh,
                claim_seconds=claim_every,
                claim=ClaimRule(hct_per_coin=hct_per_coin, multiple=claim_multiple),
                price_seconds=price_every,
                throttle_ms=throttle,
                give_bytes=give * 2**20,
                backend=backend,
                move=place.move,
                mdns=settings.mdns,
                peers_file=place.home / PEERS,
                http=http_terms("provider", place.home, shifted(http, place.number), allow_host),
            )
            premises = Premises(
                settings=settings_of(settings, place.home),
                chain=chain,
                stored=place.stored,
                wallets=wallet,
                transcript_bytes=int(keep_transcripts * 2**30) // len(asked),
            )
            stands.append(Stand(premises=premises, terms=terms, readying=readying))
        with kept_address(listen, lasts[0]):
            run_provider(
                stands,
                on_ready=_say_serving,
                cutting=partial(bar, "Preparing the shard"),
                ways=context.obj or HONEST,
            )


def link(json_: Json = False) -> None:
    """Print another one-time link to the pages of the provider that runs from this home with --http."""
    print_link("provider", json_)


def _say_serving(presence: Presence) -> None:
    advert = presence.told
    say_ready(
        presence,
        f"Serving layers {advert.layer_start}:{advert.layer_stop} of model {advert.model_id[:16]}",
        f"{advert.capacity} sessions of up to {advert.session_tokens} tokens, {advert.cost_ms:.2f} ms a token",
    )
