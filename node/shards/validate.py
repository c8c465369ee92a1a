"""Checking a shard against the manifest before llama.cpp loads it."""

from __future__ import annotations

from pathlib import Path

from hypercluster.node.shards.blocks import BlockHashes
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.crossing import LAYER_START, LAYER_STOP, crossing_keys
from hypercluster.node.shards.digests import Hasher, verify_tensors
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.filler import check_filler
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import Plan, plan
from hypercluster.node.shards.vocabulary import MODEL_ID, check_tokenizer, tokenizer_digest
from hypercluster.node.shards.writing import Progress, Value, text, uint32


def check_shard(
    path: Path,
    manifest: Manifest,
    start: int,
    stop: int,
    *,
    verify: bool = True,
    progress: Progress | None = None,
) -> BlockHashes | None:
    """Check that `path` is the shard of layers [start, stop) of the manifest's model, byte for byte.

    Always checks the header: it has to be the one that `split` writes. With `verify` also hashes all weights, and gives
    the hashes of their blocks by the model's names (`progress` is called with the bytes just hashed). Raises
    InvalidRange, ManifestMismatch, MalformedFile, UnsupportedModel.
    """
    shard = plan(manifest.blueprint, start, stop)
    file = read_container(path)
    _check_labels(file, manifest, start, stop)
    _check_metadata(file, shard_metadata(shard, manifest.model_id, start, stop))
    _check_table(file, shard)
    if not verify:
        return None
    for piece in shard.pieces:
        if piece.source is None:
            check_filler(file.tensors[piece.name], piece.fill)
    held = {piece.source: file.tensors[piece.name] for piece in shard.pieces if piece.source is not None}
    return verify_tensors(Hasher(file, progress), held, manifest)


def shard_metadata(shard: Plan, model_id: str, start: int, stop: int) -> dict[str, Value]:
    """All metadata of the planned shard of layers [start, stop) of a model, in the order of its file."""
    labels = {
        MODEL_ID: text(model_id),
        LAYER_START: uint32(start),
        LAYER_STOP: uint32(stop),
    }
    return shard.metadata | labels | crossing_keys(shard.crossing)


def check_vocabulary(path: Path, *, architecture: str, n_vocab: int, digest: str) -> None:
    """Check that `path` is the vocabulary-only file a manifest describes, fit for llama.cpp.

    `digest` is the manifest's `tokenizer`. Raises ManifestMismatch, MalformedFile, UnsupportedModel.
    """
    file = read_container(path)
    if file.tensors:
        raise ManifestMismatch(f"{path} holds tensors, so it is no vocabulary file.")
    check_tokenizer(file, architecture, n_vocab)
    if file.scalar("general.architecture") != architecture or tokenizer_digest(file) != digest:
        raise ManifestMismatch(f"{path} is not the vocabulary of this model.")


def _check_labels(file: Container, manifest: Manifest, start: int, stop: int) -> None:
    model_id = file.scalar(MODEL_ID)
    if model_id is None:
        raise ManifestMismatch(f"{file.path} is no shard; cut one with `hc-model split`.")
    if model_id != manifest.model_id:
        raise ManifestMismatch(f"{file.path} belongs to model {model_id}, not to {manifest.model_id}.")
    here = file.scalar(LAYER_START), file.scalar(LAYER_STOP)
    if here != (start, stop):
        raise ManifestMismatch(f"{file.path} holds layers {here[0]}:{here[1]}, not {start}:{stop}.")


def _check_metadata(file: Container, expected: dict[str, Value]) -> None:
    """A shard may say only what `split` writes: llama.cpp acts on many more keys."""
    for key, value in expected.items():
        field = file.fields.get(key)
        if field is None or field.size != len(value.raw) or Value(field.type, file.raw(key)) != value:
            raise ManifestMismatch(f"{file.path} has another {key} than the manifest says.")
    for key in file.fields.keys() - expected.keys():
        raise ManifestMismatch(f"{file.path} has the metadata {key}, which no shard has.")


def _check_table(file: Container, shard: Plan) -> None:
    for piece in shard.pieces:
        tensor = file.tensors.get(piece.name)
        if tensor is None:
            raise ManifestMismatch(f"{file.path}: the tensor {piece.name} is missing.")
        if (tensor.type, tensor.shape) != (piece.row.type, piece.row.shape):
            raise ManifestMismatch(
                f"{file.path}: tensor {piece.name} is {tensor.type.name} {list(tensor.shape)} instead of "
                f"{piece.row.type.name} {list(piece.row.shape)}."
            )
    names = {piece.name for piece in shard.pieces}
    for name in file.tensors.keys() - names:
        raise ManifestMismatch(f"{file.path}: the tensor {name!r} does not belong to this shard.")
