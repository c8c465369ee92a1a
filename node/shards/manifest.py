"""The manifest: what a model is, by digests, so that strangers mean the same one by a 32-byte id.

Digests are SHA-256 in hex. A tensor's line is `name type d0xd1 sha256(bytes)`; a part's digest is over the
lines of its tensors in order of their names. A layer's names leave out `blk.N.`, so a shard that renumbers
its layers has the same digests as the model. The model id is the SHA-256 of the manifest's canonical JSON:
sorted keys, no spaces, UTF-8, whole numbers only (RFC 8785 for such values).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from hypercluster.node.shards.architectures import (
    ARCHITECTURES,
    LAYER_KEYS,
    MATRIX_TYPES,
    MAX_CONTEXT,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    SCALAR_KEYS,
    Kind,
)
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.errors import ManifestError, ManifestMismatch
from hypercluster.node.shards.model import ModelFile, Tensors, check_source
from hypercluster.node.shards.vocabulary import tokenizer_digest
from hypercluster.node.shards.writing import Progress, replacing

FORMAT = 1
MAX_FILE = 16 << 20  # bytes of a manifest file
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What identifies a model; two models are the same if and only if all of this is.

    `layers` is m; `context` is the length in tokens the model was trained for; `quantisation` is the ggml
    type that holds most of the layers' bytes. `tokenizer`, `hyperparameters`, `shared`, `embedding`, `blocks`
    (one per layer) and `head` are digests. `tied` models have no output matrix of their own.
    """

    architecture: str
    layers: int
    n_embd: int
    n_vocab: int
    context: int
    quantisation: str
    tied: bool
    chat_template: str | None
    tokenizer: str
    hyperparameters: str
    shared: str
    embedding: str
    blocks: tuple[str, ...]
    head: str

    def canonical(self) -> bytes:
        """The canonical JSON whose hash is the model id."""
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @cached_property
    def model_id(self) -> str:
        """SHA-256 of the canonical form, 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def document(self) -> dict[str, Any]:
        """The manifest with its model id, ready for JSON."""
        return {"model_id": self.model_id, "format": FORMAT, **asdict(self)}

    def save(self, path: Path) -> Path:
        """Write the manifest with its model id as readable JSON. Raises WriteFailed."""
        raw = json.dumps(self.document(), indent=2, ensure_ascii=False).encode() + b"\n"
        with replacing(path) as file:
            file.write(raw)
        return path

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read a manifest file. Raises ManifestError where it cannot be read or breaks a rule."""
        try:
            if path.stat().st_size > MAX_FILE:
                raise ManifestError(f"{path} is too long for a manifest.")
            raw = path.read_bytes()
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error
        return cls.parse(raw, str(path))

    @classmethod
    def parse(cls, raw: bytes, name: str = "The manifest") -> Manifest:
        """Read a manifest from JSON, strictly: every key, no other, in bounds, and the id must agree."""
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{name} is no JSON: {error}.") from error
        if not isinstance(document, dict):
            raise ManifestError(f"{name} is no JSON object.")
        named_id = document.pop("model_id", None)
        if document.pop("format", None) != FORMAT:
            raise ManifestError(f"{name} has another format than {FORMAT}.")
        expected = {field.name for field in fields(cls)}
        if document.keys() != expected:
            odd = ", ".join(sorted(map(str, document.keys() ^ expected)))
            raise ManifestError(f"{name} lacks these keys or should not have them: {odd}.")
        for key, valid in _RULES.items():
            if not valid(document[key]):
                raise ManifestError(f"{name}: {key} has an invalid value.")
        if len(document["blocks"]) != document["layers"]:
            raise ManifestError(
                f"{name} lists {len(document['blocks'])} digests for {document['layers']} layers."
            )
        manifest = cls(**{**document, "blocks": tuple(document["blocks"])})
        if named_id is not None and named_id != manifest.model_id:
            raise ManifestError(f"{name} was changed: its content does not hash to its model_id.")
        return manifest


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _whole(high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 1 <= value <= high


def _is_template(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


_RULES: dict[str, Callable[[Any], bool]] = {
    "architecture": lambda value: isinstance(value, str) and value in ARCHITECTURES,
    "layers": _whole(MAX_LAYERS),
    "n_embd": _whole(MAX_WIDTH),
    "n_vocab": _whole(MAX_VOCABULARY),
    "context": _whole(MAX_CONTEXT),
    "quantisation": lambda value: value in {kind.name for kind in MATRIX_TYPES},
    "tied": lambda value: isinstance(value, bool),
    "chat_template": _is_template,
    **dict.fromkeys(("tokenizer", "hyperparameters", "shared", "embedding", "head"), _is_digest),
    "blocks": lambda value: isinstance(value, list) and all(map(_is_digest, value)),
}


def build_manifest(source: Path, progress: Progress | None = None) -> Manifest:
    """Check a whole model file and hash all of it.

    `progress` is called with the number of bytes just hashed, `check_source(source).data_bytes` in total.
    Raises MalformedFile, UnsupportedModel, InvalidTensor.
    """
    return manifest_of(check_source(source), progress)


def manifest_of(model: ModelFile, progress: Progress | None = None) -> Manifest:
    """The manifest of a checked whole model; see build_manifest."""
    hasher = Hasher(model.file, progress)
    template = model.file.scalar("tokenizer.chat_template")
    return Manifest(
        architecture=model.rules.name,
        layers=model.h.layers,
        n_embd=model.h.n_embd,
        n_vocab=model.h.n_vocab,
        context=model.h.context,
        quantisation=_quantisation(model),
        tied=model.tied,
        chat_template=template if isinstance(template, str) else None,
        tokenizer=tokenizer_digest(model.file),
        hyperparameters=hyperparameter_digest(model),
        shared=hasher.part(model.shared),
        embedding=hasher.part(model.embedding),
        blocks=tuple(hasher.layer(model, index) for index in range(model.h.layers)),
        head=hasher.part(model.head),
    )


def verify_header(model: ModelFile, manifest: Manifest) -> None:
    """Compare everything but the weights: cheap. Raises ManifestMismatch."""
    here = (model.rules.name, model.h.n_embd, model.h.context, hyperparameter_digest(model))
    if here != (manifest.architecture, manifest.n_embd, manifest.context, manifest.hyperparameters):
        raise ManifestMismatch(f"{model.file.path} has other hyper-parameters than the manifest says.")


def verify_weights(
    model: ModelFile, manifest: Manifest, start: int, progress: Progress | None = None
) -> None:
    """Hash every part that the file holds and compare. Raises ManifestMismatch naming the first that differs.

    `start` is the number in the model of the file's first layer.
    """
    verify_parts(Hasher(model.file, progress), model, manifest, start)
    for tensor in model.placeholders.values():
        if any(chunk.count(0) != len(chunk) for chunk in model.file.chunks(tensor)):
            raise ManifestMismatch(f"{model.file.path}: the placeholder {tensor.name} is not all zeros.")


def verify_parts(hasher: Hasher, model: ModelFile, manifest: Manifest, start: int) -> None:
    """Compare the parts that `model` holds, whose layers are those from `start` on. Raises ManifestMismatch."""
    path = model.file.path
    if hasher.part(model.shared) != manifest.shared:
        raise ManifestMismatch(f"{path}: the tensors shared by all layers differ from the manifest.")
    if model.embedding and hasher.part(model.embedding) != manifest.embedding:
        raise ManifestMismatch(f"{path}: the embedding differs from the manifest.")
    for index in range(model.h.layers):
        if hasher.layer(model, index) != manifest.blocks[start + index]:
            raise ManifestMismatch(f"{path}: layer {start + index} differs from the manifest.")
    if model.head and hasher.part(model.head) != manifest.head:
        raise ManifestMismatch(f"{path}: the head differs from the manifest.")


def hyperparameter_digest(model: ModelFile) -> str:
    """Digest of the numbers that hold for all layers and steer the computation."""
    digest = hashlib.sha256()
    for key in sorted(SCALAR_KEYS):
        value = model.file.scalar(f"{model.rules.name}.{key}")
        if value is not None:
            shown = value.hex() if isinstance(value, float) else json.dumps(value)
            digest.update(f"{key} {shown}\n".encode())
    return digest.hexdigest()


class Hasher:
    """Hashes parts of one file, each tensor once."""

    def __init__(self, file: Container, progress: Progress | None = None) -> None:
        self.file = file
        self.progress = progress
        self.known: dict[tuple[Path, int], str] = {}

    def part(self, tensors: Tensors, preamble: str = "") -> str:
        """Digest of a part: a line per tensor, by name."""
        digest = hashlib.sha256(preamble.encode())
        for name, tensor in sorted(tensors.items()):
            shape = "x".join(map(str, tensor.shape))
            digest.update(f"{name} {tensor.type.name} {shape} {self.tensor(tensor)}\n".encode())
        return digest.hexdigest()

    def layer(self, model: ModelFile, index: int) -> str:
        """Digest of a layer: its heads, key-value heads and feed-forward width, then its tensors."""
        numbers = (model.h.heads[index], model.h.kv_heads[index], model.h.feed_forward[index])
        lines = (f"{key} {number}\n" for key, number in zip(LAYER_KEYS, numbers, strict=True))
        return self.part(model.layers[index], "".join(lines))

    def tensor(self, tensor: Tensor) -> str:
        """SHA-256 of a tensor's bytes."""
        place = tensor.path, tensor.offset
        if place not in self.known:
            for chunk in self.chunks(tensor):
                if self.progress is not None:
                    self.progress(len(chunk))
        return self.known[place]

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes; whoever reads to the end has them hashed on the way."""
        digest = hashlib.sha256()
        for chunk in self.file.chunks(tensor):
            digest.update(chunk)
            yield chunk
        self.known[tensor.path, tensor.offset] = digest.hexdigest()


def _quantisation(model: ModelFile) -> str:
    sizes: dict[str, int] = {}
    for layer in model.layers:
        for name, spec in model.rules.layer(model.h, 0, frozenset(layer)).items():
            if spec.kind is Kind.MATRIX and name in layer:
                kind = layer[name].type.name
                sizes[kind] = sizes.get(kind, 0) + layer[name].size
    return max(sorted(sizes), key=sizes.__getitem__)
