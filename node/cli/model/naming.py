"""`hc-model list`: models by the names that a profile and HyperCluster itself give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.money.units import round_price
from hypercluster.node.catalogue import VERSE
from hypercluster.node.cli.console import Json, Shown, err, show
from hypercluster.node.cli.model.views import shown_size
from hypercluster.node.cli.options import Bootstrap, seconds
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import kept_model

if TYPE_CHECKING:
    from hypercluster.node.catalogue import ListedModel
    from hypercluster.node.traffic.surveying import Served


def list_(
    bootstrap: Bootstrap = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only names and files: ask no network.", show_default=False)
    ] = False,
    wait: Annotated[float, seconds("To look for who serves what.")] = 5.0,
    json_: Json = False,
) -> None:
    """List the models that have a name, and what the network serves: how much of each, at what price and speed.

    Example: [bold]hc-model list[/]

    Names are those of the network's profile (HC_PROFILE), with who signed them, and those that everyone has. A name
    stands for one exact model, so quantisations of one model have names of their own. Every --model takes names, and
    the ids of models that have none. Without a node to ask (--bootstrap, HC_PROFILE) the names are all.
    """
    from hypercluster.node.network.addresses import through

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    found = [
        document_of(model, settings) | {"network": None, "signed_by": _signer(model, settings)}
        for model in settings.catalogue.models
    ]
    asked = not here and bool(settings.bootstrap or settings.mdns)
    if asked:
        by_id = {each["model_id"]: each for each in found}
        for served in _surveyed(settings, wait):
            known = by_id.get(served.model_id)
            if known is None:
                found.append(known := _unlisted(served, settings))
            known["network"] = _network(served)

    def view(data: list[dict[str, Any]]) -> Iterator[Shown]:
        head = ("served", "HCT/M tokens", "tokens/s") if asked else ()
        table = Table("name", "layers", "context", "transfer", "file", *head, "model id", "what it is")
        for each in data:
            size = shown_size(each["size"]) if each["size"] else ""
            where = "here" if each["path"] else each["from"] or "to be given"
            row = (each["name"] or "", str(each["layers"]), str(each["context"] or ""), size, where)
            table.row(*row, *(_shown(each["network"]) if asked else ()), each["model_id"][:16], each["about"])
        yield table
        profile = settings.network_profile
        if profile is not None and profile.models:
            who = f"are signed by {profile.signed.signer}" if profile.signed else "are signed by nobody"
            yield f"the names of {profile.name} {who}"

    show(found, view, json_)


def _signer(model: ListedModel, settings: Settings) -> str | None:
    """Whose signature it is that a name of the profile stands for this model."""
    profile = settings.network_profile
    signed = profile.signed if profile is not None and model in profile.models else None
    return None if signed is None else signed.signer


def _surveyed(settings: Settings, wait: float) -> list[Served]:
    import trio

    from hypercluster.node.home.resources import open_chain_if_any
    from hypercluster.node.traffic.surveying import survey

    chain = open_chain_if_any(settings)
    with err.status("Looking at what is served"):
        return trio.run(survey, settings, chain, settings.catalogue, wait)


def _network(served: Served) -> dict[str, Any]:
    return {
        "coverage": served.coverage,
        "providers": served.providers,
        "sessions": served.sessions,
        "price_wei": served.price_wei,
        "prompt_price_wei": served.prompt_price_wei,
        "ms": served.ms,
    }


def _shown(network: dict[str, Any] | None) -> tuple[str, str, str]:
    if network is None:
        return "", "", ""
    price, ms = network["price_wei"], network["ms"]
    return (
        f"{network['coverage']:.0%}",
        "" if price is None else round_price(price),
        "" if not ms else f"{1000 / ms:.1f}",
    )


def _unlisted(served: Served, settings: Settings) -> dict[str, Any]:
    """A model that is served and has no name here."""
    kept = kept_model(served.model_id, settings.home)
    return {
        "name": None,
        "aliases": [],
        "model_id": served.model_id,
        "layers": served.layers,
        "n_vocab": kept.manifest.n_vocab if kept else None,
        "context": kept.manifest.context if kept else None,
        "from": "its providers",
        "size": None,
        "path": str(kept.folder) if kept else None,
        "about": served.name,
        "signed_by": None,
    }


def document_of(model: ListedModel, settings: Settings) -> dict[str, Any]:
    """All that is told of a model with a name."""
    from hypercluster.node.shards.fetching import cached
    from hypercluster.node.shards.store import demo_model

    source = model.source
    path = demo_model() if model.model_id == VERSE.model_id else None
    if source is not None:
        path = cached(source, settings.cache_folder)
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "model_id": model.model_id,
        "layers": model.layers,
        "n_vocab": model.n_vocab,
        "context": model.context,
        "from": source.place if source else None,
        "size": source.size if source else None,
        "path": str(path) if path else None,
        "about": model.about,
    }
