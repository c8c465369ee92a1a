"""Opening a model for a command, by name or path: behind a progress bar where it must be fetched or hashed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.catalogue import SMOLLM2, VERSE, ListedModel, is_model_id
from hypercluster.node.cli.console import err, say
from hypercluster.node.cli.progress import bar
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.client.onlooking import Sought
    from hypercluster.node.shards.store import StoredModel

Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE|ID",
        help="A name (hc-model list), a GGUF file, a folder from `hc-model split`, or a model id. Default: the first "
        "of the profile, else the demo model.",
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


def sought(model: str | None, settings: Settings) -> "Sought":
    """The model that an option names, to be looked for: one that has a name need not be here.

    Raises UnknownModel, ModelMissing, ShardError.
    """
    from hypercluster.node.client.onlooking import Sought

    named = listed(model, settings)
    if named is not None:
        return Sought(named.model_id, named.layers, named.name)
    manifest = opened(model, settings).manifest
    return Sought(manifest.model_id, manifest.layers, manifest.summary)


def at_hand(model: str | None, settings: Settings) -> "StoredModel | None":
    """What `opened` returns, where nothing has to be fetched, hashed or asked for, and it is one file or folder.

    Raises UnknownModel, ModelMissing, ShardError.
    """
    from hypercluster.node.shards.naming import file_here
    from hypercluster.node.shards.store import known_model

    named = listed(model, settings)
    file = Path(model or "").expanduser() if named is None else file_here(named, settings.cache_folder)
    stored = known_model(file, settings.home) if file is not None and file.exists() else None
    return stored if named is None or stored is None or stored.manifest.model_id == named.model_id else None


def opened(model: str | None, settings: Settings) -> "StoredModel":
    """The model that an option names. Raises UnknownModel, FetchFailed, ModelMissing, ShardError."""
    from hypercluster.node.shards.naming import stored_at, stored_of

    named = listed(model, settings)
    if named is not None:
        return stored_of(named, settings.home, settings.cache_folder, bar)
    assert model is not None
    return stored_at(Path(model).expanduser(), settings.home, bar)


def opened_to_show(model: str | None, settings: Settings) -> "StoredModel":
    """The model that an option names; where none is named, SmolLM2, and while that is not to be had, the verse model.

    Which it is and why is said on standard error.
    """
    from hypercluster.node.shards import FetchFailed

    if model is not None:
        return opened(model, settings)
    try:
        return opened(SMOLLM2.name, Settings(home=settings.home, cache=settings.cache, profile=None))
    except FetchFailed as error:
        say(
            f"{error} So the model that ships with HyperCluster serves: it writes verse and cannot chat.", err
        )
        return opened(VERSE.name, settings)


def opened_to_serve(model: str | None, settings: Settings) -> "StoredModel":
    """The same for whoever wants to be paid for it: clients must be able to load its vocabulary.

    A client finds that out anyway, without the half second that this takes in a home for the first time. Raises
    VocabularyRefused as well.
    """
    from hypercluster.node.engine.preflight import check_stored_vocabulary

    stored = opened(model, settings)
    check_stored_vocabulary(stored)
    return stored


def taken_to_serve(
    model: str | None, layers: str | None, settings: Settings, chain: "Chain | None"
) -> "StoredModel":
    """The same, and what is named by an id, or by a name without a file, is taken from its providers.

    `layers` is the range that is needed, "a:b"; None for what a client needs. Raises as `opened_to_serve`.
    """
    from hypercluster.node.engine.preflight import check_stored_vocabulary
    from hypercluster.node.shards.naming import has_file

    named = listed(model, settings)
    model_id = model if named is None else named.model_id
    if model_id is None or (named is not None and has_file(named)) or not is_model_id(model_id):
        return opened_to_serve(model, settings)
    from hypercluster.node.pulling import take

    stored = take(settings, chain, model_id, layers, bar)
    check_stored_vocabulary(stored)
    return stored
