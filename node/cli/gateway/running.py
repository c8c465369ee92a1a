"""`hc-gateway run`: what the command line says, made into a market that is served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.market.money.units import HCT
from hypercluster.node.cli.client.joining import wallet_held
from hypercluster.node.cli.client.options import (
    Alpha,
    Auditor,
    AuditRate,
    Deposit,
    Dispute,
    Draft,
    DraftModel,
    Dtype,
    InFlight,
    Local,
    NoStay,
    OperatorHops,
    OperatorRequests,
    Spare,
    Spread,
    TrapRate,
    Trials,
    Trust,
    Wait,
)
from hypercluster.node.cli.console import err, fail, password, say
from hypercluster.node.cli.options import Bootstrap, prose
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.start import settle
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.gateway.running import RunningGateway

PORT = 11535
AT_ONCE = 4
"""requests that own layers run at the same time, and a draft model guesses for; others wait for the ones, and are
guessed for from what came before
"""


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A name (hc-model list), a GGUF file, or a folder from `hc-model split`; may be given several "
            "times. Default: the first of the profile, else the demo model.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        prose(f"HOST:PORT to serve at; may be given several times. Default: 127.0.0.1:{PORT}.", "--listen"),
    ] = None,
    expose: Annotated[
        bool,
        typer.Option(
            "--expose",
            help="Allow --listen beyond this machine: whoever has a key and reaches the address spends from your "
            "wallet, and without TLS in front keys can be read on the way.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        prose("Name that the gateway goes by, such as that of a proxy in front of it.", "--allow-host"),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        prose("Origin of a page that may use it with a key, such as https://chat.example.", "--allow-origin"),
    ] = None,
    ollama_open: Annotated[
        str | None,
        prose("Name of the key as which calls of Ollama's API count that bring none; on this machine only."),
    ] = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    dtype: Dtype = "f32",
    draft: Draft = None,
    draft_model: DraftModel = None,
    in_flight: InFlight = None,
    spare: Spare = False,
    local: Local = None,
    deposit: Deposit = HCT // 100,
    spread: Spread = False,
    no_stay: NoStay = False,
    operator_hops: OperatorHops = None,
    operator_requests: OperatorRequests = None,
    trials: Trials = None,
    audit_rate: AuditRate = 0.05,
    auditor: Auditor = "auto",
    trap_rate: TrapRate = 0.1,
    trust: Trust = None,
    dispute: Dispute = False,
    wait: Wait = 30.0,
) -> None:
    """Serve the APIs and the pages until Ctrl-C.

    Example: [bold]hc-gateway run --model smollm2[/]

    Programs use http://127.0.0.1:11535/v1 with a key from [bold]hc-gateway keys create[/]. What runs when it is told to
    end is answered with what was paid for.
    """
    from functools import partial

    import trio

    from hypercluster.node.cli.client.asking import (
        auditing_of,
        drafting_of,
        drafts_of,
        own_of,
        shares_of,
        wishes_of,
    )
    from hypercluster.node.gateway.running import LINK_FILE, GatewayOptions, serve_gateway
    from hypercluster.node.network.addresses import through
    from hypercluster.node.serving.stopping import until_signal
    from hypercluster.node.traffic.connecting import connect, named_models

    binds = tuple(listen or (f"127.0.0.1:{PORT}",))
    _check(binds, expose, ollama_open)
    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    with wallet_held(settings.home, "hc-gateway run"):
        secret = password(settings)
        models = named_models(model or None, settings, bar)
        drafting = drafting_of(draft_model, settings, AT_ONCE)
        options = GatewayOptions(
            binds=binds,
            hosts=tuple(allow_host or ()),
            origins=tuple(allow_origin or ()),
            ollama_open=ollama_open,
            patience=wait,
            keep=settings.home / LINK_FILE,
            password=partial(is_password, settings.home),
        )

        async def main() -> None:
            async with (
                until_signal(),
                connect(
                    models=models,
                    password=secret,
                    wishes=wishes_of(
                        alpha,
                        spread,
                        dtype,
                        drafts_of(draft, draft_model, in_flight),
                        deposit,
                        shares_of(operator_hops, operator_requests, trials),
                        stays=not no_stay,
                        in_flight=in_flight,
                        spare=spare,
                    ),
                    auditing=auditing_of(audit_rate, auditor, trap_rate, dispute, trust),
                    drafting=drafting,
                    own=own_of(local, AT_ONCE),
                    settings=settings,
                    wallet_held=True,
                ) as market,
                trio.open_nursery() as nursery,
            ):
                _say(await nursery.start(partial(serve_gateway, market, options)))

        trio.run(main)


def _check(binds: tuple[str, ...], expose: bool, ollama_open: str | None) -> None:
    """Refuse what would let others near the wallet by accident, and an address that is taken."""
    from hypercluster.node.web.desk import is_loopback
    from hypercluster.node.web.serving import check_free

    beyond = [bind for bind in binds if not is_loopback(bind)]
    if beyond and not expose:
        fail(
            f"{beyond[0]} can be reached from other machines: whoever has a key spends from your wallet, and without "
            "TLS in front keys can be read on the way. Say --expose if that is meant."
        )
    if beyond and ollama_open is not None:
        fail("--ollama-open lets calls in without a key: it goes with an address of this machine only.")
    check_free(binds)


async def is_password(home: Path, word: str) -> bool:
    """Whether a password opens the wallet."""
    from hypercluster.market.errors import KeystoreError
    from hypercluster.node.home import keys
    from hypercluster.node.home.keys import Key
    from hypercluster.node.threads import Threads

    try:
        await Threads(1)(keys.unlock, home, Key.WALLET, word)
    except KeystoreError:
        return False
    return True


def _say(running: RunningGateway) -> None:
    """Where people and programs find it."""
    market = running.gateway.market
    settle()
    say(f"Chat       {running.gateway.logins.one_time_link()}")
    say(f"OpenAI     {running.base_url}")
    say(f"Anthropic  {running.urls[0]}")
    say(f"Models     {', '.join(entry.name for entry in market.models())}")
    if not market.ledger.api_keys.list(revoked=False):
        say("There is no API key yet: hc-gateway keys create NAME makes one.", err)
