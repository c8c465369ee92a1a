"""Models on this machine: from a GGUF file or a folder of shards to the files that a node loads."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from hypercluster.node.errors import NodeError
from hypercluster.node.shards import (
    Manifest,
    ManifestError,
    ManifestMismatch,
    ShardError,
    check_shard,
    check_vocabulary,
    split,
    write_vocabulary,
)
from hypercluster.node.shards.blocks import BlockHashes
from hypercluster.node.shards.digests import digest
from hypercluster.node.shards.model import check_source
from hypercluster.node.shards.pieces import pieces_of, read_container
from hypercluster.node.shards.vocabulary import has_vocabulary
from hypercluster.node.shards.writing import Progress

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
VOCABULARY = "vocab.gguf"
BLOCKS = "blocks.bin"
BOUNDS = "bounds.json"


class ModelMissing(NodeError):
    """There is no model where one was named, or it lacks the part that is needed."""


def demo_model() -> Path:
    """The small model that ships with HyperCluster."""
    return Path(str(files("hypercluster.node") / "demo_model" / "hypercluster-demo.gguf"))


def shard_name(start: int, stop: int) -> str:
    """File name of the shard of layers [start, stop) in a folder of shards."""
    return f"layers-{start:04d}-{stop:04d}.gguf"


Taking = Callable[[int, int, Path], Path]
"""fetches the checked shard of layers [start, stop) into a folder; raises FetchFailed, ShardError"""


@dataclass(frozen=True)
class StoredModel:
    """A model with its manifest, a folder for what is cut from it, and the whole file where that is at hand.

    `taking` is where shards come from that are not there, if there is no file to cut them from.
    """

    manifest: Manifest
    folder: Path
    source: Path | None
    taking: Taking | None = field(default=None, compare=False)

    @property
    def whole(self) -> bool:
        """Whether the shard of any range can be had."""
        return self.source is not None or self.taking is not None

    @property
    def bounds_file(self) -> Path:
        """Where calibration keeps what audits of this model allow."""
        return self.folder / BOUNDS

    def block_hashes(self) -> BlockHashes | None:
        """The hashes of all blocks of the model, or None where they are not here, or not those of this model."""
        try:
            return BlockHashes.load(self.folder / BLOCKS, self.manifest)
        except ManifestError:
            return None

    def shard_path(self, start: int, stop: int) -> Path:
        """Where the shard of layers [start, stop) is or will be."""
        return self.folder / shard_name(start, stop)

    def shard(self, start: int, stop: int, progress: Progress | None = None) -> Path:
        """The file of layers [start, stop), cut or taken now if need be; its weights are hashed at every call.

        `progress` is told of the bytes written and of those checked.

        Raises:
            ModelMissing: it is not in the folder and there is no whole model to cut it from.
            ShardError: a file is malformed or is not what the manifest says.
            FetchFailed: nobody gives it.
        """
        path = self.shard_path(start, stop)
        if path.exists():
            try:
                check_shard(path, self.manifest, start, stop, progress=progress)
                return path
            except ShardError as error:
                self._again(error, f"`hc-model split MODEL.gguf --layers {start}:{stop} -o {self.folder}`")
        if self.source is None and self.taking is not None:
            path.unlink(missing_ok=True)
            return self.taking(start, stop, self.folder)
        if self.source is None:
            raise ModelMissing(
                f"{self.folder} holds no shard of layers {start}:{stop}; "
                f"make it with `hc-model split MODEL.gguf --layers {start}:{stop} -o {self.folder}`."
            )
        return split(self.source, start, stop, path, manifest=self.manifest, progress=progress)

    def vocabulary(self) -> Path:
        """The vocabulary-only file that a client tokenizes with, written now if need be, always checked.

        Raises ModelMissing, ShardError.
        """
        path = self.folder / VOCABULARY
        if path.exists():
            try:
                self._check_vocabulary(path)
                return path
            except ShardError as error:
                self._again(error, "`hc-model split`, or copy it from where the shards were made")
        if self.source is None:
            raise ModelMissing(
                f"{self.folder} holds no {VOCABULARY}; copy it from where the shards were made."
            )
        if not has_vocabulary(read_container(self.source)):
            raise ModelMissing(f"{self.source} has no vocabulary; clients must send it token ids.")
        write_vocabulary(self.source, path)
        try:
            self._check_vocabulary(path)
        except ManifestMismatch as error:
            path.unlink(missing_ok=True)
            raise ManifestMismatch(
                f"{self.source} has another vocabulary than the model {self.manifest.model_id} that it was "
                "when it was hashed: fetch it again."
            ) from error
        return path

    def _check_vocabulary(self, path: Path) -> None:
        manifest = self.manifest
        check_vocabulary(
            path, architecture=manifest.architecture, n_vocab=manifest.n_vocab, digest=manifest.tokenizer
        )

    def _again(self, error: ShardError, remedy: str) -> None:
        """What is rotten is made again where the model can be had, and refused with `remedy` elsewhere."""
        if not self.whole:
            raise type(error)(f"{error} Delete it and make it again with {remedy}.") from error
        log.warning("%s It is made again from %s.", error, self.source or "its providers")


def model_folder(home: Path, model_id: str) -> Path:
    """Where a home keeps what it has of a model."""
    return home / "models" / model_id


def kept_model(model_id: str, home: Path) -> StoredModel | None:
    """What a home has of a model, without its whole file; None where it has not even the manifest.

    Raises ManifestError: the manifest there is broken, or another model's.
    """
    folder = model_folder(home, model_id)
    if not (folder / MANIFEST).exists():
        return None
    manifest = Manifest.load(folder / MANIFEST)
    if manifest.model_id != model_id:
        raise ManifestError(f"{folder / MANIFEST} is the manifest of another model: delete it.")
    return StoredModel(manifest, folder, None)


def open_model(model: Path, home: Path, progress: Progress | None = None) -> StoredModel:
    """Open a GGUF file, any piece of a split one, or a folder that `hc-model split` wrote.

    What is cut from a GGUF file goes to `home`/models/<model id>; hashing a big file takes a while, so its
    manifest is kept there for as long as the file does not change.

    Raises:
        ModelMissing, ShardError: see StoredModel.
    """
    stored = known_model(model, home)
    if stored is None:
        model = model.absolute()
        manifest, hashes = digest(check_source(model), progress)
        hashes.save(home / "models" / manifest.model_id / BLOCKS, manifest)
        manifest.save(_known(model, home))
        stored = known_model(model, home)
    if stored is None:
        raise ManifestMismatch(f"{model} changed while it was hashed; try again when it is complete.")
    return stored


def known_model(model: Path, home: Path) -> StoredModel | None:
    """What `open_model` returns where it need not hash: a folder of shards, or a file hashed before; else None.

    Raises:
        ModelMissing, ShardError: see StoredModel.
    """
    if model.is_dir():
        if not (model / MANIFEST).exists():
            raise ModelMissing(f"{model} holds no {MANIFEST}; `hc-model split` writes such a folder.")
        return StoredModel(Manifest.load(model / MANIFEST), model, None)
    if not model.exists():
        raise ModelMissing(f"There is no model file or folder {model}.")
    model = model.absolute()  # and not resolved: pieces find each other by name, links and all
    try:
        manifest = Manifest.load(_known(model, home))
    except ManifestError:
        return None
    folder = model_folder(home, manifest.model_id)
    if not (folder / MANIFEST).exists():
        manifest.save(folder / MANIFEST)
    return StoredModel(manifest, folder, model)


def _known(model: Path, home: Path) -> Path:
    """Where the manifest of a file hashed before is kept: another place once any piece of it has changed."""
    return home / "models" / "known" / f"{_fingerprint(model)}.json"


def _fingerprint(model: Path) -> str:
    """Of the place, length and date of every piece of a model."""
    told = []
    for piece in pieces_of(model):
        if piece.exists():
            status = piece.stat()
            told.append([str(piece.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
