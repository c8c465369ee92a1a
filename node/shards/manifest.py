"""The manifest: what a model is, by digests, so that strangers mean the same one by a 32-byte id.

Digests are SHA-256 in hex (digests.py). A tensor's line is `name type d0xd1 sha256(bytes)`; a part's digest is over the
lines of its tensors in order of their names. A layer's names leave out `blk.N.`, so a shard that renumbers
its layers has the same digests as the model. The model id is the SHA-256 of the manifest's canonical JSON:
sorted keys, no spaces, UTF-8, whole numbers only (RFC 8785 for such values).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hypercluster.node.shards.architectures import (
    ARCHITECTURES,
    LLAMA_MAX_LAYERS,
    MATRIX_TYPES,
    MAX_CONTEXT,
    MAX_VOCABULARY,
    MAX_WIDTH,
)
from hypercluster.node.shards.errors import ManifestError
from hypercluster.node.shards.writing import replacing

FORMAT = 1
MAX_FILE = 16 << 20  # bytes of a manifest file
_DIGEST = re.compile(r"[0-9a-f]{64}")

Lines = dict[str, tuple[str, ...]]


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
    lines: Lines | None = field(default=None, compare=False, repr=False)
    """what the digests of the parts are made of, to say which tensor differs; no part of the identity"""

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

    def document(self) -> dict[str, Any]:
        """The manifest with its model id, ready for JSON."""
        return {"model_id": self.model_id, "format": FORMAT, **self._identity()}

    def digests(self) -> dict[str, str]:
        """The digest of every part by its name; a layer's is its number."""
        blocks = {str(index): digest for index, digest in enumerate(self.blocks)}
        return {"shared": self.shared, "embedding": self.embedding, **blocks, "head": self.head}

    def _identity(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}

    def save(self, path: Path) -> Path:
        """Write the manifest with its model id and a line for every tensor as JSON. Raises WriteFailed."""
        document = self.document() | ({} if self.lines is None else {"lines": self.lines})
        raw = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
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
        lines = document.pop("lines", None)
        expected = {each.name for each in fields(cls) if each.compare}
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
        return manifest if lines is None else replace(manifest, lines=_checked_lines(lines, manifest, name))


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


_RULES: dict[str, Callable[[Any], bool]] = {
    "architecture": lambda value: isinstance(value, str) and value in ARCHITECTURES,
    "layers": _whole(LLAMA_MAX_LAYERS),
    "n_embd": _whole(MAX_WIDTH),
    "n_vocab": _whole(MAX_VOCABULARY),
    "context": _whole(MAX_CONTEXT),
    "quantisation": lambda value: value in [kind.name for kind in MATRIX_TYPES],
    "tied": lambda value: isinstance(value, bool),
    "chat_template": _is_template,
    **dict.fromkeys(("tokenizer", "hyperparameters", "shared", "embedding", "head"), _is_digest),
    "blocks": lambda value: isinstance(value, list) and all(map(_is_digest, value)),
}
