"""Opening a model for a command: behind a progress bar where it must be hashed, and only if clients could use it."""

from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.node.cli.progress import bar

if TYPE_CHECKING:
    from hypercluster.node.shards.store import StoredModel


def opened(model: Path | None, home: Path) -> "StoredModel":
    """The model of a file or folder, by default the demo model.

    Raises ModelMissing, ShardError, VocabularyRefused.
    """
    from hypercluster.node.engine.preflight import check_stored_vocabulary
    from hypercluster.node.shards import check_source
    from hypercluster.node.shards.store import demo_model, known_model, open_model

    path = model or demo_model()
    stored = known_model(path, home)
    if stored is None:
        with bar("Hashing the model", check_source(path).data_bytes) as progress:
            stored = open_model(path, home, progress)
    check_stored_vocabulary(stored)
    return stored
