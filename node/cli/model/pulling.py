"""`hc-model pull`: a model by its name, or from a place on the web."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hypercluster.node.cli.console import Json, show
from hypercluster.node.cli.model.naming import document_of
from hypercluster.node.cli.progress import bar
from hypercluster.node.home.settings import Settings


def pull(
    what: Annotated[
        str,
        typer.Argument(
            help="A name (hc-model list), hf:OWNER/REPO/FILE, or the URL of a GGUF file.",
            metavar="NAME|hf:...|URL",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", "-o", help="Where a file from the web goes. Default: HC_CACHE.", show_default=False
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Fetch a model, check it, and say where it is.

    Example: [bold]hc-model pull smollm2[/]

    Example: [bold]hc-model pull hf:bartowski/Qwen_Qwen3-8B-GGUF/Qwen_Qwen3-8B-Q4_K_M.gguf[/]

    What a name stands for is the one model of its SHA-256, or it is not used. A file from the web comes in ranges: what
    was broken off is gone on with by the same command, all pieces of a split model come, and one that changes on the
    way is fetched anew. What takes a --model fetches what has a name by itself.
    """
    from hypercluster.node.pulling import is_link

    settings = Settings()
    found = _from_web(what, settings, folder) if is_link(what) else _by_name(what, settings, folder)
    show(found, lambda told: f"{told['name']}: {told['path']}\n{told['about']}", json_)


def _by_name(name: str, settings: Settings, folder: Path | None) -> dict[str, Any]:
    from hypercluster.node.shards.naming import stored_of

    if folder is not None:
        raise typer.BadParameter("--folder is for a file from the web: what has a name goes to HC_CACHE")
    model = settings.catalogue.named(name)
    stored = stored_of(model, settings.home, settings.cache_folder, bar)
    return document_of(model, settings) | {"path": str(stored.source or stored.folder)}


def _from_web(text: str, settings: Settings, folder: Path | None) -> dict[str, Any]:
    from hypercluster.node.pulling import fetch_whole, folder_of, link_of
    from hypercluster.node.shards.naming import stored_at

    link = link_of(text)
    where = folder.expanduser() if folder is not None else folder_of(link, settings.cache_folder)
    path = fetch_whole(link, where, bar)
    manifest = stored_at(path, settings.home, bar).manifest
    return {
        "name": link.name,
        "model_id": manifest.model_id,
        "layers": manifest.layers,
        "n_vocab": manifest.n_vocab,
        "context": manifest.context,
        "from": link.host,
        "path": str(path),
        "about": f"{manifest.summary}; model {manifest.model_id}",
    }
