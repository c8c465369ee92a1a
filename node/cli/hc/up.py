"""`hc up`: a network with play money, or one that is joined, with a chat window and an API in front of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.node.catalogue import ListedModel, Source
from hypercluster.node.cli.console import Json, err, fail, out, print_json, say
from hypercluster.node.cli.hc.door import port_for
from hypercluster.node.cli.opening import opened_to_show
from hypercluster.node.cli.options import port as port_option
from hypercluster.node.cli.serving import link_file
from hypercluster.node.home.lock import Hold, HomeInUse, held
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.cli.hc.opening import Opened
    from hypercluster.node.shards.store import StoredModel
    from hypercluster.node.testnet.localnet import LocalNetwork

FOLDER = "up"
"""in a home, of the network that `hc up` starts"""


def up(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A name (hc-model list) or a GGUF file; with --join several times for several models. Default: "
            "smollm2, fetched once, or the first of the network that is joined.",
            show_default=False,
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Join the network of this profile and pay from your own wallet, instead of starting one.",
        ),
    ] = None,
    port: Annotated[
        int | None, port_option("TCP port on this machine. Default: 11535, or the next that is free.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for keys and state. Default: HC_HOME.")] = None,
    json_: Json = False,
) -> None:
    """Start everything that a chat with a model over the market needs, and print how to use it; Ctrl-C ends all of it.

    Example: [bold]hc up[/]

    Example: [bold]hc up --model llama.gguf[/]

    Example: [bold]hc up --join https://example.org/network.json[/]

    On its own it runs a chain with play money, providers that share the layers of the model, a verifier, and the
    gateway with its pages. Keys are kept for the next time; play money and its history end with the command.
    """
    settings = Settings(profile=join)
    if home is not None:
        settings = Settings(profile=join, home=home.expanduser())
    with _alone(settings.home):
        free = port_for(port)
        if join is not None:
            from hypercluster.node.cli.hc.joining import join_network

            join_network(settings, model or [], free, json_)
        elif len(model or []) > 1:
            raise typer.BadParameter("--model may be given several times with --join only")
        else:
            _start(settings, model[0] if model else None, free, json_)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """No second `hc up` in a home. Raises Failed."""
    try:
        with held(home / FOLDER, Hold.NODE, "hc up", patience=0):
            yield
    except HomeInUse as error:
        who = f" (pid {error.holder.pid})" if error.holder else ""
        fail(
            f"hc up runs in {home} already{who}: talk to it with hc chat, or give another folder with --home."
        )


def _start(settings: Settings, model: str | None, port: int, json_: bool) -> None:
    from hypercluster.node.testnet.anvil import executable

    executable()  # before anything is fetched for nothing
    stored = opened_to_show(model, settings)
    if stored.source is None:
        fail(f"{stored.folder} holds shards only: give --model the whole model as a GGUF file.")
    named = settings.catalogue.of(stored.manifest.model_id) or _unlisted(stored)

    from hypercluster.node.cli.hc.opening import serve_until_signal
    from hypercluster.node.cli.testnet_views import shown
    from hypercluster.node.testnet.keeping import WALLET_HCT, ended, kept_network, profile_for
    from hypercluster.node.testnet.leftovers import kill_children
    from hypercluster.node.traffic.entries import named_of

    with (
        shown(None if json_ else out, err) as telling,
        kept_network(settings.home / FOLDER, stored, telling) as network,
    ):
        telling.status("Opening the front door")
        profile = network.home / "profile.json"
        profile_for(network, named).save(profile)
        mine = network.client(WALLET_HCT)
        gone: set[int] = set()

        def look() -> None:
            network.trim_logs()
            for node in ended(network, gone):
                say(f"The {node.spec.name} has ended; its log is {node.home / 'log'}.", err)

        def opened(door: Opened) -> None:
            telling.status("")
            tell(
                door,
                named.about,
                json_,
                {"profile": str(profile), "home": str(mine.home)},
                _aside(network, profile),
            )

        serve_until_signal(
            settings.home,
            mine,
            [named_of(named, stored)],
            password=network.password_file.read_text(),
            port=port,
            budget=None,
            on_open=opened,
            beside=look,
            before_end=kill_children,
        )
        telling.status("Ending all processes")
    if not json_:
        say("All of it has ended.")


def _unlisted(stored: StoredModel) -> ListedModel:
    """What a model is called that is known by its file only."""
    manifest, source = stored.manifest, stored.source
    assert source is not None
    name = re.sub(r"[^A-Za-z0-9._:+-]+", "-", source.stem).strip("._:+-")[:80]
    return ListedModel(
        name=name or manifest.model_id[:16],
        model_id=manifest.model_id,
        layers=manifest.layers,
        n_vocab=manifest.n_vocab,
        context=manifest.context,
        source=Source(path=source.absolute()),
    )


def tell(door: Opened, about: str, json_: bool, more: dict[str, Any], aside: list[str]) -> None:
    """Print how people and programs come in."""
    models = [entry.name for entry in door.market.models()]
    if json_:
        print_json({"link": door.link, "base_url": door.base_url, "key": door.key, "models": models, **more})
        return
    say("")
    say(f"Chat      {door.link}")
    say(f"OpenAI    base_url {door.base_url}   key {door.key}")
    say("Terminal  hc chat")
    say(f"Model     {', '.join(models)}" + (f": {about}" if about else ""))
    for line in aside:
        say(line)
    say("\nCtrl-C ends all of it.")


def _aside(network: LocalNetwork, profile: Path) -> list[str]:
    """Where those find what they need who want more."""
    from hypercluster.node.web.login import new_link

    pages = [
        (f"{name.capitalize():9} {new_link(link_file(node.home, name))}")
        for name, nodes in (("provider", network.providers), ("verifier", network.verifiers))
        for node in nodes[:1]
        if link_file(node.home, name).exists()
    ]
    return [
        *pages,
        f"Others    join with --profile {profile}",
        f"Wallet    play money; its keys are in {network.home / 'client'}, their password in {network.password_file}",
    ]
