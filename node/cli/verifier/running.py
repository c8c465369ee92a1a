"""`hc-verifier run`: what the command line says, made into terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.market.money.units import parse_price
from hypercluster.node.cli.console import Json, password
from hypercluster.node.cli.opening import Model, taken_to_serve
from hypercluster.node.cli.options import Bootstrap, gib, price, seconds, whole
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
from hypercluster.node.cli.verifier.calibrating import BoundsFile, bounds_of
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.last_run import remembered
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import PEERS, Settings

if TYPE_CHECKING:
    from hypercluster.node.serving.presence import Presence


def run(
    context: typer.Context,
    model: Model = None,
    asked: Annotated[int, price("Per million audited tokens.", "--price", default="0.5")] = parse_price(
        "0.5"
    ),
    listen: Listen = None,
    announce: Announce = None,
    bootstrap: Bootstrap = None,
    jobs: Annotated[int, whole("Audits under way at once.", least=1, most=256)] = 4,
    threads: Threads = None,
    committees: Annotated[bool, typer.Option(help="Enlist for the committees that judge disputes.")] = True,
    bounds: BoundsFile = None,
    keep_shards: Annotated[
        float | None,
        gib("Disk for shards that are cut for audits; unused ones go. Default: twice the model."),
    ] = None,
    claim_every: ClaimEvery = 60.0,
    claim_multiple: ClaimMultiple = 10,
    hct_per_coin: HctPerCoin = 1000,
    refresh: Refresh = 20.0,
    watch: Annotated[float, seconds("Between looks at the chain.", least=0.1)] = 2.0,
    http: Http = None,
    allow_host: AllowHost = None,
) -> None:
    """Audit and judge until Ctrl-C.

    Example: [bold]hc-verifier run --model llama.gguf --price 0.5 --listen /ip4/0.0.0.0/tcp/4101[/]

    A model that is named by its id, or by a name of which nobody says where its file is, comes from its providers: the
    layers of each audit, when they are first asked for, each block compared with the id.

    Draws, votes and reveals by itself; what it has committed to is in the ledger before it is sent, so it goes on
    after a restart. A verifier that is away when it should reveal is slashed.
    """
    from hypercluster.node.network.reach import reach_of
    from hypercluster.node.serving.registration import check_carried

    settings = Settings()
    last = remembered(settings.home)
    reach = reach_of(
        node=keys.address(settings.home, Key.NODE),
        listen=listen or last.listen,
        announce=announce,
        bootstrap=bootstrap,
        setting=settings.bootstrap,
    )
    settings = settings.model_copy(update={"bootstrap": reach.bootstrap})
    with node_held(settings.home, "hc-verifier run"):
        unlocked = unlocking([settings.home], password(settings))
        chain = open_chain(settings)
        wallets = wallets_of(settings.home, chain, unlocked.result()[0])
        stored = taken_to_serve(model, None, settings, chain)
        check_carried(chain, wallets.sender.address, wallets.operator, jobs, "hc-verifier")

        from hypercluster.market.money.claiming import ClaimRule
        from hypercluster.node.replay.replayer import Replayer
        from hypercluster.node.verifier.running import run_verifier
        from hypercluster.node.verifier.terms import VerifierTerms

        count = threads or default_threads()
        terms = VerifierTerms(
            price_wei=asked,
            listen=reach.listen,
            announce=reach.announce,
            bootstrap=reach.bootstrap,
            mdns=settings.mdns,
            peers_file=settings.home / PEERS,
            jobs=jobs,
            refresh_seconds=refresh,
            claim_seconds=claim_every,
            claim=ClaimRule(hct_per_coin=hct_per_coin, multiple=claim_multiple),
            watch_seconds=watch,
            committees=committees,
            http=http_terms("verifier", settings.home, http, allow_host),
        )
        replayer = Replayer(
            stored,
            bounds_of(stored, bounds, count),
            threads=count,
            shelf_bytes=None if keep_shards is None else int(keep_shards * 2**30),
        )
        with kept_address(listen, last):
            run_verifier(
                settings,
                chain,
                terms,
                replayer=replayer,
                wallets=wallets,
                on_ready=_say_auditing,
                judge=context.obj(replayer) if context.obj else None,
            )


def link(json_: Json = False) -> None:
    """Print another one-time link to the pages of the verifier that runs from this home with --http."""
    print_link("verifier", json_)


def _say_auditing(presence: Presence) -> None:
    say_ready(presence, f"Auditing model {presence.told.model_id[:16]}")
