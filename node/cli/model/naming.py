"""`hc-model list`: models by the names that a profile and HyperCluster itself give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypercluster.node.catalogue import VERSE
from hypercluster.node.cli.console import Json, show
from hypercluster.node.cli.model.views import shown_size
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
    found = [document_of(model, settings) for model in settings.catalogue.models]

    def view(data: list[dict[str, Any]]) -> Table:
        table = Table("name", "layers", "context", "transfer", "file", "model id", "what it is")
        for each in data:
            size = shown_size(each["size"]) if each["size"] else ""
            where = "here" if each["path"] else each["from"] or "to be given"
            row = (each["name"], str(each["layers"]), str(each["context"]), size, where)
            table.row(*row, each["model_id"][:16], each["about"])
        return table

    show(found, view, json_)


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
