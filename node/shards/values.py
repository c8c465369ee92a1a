"""Metadata values apart from their file: what a manifest carries of a model's metadata, and what a shard repeats."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gguf.constants import GGUFValueType

from hypercluster.node.shards.container import FORMATS, Container
from hypercluster.node.shards.errors import ManifestError, UnsupportedModel
from hypercluster.node.shards.writing import Value

Values = Mapping[str, Value]

NAMING = ("general.", "split.")
"""keys that only name a model or tell how its file is laid out; its architecture is in the manifest anyway"""
VOCABULARY_KEYS = "tokenizer."
MAX_VALUES = 4 << 20  # bytes of the encodings of all values
_ARRAY = struct.Struct("<IQ")


def values_of(file: Container) -> dict[str, Value]:
    """All metadata of a model file but its vocabulary and what only names it. Raises UnsupportedModel."""
    keys = [key for key in sorted(file.fields) if not key.startswith((*NAMING, VOCABULARY_KEYS))]
    if not all(map(str.isprintable, keys)):
        raise UnsupportedModel(f"{file.path} has metadata under a key that cannot be printed.")
    if sum(file.fields[key].size for key in keys) > MAX_VALUES:
        raise UnsupportedModel(
            f"{file.path} has more than {MAX_VALUES} bytes of metadata beside its vocabulary."
        )
    return {key: Value(file.fields[key].type, file.raw(key)) for key in keys}


def metadata_digest(values: Values) -> str:
    """SHA-256 (hex) over a line `key type sha256-of-encoding` for each value, sorted by key."""
    digest = sha256()
    for key, value in sorted(values.items()):
        digest.update(f"{key} {value.type.name} {sha256(value.raw).hexdigest()}\n".encode())
    return digest.hexdigest()


def shown(values: Values) -> dict[str, list[str]]:
    """Values as they stand in a manifest file: under each key the type's name and the encoding in hex."""
    return {key: [value.type.name, value.raw.hex()] for key, value in values.items()}


def parse_values(told: Any, name: str) -> dict[str, Value]:
    """Read `shown` back, strictly. Raises ManifestError."""
    if not isinstance(told, dict):
        raise ManifestError(f"{name} has no metadata of the model (values).")
    return {key: _parsed(key, each, name) for key, each in told.items()}


def _parsed(key: str, told: Any, name: str) -> Value:
    try:
        type_, raw = told
        value = Value(GGUFValueType[type_], bytes.fromhex(raw))
        if key.isprintable() and not key.startswith((*NAMING, VOCABULARY_KEYS)) and _whole(value):
            return value
    except (ValueError, TypeError, KeyError, struct.error):
        pass
    raise ManifestError(f"{name} has metadata that is none, under {key[:80]!a}.")


def _whole(value: Value) -> bool:
    """Whether an encoding is exactly one value of its type."""
    raw = value.raw
    if value.type is GGUFValueType.STRING:
        return len(raw) >= 8 and len(raw) - 8 == int.from_bytes(raw[:8], "little") and b"\0" not in raw[8:]
    if value.type is not GGUFValueType.ARRAY:
        return len(raw) == struct.calcsize(FORMATS[value.type])
    code, count = _ARRAY.unpack_from(raw)
    item = GGUFValueType(code)
    if item is GGUFValueType.STRING:
        return len(raw) == _ARRAY.size + sum(8 + len(text) for text in _texts(raw, count))
    return (
        item is not GGUFValueType.ARRAY and len(raw) == _ARRAY.size + struct.calcsize(FORMATS[item]) * count
    )


def _texts(raw: bytes, count: int) -> list[bytes]:
    """The texts of a list. Raises ValueError where it ends before them."""
    found, at = [], _ARRAY.size
    if count > len(raw):
        raise ValueError("a list is shorter than it says")
    for _ in range(count):
        start = at + 8
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise ValueError("a list is shorter than it says")
        found.append(raw[start:at])
    return found
