"""Cutting a model file into shards: standalone GGUF files that stock llama.cpp loads.

A shard of layers [start, stop) repeats the metadata that llama.cpp computes with, counts its layers from 0
and holds the embedding only where start = 0 and the head only where stop = m. What llama.cpp demands beyond
that is a handful of zeros: an embedding of 32 rows between the ends, a norm where there is no head, and, for
learned positions, a table of zeros, because they are added again to whatever enters a later shard. Shards
have no vocabulary; clients get that in a file of its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType

from hypercluster.node.shards.container import Tensor
from hypercluster.node.shards.digests import Hasher, manifest_of, verify_parts
from hypercluster.node.shards.errors import ManifestMismatch
from hypercluster.node.shards.hyperparameters import LAYER_KEYS, SCALAR_KEYS
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.model import PLACEHOLDER_VOCABULARY, ModelFile, check_source
from hypercluster.node.shards.ranges import check_range
from hypercluster.node.shards.validate import LAYER_START, LAYER_STOP, check_shard
from hypercluster.node.shards.values import metadata_digest, values_of
from hypercluster.node.shards.vocabulary import MODEL_ID
from hypercluster.node.shards.writing import (
    Part,
    Progress,
    Value,
    replacing,
    text,
    uint32,
    uint32s,
    write_parts,
    zeros,
)


def split(
    source: Path,
    start: int,
    stop: int,
    dest: Path,
    *,
    manifest: Manifest | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write layers [start, stop) of the model file `source` to `dest` and return it.

    Streams: memory stays at a few MiB whatever the size of the model. Without `manifest` the whole source is
    hashed first. The file appears under its name only when what was read and what was written both are what
    the manifest says. `progress` is called with the number of bytes just written, then with those just
    checked: twice `shard_bytes` in total.
    Raises InvalidRange, ManifestMismatch, MalformedFile, UnsupportedModel, InvalidTensor,
    WriteFailed.
    """
    model = check_source(source)
    check_range(model.h.layers, start, stop)
    if manifest is None:
        manifest = manifest_of(model)
    hasher = Hasher(model.file)
    with replacing(dest) as file:
        try:
            if manifest.layers != model.h.layers:
                raise ManifestMismatch(
                    f"{source} has {model.h.layers} layers, the manifest {manifest.layers}."
                )
            if metadata_digest(values_of(model.file)) != manifest.metadata:
                raise ManifestMismatch(f"{source} has other metadata than the manifest says.")
            metadata = _metadata(model, start, stop, manifest.model_id)
            write_parts(file, metadata, _parts(model, start, stop, hasher), progress)
            verify_parts(hasher, _range_of(model, start, stop), manifest, start)
        except ManifestMismatch as error:
            raise ManifestMismatch(
                f"{error} It is not, or no longer, the model {manifest.model_id}: fetch it again. "
                "If it was changed on purpose, give it another name or date, and it is hashed anew."
            ) from error
        file.flush()
        check_shard(Path(file.name), manifest, start, stop, progress=progress)
    return dest


def _range_of(model: ModelFile, start: int, stop: int) -> ModelFile:
    """The parts of a whole model that go into the shard of layers [start, stop)."""
    return replace(
        model,
        h=replace(
            model.h,
            layers=stop - start,
            heads=model.h.heads[start:stop],
            kv_heads=model.h.kv_heads[start:stop],
            feed_forward=model.h.feed_forward[start:stop],
        ),
        embedding=model.embedding if start == 0 else {},
        layers=model.layers[start:stop],
        head=model.head if stop == model.h.layers else {},
    )


def shard_bytes(model: ModelFile, start: int, stop: int) -> int:
    """Bytes of tensor data in the shard of layers [start, stop)."""
    check_range(model.h.layers, start, stop)
    return sum(part.size for part in _parts(model, start, stop, Hasher(model.file)))


def _metadata(model: ModelFile, start: int, stop: int, model_id: str) -> dict[str, Value]:
    file, name = model.file, model.rules.name
    ends = start == 0 or stop == model.h.layers
    metadata = {"general.architecture": text(name)}
    for key, field in file.fields.items():
        if (
            key.startswith("general.")
            and field.type is not GGUFValueType.ARRAY
            and key != "general.alignment"
        ):
            metadata.setdefault(key, Value(field.type, file.raw(key)))
    for key in (f"{name}.{key}" for key in SCALAR_KEYS):
        if key in file.fields:
            metadata[key] = Value(file.fields[key].type, file.raw(key))
    for key, numbers in zip(LAYER_KEYS, (model.h.heads, model.h.kv_heads, model.h.feed_forward), strict=True):
        part = numbers[start:stop]
        metadata[f"{name}.{key}"] = uint32(part[0]) if len(set(part)) == 1 else uint32s(part)
    return metadata | {
        f"{name}.block_count": uint32(stop - start),
        f"{name}.vocab_size": uint32(model.h.n_vocab if ends else PLACEHOLDER_VOCABULARY),
        "tokenizer.ggml.model": text("no_vocab"),
        MODEL_ID: text(model_id),
        LAYER_START: uint32(start),
        LAYER_STOP: uint32(stop),
    }


def _parts(model: ModelFile, start: int, stop: int, hasher: Hasher) -> list[Part]:
    """What to write; whoever reads a part through it has it hashed on the way."""
    first, last = start == 0, stop == model.h.layers
    parts = [_copy(hasher, name, tensor) for name, tensor in model.shared.items()]
    if first:
        parts += [_copy(hasher, name, tensor) for name, tensor in model.embedding.items()]
    else:
        if last:
            parts.append(_copy(hasher, "token_embd.weight", model.head["output.weight"]))
        else:
            parts.append(_zeros("token_embd.weight", Type.F16, (model.h.n_embd, PLACEHOLDER_VOCABULARY)))
        if model.rules.learned_positions:
            parts.append(_zero_positions(model))
    for index in range(start, stop):
        for name, tensor in model.layers[index].items():
            parts.append(_copy(hasher, f"blk.{index - start}.{name}", tensor))
    for name, tensor in model.head.items():
        if name != "output.weight":
            if last:
                parts.append(_copy(hasher, name, tensor))
            elif name != "output.bias":
                parts.append(_zeros(name, tensor.type, tensor.shape))
        elif first and last and not model.tied:
            parts.append(_copy(hasher, name, tensor))
    return parts


def _copy(hasher: Hasher, name: str, tensor: Tensor) -> Part:
    return Part(name, tensor.type, tensor.shape, partial(hasher.chunks, tensor))


def _zeros(name: str, type_: Type, shape: tuple[int, ...]) -> Part:
    return Part(name, type_, shape, zeros(Part(name, type_, shape, tuple).size))


def _zero_positions(model: ModelFile) -> Part:
    """Zeros for all positions, in a small type: a block of scale 0 reads as 0."""
    shape = (model.h.n_embd, model.h.context)
    return _zeros("position_embd.weight", Type.F16 if shape[0] % 32 else Type.Q4_0, shape)
