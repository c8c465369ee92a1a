"""Checking a shard against the manifest before llama.cpp loads it."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from gguf.constants import GGUFValueType

from hypercluster.node.shards.architectures import Hyperparameters, architecture_of
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.digests import verify_weights
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.hyperparameters import LAYER_KEYS, SCALAR_KEYS, hyperparameters
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.model import PLACEHOLDER_VOCABULARY, ModelFile, take_apart
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.ranges import check_range
from hypercluster.node.shards.vocabulary import MODEL_ID, check_tokenizer, tokenizer_digest
from hypercluster.node.shards.writing import Progress, Value

LAYER_START = "hypercluster.layer_start"
LAYER_STOP = "hypercluster.layer_stop"


def check_shard(
    path: Path,
    manifest: Manifest,
    start: int,
    stop: int,
    *,
    verify: bool = True,
    progress: Progress | None = None,
) -> ModelFile:
    """Check that `path` is the shard of layers [start, stop) of the manifest's model, fit for llama.cpp.

    Always checks container, metadata, types and shapes; with `verify` also hashes all weights (`progress`
    is called with the bytes just hashed). Raises InvalidRange, ManifestMismatch, MalformedFile,
    UnsupportedModel, InvalidTensor.
    """
    check_range(manifest.layers, start, stop)
    file = read_container(path)
    _check_labels(file, manifest, start, stop)
    rules = architecture_of(file)
    _check_keys(file, rules.name)
    first, last = start == 0, stop == manifest.layers
    n_vocab = manifest.n_vocab if first or last else PLACEHOLDER_VOCABULARY
    if file.scalar(f"{rules.name}.vocab_size") != n_vocab:
        raise ManifestMismatch(
            f"{path} does not name {n_vocab} tokens as a shard of layers {start}:{stop} should."
        )
    h = hyperparameters(file, rules, n_vocab, start=start)
    if h.layers != stop - start:
        raise ManifestMismatch(f"{path} holds {h.layers} layers instead of {stop - start}.")
    model = take_apart(file, rules, h, first=first, last=last)
    if first and last and model.tied != manifest.tied:
        raise ManifestMismatch(f"{path} and the manifest disagree on whether embedding and output are one.")
    _check_values(file, h, manifest, start, stop)
    if verify:
        verify_weights(model, manifest, start, progress)
    return replace(model, tied=manifest.tied)


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


def _check_values(file: Container, h: Hyperparameters, manifest: Manifest, start: int, stop: int) -> None:
    """Compare what a shard repeats of the model's metadata, lists cut to its range."""
    architecture = h.architecture
    if architecture != manifest.architecture:
        raise ManifestMismatch(f"{file.path} has another architecture than the manifest says.")
    for key in (f"{architecture}.{key}" for key in SCALAR_KEYS):
        value = manifest.values.get(key)
        here = Value(file.fields[key].type, file.raw(key)) if key in file.fields else None
        if here != value:
            raise ManifestMismatch(f"{file.path} has another {key} than the manifest says.")
    for key, numbers in zip(LAYER_KEYS, (h.heads, h.kv_heads, h.feed_forward), strict=True):
        value = manifest.values.get(f"{architecture}.{key}")
        if value is None:
            continue
        raw = value.raw[12:] if value.type is GGUFValueType.ARRAY else value.raw * manifest.layers
        if raw[4 * start : 4 * stop] != struct.pack(f"<{len(numbers)}I", *numbers):
            raise ManifestMismatch(f"{file.path} has another {architecture}.{key} than the manifest says.")


def _check_labels(file: Container, manifest: Manifest, start: int, stop: int) -> None:
    model_id = file.scalar(MODEL_ID)
    if model_id is None:
        raise ManifestMismatch(f"{file.path} is no shard; cut one with `hc-model split`.")
    if model_id != manifest.model_id:
        raise ManifestMismatch(f"{file.path} belongs to model {model_id}, not to {manifest.model_id}.")
    here = file.scalar(LAYER_START), file.scalar(LAYER_STOP)
    if here != (start, stop):
        raise ManifestMismatch(f"{file.path} holds layers {here[0]}:{here[1]}, not {start}:{stop}.")


def _check_keys(file: Container, architecture: str) -> None:
    """A shard may say only what `split` writes: llama.cpp acts on many more keys."""
    allowed = {MODEL_ID, LAYER_START, LAYER_STOP, "tokenizer.ggml.model"}
    allowed |= {f"{architecture}.{key}" for key in (*SCALAR_KEYS, *LAYER_KEYS, "block_count", "vocab_size")}
    for key, field in file.fields.items():
        general = key.startswith("general.") and field.type is not GGUFValueType.ARRAY
        if key not in allowed and not general:
            raise ManifestMismatch(f"{file.path} has the metadata {key}, which no shard has.")
    if file.scalar("tokenizer.ggml.model") != "no_vocab":
        raise ManifestMismatch(f"{file.path} has a vocabulary, which no shard has.")
