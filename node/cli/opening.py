"""Opening a model for a command: behind a progress bar where it must be hashed."""

from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.node.cli.progress import bar

if TYPE_CHECKING:
    from hypercluster.node.shards.store import StoredModel


def opened(model: Path | None, home: Path) -> "StoredModel":
    """The model of a file or folder, by default the demo model. Raises ModelMissing, ShardError."""
    from hypercluster.node.shards import check_source
    from hypercluster.node.shards.store import demo_model, known_model, open_model

    path = model or demo_model()
    stored = known_model(path, home)
    if stored is not None:
        return stored
    with bar("Hashing the model", check_source(path).data_bytes) as progress:
        return open_model(path, home, progress)


def opened_to_serve(model: Path | None, home: Path) -> "StoredModel":
    """The same for whoever wants to be paid for it: clients must be able to load its vocabulary.

    A client finds that out anyway, without the half second that this takes in a home for the first time. Raises
    ModelMissing, ShardError, VocabularyRefused.
    """
    from hypercluster.node.engine.preflight import check_stored_vocabulary

    stored = opened(model, home)
    check_stored_vocabulary(stored)
    return stored
