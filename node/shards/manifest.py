"""The manifest: what a model is, by digests, so that strangers mean the same one by a 32-byte id.

Digests are SHA-256 in hex (digests.py). A tensor's line is `name type d0xd1 root`, the root being that over its blocks
(blocks.py); a part's digest is over the lines of its tensors in order of their names. A layer's names leave out
`blk.N.`. The model id is the SHA-256 of its canonical JSON: sorted keys, no spaces, UTF-8, whole numbers only
(RFC 8785 for such values). A manifest brings the lines and the metadata that its digests are made of: with it alone one
knows what a shard consists of.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gguf.constants import GGMLQuantizationType

from hypercluster.node.shards.blueprint import (
    FOREIGN_KEYS,
    MAX_CONTEXT,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    Blueprint,
    Row,
)
from hypercluster.node.shards.errors import ManifestError
from hypercluster.node.shards.lines import Lines, TensorLine, read_lines
from hypercluster.node.shards.values import Values, metadata_digest, parse_values, shown
from hypercluster.node.shards.writing import replacing

FORMAT = 2
MAX_FILE = 32 << 20  # bytes of a manifest file
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class Manifest:
    """What identifies a model; two models are the same if and only if all of this is.

    `layers` is m; `context` is the length in tokens the model was trained for; `quantisation` is the ggml
    type that holds most of the layers' bytes. `tokenizer`, `metadata`, `shared`, `embedding`, `blocks`
    (one per layer) and `head` are digests. `tied` models have no output matrix of their own. `width` float32 numbers
    per token cross between ranges, and with `reads_tokens` the token's id beside them; ranges begin at layers of
    `starts` only (None: anywhere). `rewinds` tells whether caches can forget their last tokens, `shares` whether
    several sequences fit into one batch.
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
    metadata: str
    width: int
    reads_tokens: bool
    starts: tuple[int, ...] | None
    rewinds: bool
    shares: bool
    shared: str
    embedding: str
    blocks: tuple[str, ...]
    head: str
    lines: Lines = field(compare=False, repr=False)
    """what the digests of the parts are made of; no part of the identity, like `values`"""
    values: Values = field(compare=False, repr=False)
    """the metadata of the model file that `metadata` digests"""

    def canonical(self) -> bytes:
        """The canonical JSON whose hash is the model id."""
        document = {"format": FORMAT, **self._identity()}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @cached_property
    def model_id(self) -> str:
        """SHA-256 of the canonical form, 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def summary(self) -> str:
        """What people call the model by: architecture, layers, quantisation."""
        return f"{self.architecture} with {self.layers} layers, {self.quantisation}"

    @cached_property
    def tensors(self) -> dict[str, TensorLine]:
        """What the lines say of every tensor, by its name in the model file."""
        return read_lines(self.lines, "The manifest")

    @cached_property
    def blueprint(self) -> Blueprint:
        """The model without its weights, which says what its shards consist of."""
        prefix = f"{self.architecture}."
        keys = {
            key.removeprefix(prefix): value
            for key, value in self.values.items()
            if key.startswith((prefix, FOREIGN_KEYS))
        }
        rows = {name: Row(line.type, line.shape) for name, line in self.tensors.items()}
        return Blueprint(self.architecture, keys, rows)

    def document(self) -> dict[str, Any]:
        """All of the manifest, with its model id, ready for JSON."""
        named = {"model_id": self.model_id, "format": FORMAT, **self._identity()}
        return named | {"lines": self.lines, "values": shown(self.values)}

    def digests(self) -> dict[str, str]:
        """The digest of every part by its name; a layer's is its number."""
        blocks = {str(index): digest for index, digest in enumerate(self.blocks)}
        return {"shared": self.shared, "embedding": self.embedding, **blocks, "head": self.head}

    def _identity(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}

    def save(self, path: Path) -> Path:
        """Write all of the manifest as JSON. Raises WriteFailed."""
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
        format_ = document.pop("format", None)
        if format_ == 1:
            raise ManifestError(
                f"{name} is of an earlier version, format 1: make it anew with `hc-model manifest` or `hc-model split`."
            )
        if format_ != FORMAT:
            raise ManifestError(f"{name} has another format than {FORMAT}.")
        expected = {each.name for each in fields(cls)}
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
        if (document["starts"] or [0])[-1] >= document["layers"]:
            raise ManifestError(f"{name} lets ranges begin behind its last layer.")
        for key in ("blocks", "starts"):
            document[key] = None if document[key] is None else tuple(document[key])
        document["values"] = parse_values(document["values"], name)
        lines, document["lines"] = document["lines"], {}
        manifest = cls(**document)
        if named_id is not None and named_id != manifest.model_id:
            raise ManifestError(f"{name} was changed: its content does not hash to its model_id.")
        if metadata_digest(manifest.values) != manifest.metadata:
            raise ManifestError(f"{name} was changed: its values do not hash to the digest of the metadata.")
        whole = replace(manifest, lines=_checked_lines(lines, manifest, name))
        whole.__dict__["tensors"] = read_lines(whole.lines, name)
        return whole


def digest_of(lines: Sequence[str]) -> str:
    """The digest of a part, of its lines."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("utf-8", "replace")).hexdigest()


def _checked_lines(lines: Any, manifest: Manifest, name: str) -> Lines:
    digests = manifest.digests()
    if isinstance(lines, dict) and lines.keys() == digests.keys():
        listed = [
            isinstance(part, list) and all(isinstance(line, str) for line in part) for part in lines.values()
        ]
        if all(listed) and all(digest_of(part) == digests[key] for key, part in lines.items()):
            return {key: tuple(part) for key, part in lines.items()}
    raise ManifestError(f"{name} was changed: its lines do not hash to the digests of the parts.")


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _whole(high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 1 <= value <= high


def _is_template(value: Any) -> bool:
    if not isinstance(value, str):
        return value is None
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_starts(value: Any) -> bool:
    if not isinstance(value, list):
        return value is None
    whole = all(type(layer) is int for layer in value)
    return whole and value[:1] == [0] and all(a < b for a, b in itertools.pairwise(value))


_RULES: dict[str, Callable[[Any], bool]] = {
    "architecture": lambda value: isinstance(value, str) and _ARCHITECTURE.fullmatch(value) is not None,
    "layers": _whole(MAX_LAYERS),
    "n_embd": _whole(MAX_WIDTH),
    "n_vocab": _whole(MAX_VOCABULARY),
    "context": _whole(MAX_CONTEXT),
    "quantisation": lambda value: isinstance(value, str) and value in GGMLQuantizationType.__members__,
    "width": _whole(MAX_WIDTH),
    "starts": _is_starts,
    **dict.fromkeys(("tied", "reads_tokens", "rewinds", "shares"), lambda value: isinstance(value, bool)),
    "chat_template": _is_template,
    **dict.fromkeys(("tokenizer", "metadata", "shared", "embedding", "head"), _is_digest),
    "blocks": lambda value: isinstance(value, list) and all(map(_is_digest, value)),
}
