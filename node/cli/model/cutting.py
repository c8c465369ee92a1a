"""What the commands of `hc-model` do to a model: judge it, hash it, cut it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from hypercluster.node.cli.console import fail
from hypercluster.node.cli.model.views import shown_size
from hypercluster.node.cli.progress import bar
from hypercluster.node.shards import (
    Manifest,
    ManifestMismatch,
    ModelFile,
    check_source,
    shard_bytes,
    split,
)
from hypercluster.node.shards.blocks import BlockHashes
from hypercluster.node.shards.digests import digest
from hypercluster.node.shards.store import BLOCKS, MANIFEST, shard_name
from hypercluster.node.shards.vocabulary import has_vocabulary


def checked(file: Path) -> ModelFile:
    """The parts of a model that can be split, served and talked to; every command judges by this."""
    from hypercluster.node.engine.preflight import check_vocabulary_loads

    model = check_source(file)
    if has_vocabulary(model.file):
        check_vocabulary_loads(model.file.path)
    return model


def hashed(model: ModelFile) -> tuple[Manifest, BlockHashes]:
    """The manifest of a model and the hashes of its blocks, under a progress bar."""
    with bar("Hashing", model.data_bytes) as told:
        return digest(model, told)


def cut(
    model: ModelFile, document: Manifest, ranges: list[tuple[int, int]], folder: Path
) -> Iterator[tuple[int, int, Path]]:
    """Write one shard per range into `folder` under a progress bar; yields start, stop and path."""
    source = model.file.path
    for start, stop in ranges:
        path = folder / shard_name(start, stop)
        with bar(
            f"Layers {start}:{stop}", 2 * shard_bytes(model, start, stop)
        ) as told:  # written and checked
            split(source, start, stop, path, manifest=document, progress=told)
        yield start, stop, path


def save_manifest(document: Manifest, hashes: BlockHashes, folder: Path) -> None:
    """Save a manifest and its block hashes where no other model's are. Raises ManifestMismatch, WriteFailed."""
    path = folder / MANIFEST
    if path.exists() and Manifest.load(path).model_id != document.model_id:
        raise ManifestMismatch(f"{path} belongs to another model; choose another folder or remove it.")
    document.save(path)
    hashes.save(folder / BLOCKS, document)


def check_space(folder: Path, needed: int) -> None:
    """End the command where the disk has no room for so many bytes."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        fail(f"the shards take {shown_size(needed)}, but {existing} has {shown_size(free)} left.")
