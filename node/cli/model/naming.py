"""`hc-model list` and `pull`: models by the names that a profile and HyperCluster itself give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.node.catalogue import VERSE
from hypercluster.node.cli.console import Json, show
from hypercluster.node.cli.model.views import shown_size
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.catalogue import ListedModel


def list_(json_: Json = False) -> None:
    """List the models that have a name: those of the network's profile (HC_PROFILE), and those that everyone has.

    Example: [bold]hc-model list[/]

    A name stands for one exact model. Every --model takes names.
    """
    settings = Settings()
    found = [_document(model, settings) for model in settings.catalogue.models]

    def view(data: list[dict[str, Any]]) -> Table:
        table = Table("name", "layers", "context", "transfer", "file", "model id", "what it is")
        for each in data:
            size = shown_size(each["size"]) if each["size"] else ""
            where = "here" if each["path"] else each["from"] or "to be given"
            row = (each["name"], str(each["layers"]), str(each["context"]), size, where)
            table.row(*row, each["model_id"][:16], each["about"])
        return table

    show(found, view, json_)


def pull(
    name: Annotated[
        str, typer.Argument(help="Name of the model (hc-model list).", metavar="NAME", show_default=False)
    ],
    json_: Json = False,
) -> None:
    """Fetch a model by its name, check it, and say where it is.

    Example: [bold]hc-model pull smollm2[/]

    The file goes to HC_CACHE and is the one that the name stands for, by its SHA-256, or it is not used. What takes a
    --model fetches what is missing by itself.
    """
    from hypercluster.node.shards.naming import stored_of

    settings = Settings()
    model = settings.catalogue.named(name)
    stored = stored_of(model, settings.home, settings.cache_folder, bar)
    document = _document(model, settings) | {"path": str(stored.source or stored.folder)}
    show(document, lambda told: f"{told['name']}: {told['path']}\n{told['about']}", json_)


def _document(model: ListedModel, settings: Settings) -> dict[str, Any]:
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
