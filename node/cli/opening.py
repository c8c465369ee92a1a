"""Opening a model for a command, by name or path: behind a progress bar where it must be fetched or hashed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.catalogue import VERSE, ListedModel
from hypercluster.node.cli.progress import bar
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.shards.store import StoredModel

Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A name (hc-model list), a GGUF file, or a folder from `hc-model split`. Default: the first of the "
        "profile, else the demo model.",
        show_default=False,
    ),
]


def listed(model: str | None, settings: Settings) -> ListedModel | None:
    """The model that an option names; None where it is a path. Raises UnknownModel, BadProfile."""
    from hypercluster.node.shards.naming import listed as listed_in

    if model is not None:
        return listed_in(model, settings.catalogue)
    profile = settings.network_profile
    return profile.models[0] if profile is not None and profile.models else VERSE


def opened(model: str | None, settings: Settings) -> "StoredModel":
    """The model that an option names. Raises UnknownModel, FetchFailed, ModelMissing, ShardError."""
    from hypercluster.node.shards.naming import stored_at, stored_of

    named = listed(model, settings)
    if named is not None:
        return stored_of(named, settings.home, settings.cache_folder, bar)
    assert model is not None
    return stored_at(Path(model).expanduser(), settings.home, bar)


def opened_to_serve(model: str | None, settings: Settings) -> "StoredModel":
    """The same for whoever wants to be paid for it: clients must be able to load its vocabulary.

    A client finds that out anyway, without the half second that this takes in a home for the first time. Raises
    VocabularyRefused as well.
    """
    from hypercluster.node.engine.preflight import check_stored_vocabulary

    stored = opened(model, settings)
    check_stored_vocabulary(stored)
    return stored
