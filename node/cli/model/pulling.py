"""`hc-model pull`: a model by its name or id, whole or some layers, from the web or from those who serve it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.node.catalogue import is_model_id
from hypercluster.node.cli.console import Json, show
from hypercluster.node.cli.model.naming import document_of
from hypercluster.node.cli.options import Bootstrap, layer_range
from hypercluster.node.cli.progress import bar
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.shards import Manifest
    from hypercluster.node.shards.store import StoredModel


def pull(
    what: Annotated[
        str,
        typer.Argument(
            help="A name (hc-model list), a model id, hf:OWNER/REPO/FILE, or the URL of a GGUF file.",
            metavar="NAME|ID|hf:...|URL",
            show_default=False,
        ),
    ],
    layers: Annotated[
        str | None, layer_range("Only these layers, as in 0:8: 0 to 7. From the web it needs --manifest.")
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ID",
            help="Which model it shall be: a manifest file, or a model id, whose manifest its providers give.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            "-o",
            help="Where files from the web go. Default: HC_CACHE; layers go to HC_HOME.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Bootstrap = None,
    json_: Json = False,
) -> None:
    """Fetch a model or some layers of it, check what came, and say where it is.

    Example: [bold]hc-model pull hf:bartowski/Qwen_Qwen3-8B-GGUF/Qwen_Qwen3-8B-Q4_K_M.gguf[/]

    Example: [bold]hc-model pull 886a3470eee261c8e22b0817636b1e061655bfda6aa5934916371ac66f0de6e6 --layers 0:8[/]

    What a name stands for is the one model of its SHA-256, or it is not used. A file from the web comes in ranges: what
    was broken off is gone on with by the same command, and all pieces of a split model come. An id, or a name of which
    nobody says where its file is, is taken from those who serve it, several at once, each block compared with the id;
    without --layers that is what a client needs: manifest and vocabulary.
    """
    from hypercluster.node.network.addresses import through
    from hypercluster.node.pulling import is_link

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    if is_link(what):
        found = _from_web(what, settings, folder, layers, manifest)
    elif folder is not None or manifest is not None:
        raise typer.BadParameter(
            "--folder and --manifest are for files from the web: a name and an id say it all"
        )
    else:
        found = _by_name(what, settings, layers)
    show(found, lambda told: f"{told['name']}: {told['path']}\n{told['about']}", json_)


def _by_name(name: str, settings: Settings, layers: str | None) -> dict[str, Any]:
    from hypercluster.node.shards.naming import has_file, stored_of

    model = settings.catalogue.find(name)
    if model is None and is_model_id(name):
        return _told(name[:16], _taken(name, settings, layers), layers)
    model = settings.catalogue.named(name)
    if layers is not None or not has_file(model):
        return _told(model.name, _taken(model.model_id, settings, layers), layers)
    stored = stored_of(model, settings.home, settings.cache_folder, bar)
    return document_of(model, settings) | {"path": str(stored.source or stored.folder)}


def _taken(model_id: str, settings: Settings, layers: str | None) -> StoredModel:
    from hypercluster.node.home.resources import open_chain_if_any
    from hypercluster.node.pulling import take

    # A block is what the id says or it is not: nobody needs a stake to be believed.
    return take(settings, open_chain_if_any(settings), model_id, layers, bar)


def _from_web(
    text: str, settings: Settings, folder: Path | None, layers: str | None, manifest: str | None
) -> dict[str, Any]:
    from hypercluster.node.pulling import Layers, fetch_layers, fetch_whole, folder_of, link_of
    from hypercluster.node.shards import ManifestMismatch
    from hypercluster.node.shards.naming import stored_at
    from hypercluster.node.shards.ranges import parse_range
    from hypercluster.node.shards.store import MANIFEST, StoredModel, model_folder

    link = link_of(text)
    if layers is not None and manifest is None:
        raise typer.BadParameter(
            "layers are compared with the manifest of the model: say which with --manifest, or pull the whole file"
        )
    wanted = None if manifest is None else _manifest(manifest, settings)
    if layers is None or wanted is None:
        where = folder.expanduser() if folder is not None else folder_of(link, settings.cache_folder)
        path = fetch_whole(link, where, bar)
        stored = stored_at(path, settings.home, bar)
        if wanted is not None and stored.manifest.model_id != wanted.manifest.model_id:
            raise ManifestMismatch(
                f"{path} is the model {stored.manifest.model_id}, not {wanted.manifest.model_id}: it stays where it is "
                "under its own id."
            )
        return _told(link.name, stored, None)
    model = wanted.manifest
    where = folder.expanduser() if folder is not None else model_folder(settings.home, model.model_id)
    if not (where / MANIFEST).exists():
        model.save(where / MANIFEST)
    start, stop = parse_range(layers, model.layers)
    hashes = wanted.block_hashes()
    fetch_layers(link, Layers(model, start, stop, where), hashes.tensors if hashes else None, bar)
    return _told(link.name, StoredModel(model, where, None), layers)


def _manifest(text: str, settings: Settings) -> StoredModel:
    """The model that a manifest file or an id names; a list of block hashes beside the file is used."""
    from hypercluster.node.shards import Manifest
    from hypercluster.node.shards.store import StoredModel, kept_model

    path = Path(text).expanduser()
    if is_model_id(text) and not path.exists():
        return kept_model(text, settings.home) or _taken(text, settings, None)
    return StoredModel(Manifest.load(path), path.parent, None)


def _told(name: str, stored: StoredModel, layers: str | None) -> dict[str, Any]:
    manifest: Manifest = stored.manifest
    path = stored.source or stored.folder
    if layers is not None:
        from hypercluster.node.shards.ranges import parse_range

        path = stored.shard_path(*parse_range(layers, manifest.layers))
    return {
        "name": name,
        "model_id": manifest.model_id,
        "layers": manifest.layers,
        "n_vocab": manifest.n_vocab,
        "context": manifest.context,
        "path": str(path),
        "about": f"{manifest.summary}; model {manifest.model_id}",
    }
