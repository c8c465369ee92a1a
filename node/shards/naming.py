"""From what people call a model to its file on this machine: a name that a catalogue knows, or a path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hypercluster.node.catalogue import VERSE, Catalogue, ListedModel, is_model_id
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.fetching import cached, fetch
from hypercluster.node.shards.store import (
    ModelMissing,
    StoredModel,
    demo_model,
    kept_model,
    known_model,
    open_model,
)
from hypercluster.node.shards.writing import Progress

Showing = Callable[[str, int | None], AbstractContextManager[Progress]]
"""shows progress of something that is named, with so many bytes in all"""


def unseen(_what: str, _total: int | None) -> AbstractContextManager[Progress]:
    """Shows nothing."""
    return nullcontext(lambda _done: None)


def listed(model: str, catalogue: Catalogue) -> ListedModel | None:
    """The model of the catalogue that is meant; None where it is a path.

    A name goes before a file that is called the same; "./name" is the file. None as well for the id of a model that has
    no name. Raises UnknownModel for what is none of these.
    """
    found = None if "/" in model else catalogue.find(model)
    if (
        found is not None
        or is_model_id(model)
        or Path(model).expanduser().exists()
        or "/" in model
        or model.endswith(".gguf")
    ):
        return found
    return catalogue.named(model)


def has_file(model: ListedModel) -> bool:
    """Whether the whole file of a listed model is to be had: it ships with HyperCluster, or somewhere offers it."""
    return model.source is not None or model.model_id == VERSE.model_id


def file_here(model: ListedModel, cache: Path) -> Path | None:
    """The file of a listed model where it need not be fetched."""
    if model.model_id == VERSE.model_id:
        return demo_model()
    return None if model.source is None else cached(model.source, cache)


def file_of(model: ListedModel, cache: Path, showing: Showing = unseen) -> Path:
    """The file of a listed model, fetched if need be. Raises ModelMissing, FetchFailed."""
    if (found := file_here(model, cache)) is not None:
        return found
    if model.source is None:
        raise ModelMissing(
            f"Nobody says where the file of {model.name} is: give it with --model FILE, or take it from those who "
            f"serve it with `hc-model pull {model.name}`."
        )
    with showing(f"Fetching {model.name} from {model.source.place}", model.source.size) as progress:
        return fetch(model.source, cache, progress)


def stored_of(model: ListedModel, home: Path, cache: Path, showing: Showing = unseen) -> StoredModel:
    """A listed model, opened in `home`, and what its name stands for.

    Raises:
        ModelMissing, FetchFailed: its file is not to be had.
        ShardError: the file is none, or of another model.
    """
    if not has_file(model) and (kept := kept_model(model.model_id, home)) is not None:
        return kept
    file = file_of(model, cache, showing)
    stored = stored_at(file, home, showing)
    if stored.manifest.model_id != model.model_id:
        raise ManifestMismatch(
            f"{file} is another model than the one called {model.name}, {model.model_id[:16]}: delete it to have the "
            "right one fetched, or take a profile from somebody you trust."
        )
    return stored


def stored_at(file: Path, home: Path, showing: Showing = unseen) -> StoredModel:
    """A file or folder opened in `home`, hashed where that was not done before, or a model that it keeps by its id.

    Raises ModelMissing, ShardError.
    """
    if is_model_id(str(file)) and not file.exists():
        kept = kept_model(str(file), home)
        if kept is None:
            raise ModelMissing(
                f"Nothing of the model {str(file)[:16]} is on this machine: `hc-model pull {file}` takes it from those "
                "who serve it."
            )
        return kept
    stored = known_model(file, home)
    if stored is not None:
        return stored
    from hypercluster.node.shards.model import check_source

    with showing("Hashing the model", check_source(file).data_bytes) as progress:
        return open_model(file, home, progress)
