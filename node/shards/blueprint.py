"""A model without its weights: the metadata it computes with and the table of its tensors.

That is all which decides what the shards of a model look like, so it may come from a file or from a manifest.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from gguf.constants import GGMLQuantizationType, GGUFValueType

from hypercluster.node.shards.container import FORMATS, Container, tensor_bytes
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.rules import Rule, rule_of
from hypercluster.node.shards.writing import Value

MAX_LAYERS = 512  # as llama.cpp has it
MAX_WIDTH = 1 << 17  # numbers of a token that cross a boundary
MAX_VOCABULARY = 1 << 21
MAX_CONTEXT = 1 << 24
MAX_KEYS = 1 << 20  # bytes of all metadata that a shard may repeat
FOREIGN_KEYS = "xielu."  # the only keys of a model that do not begin with its architecture

Items = list[int] | list[float] | list[bool]


@dataclass(frozen=True)
class Row:
    """One row of a table of tensors; shape in ggml order (row length first)."""

    type: GGMLQuantizationType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its data."""
        return tensor_bytes(self.type, self.shape)


@dataclass(frozen=True)
class Blueprint:
    """A model's `keys`, named without `<architecture>.` (those of `xielu.` stand as they are), and its `tensors`.

    Numbers that are no numbers, or beyond their bounds, raise UnsupportedModel where they are read.
    """

    architecture: str
    keys: Mapping[str, Value]
    tensors: Mapping[str, Row]

    @property
    def rule(self) -> Rule:
        """What its architecture needs beyond the general rule. Raises UnsupportedModel."""
        return rule_of(self.architecture)

    @cached_property
    def blocks(self) -> int:
        """Layers of the file, those for predicting several tokens included."""
        return self.number("block_count", 1, MAX_LAYERS)

    @cached_property
    def layers(self) -> int:
        """m: the layers that compute, [0, m)."""
        ahead = self.number("nextn_predict_layers", 0, MAX_LAYERS, default=0)
        if ahead >= self.blocks:
            raise UnsupportedModel(f"The model has {self.blocks} layers, and {ahead} of them look ahead.")
        return self.blocks - ahead

    @cached_property
    def n_embd(self) -> int:
        """Numbers of a token's embedding."""
        return self.number("embedding_length", 1, MAX_WIDTH)

    @cached_property
    def n_vocab(self) -> int:
        """Rows of the embedding."""
        table = self.tensors.get("token_embd.weight")
        if table is None or len(table.shape) != 2 or table.shape[1] > MAX_VOCABULARY:
            raise UnsupportedModel(
                f"The model has no embedding (token_embd.weight) of at most {MAX_VOCABULARY} tokens."
            )
        return table.shape[1]

    @cached_property
    def context(self) -> int:
        """Tokens that the model was trained for."""
        return self.number("context_length", 1, MAX_CONTEXT)

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output matrix as well."""
        return "output.weight" not in self.tensors

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`. Raises UnsupportedModel."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise UnsupportedModel(
                f"{self.architecture}.{key} is {reprlib.repr(value)}; a number from {low} to {high} is needed."
            )
        return value

    def flags(self, key: str) -> list[bool] | None:
        """Of a list with one entry per layer, whether each is not zero; None where it is no such list."""
        return None if (found := self.per_layer(key)) is None else [bool(item) for item in found]

    def per_layer(self, key: str) -> Items | None:
        """A list with one entry per layer; None where the key is no such list."""
        value = self.value(key)
        return value if isinstance(value, list) and len(value) in (self.blocks, self.layers) else None

    def value(self, key: str) -> int | float | bool | str | Items | None:
        """A value as Python has it; None where the key is absent or a list of texts."""
        value = self.keys.get(key)
        return None if value is None else decoded(value)


def blueprint_of(file: Container) -> Blueprint:
    """What a file's header says of the model in it. Raises UnsupportedModel, MalformedFile."""
    architecture = file.scalar("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise UnsupportedModel(f"{file.path} names no architecture, so it is no model file.")
    keys, left = {}, MAX_KEYS
    for name, field in file.fields.items():
        key = name.removeprefix(f"{architecture}.")
        if key == name and not name.startswith(FOREIGN_KEYS):
            continue
        left -= field.size
        if left < 0:
            raise UnsupportedModel(f"{file.path}: the metadata {name} makes more than {MAX_KEYS} bytes.")
        keys[key] = Value(field.type, file.raw(name))
    tensors = {name: Row(tensor.type, tensor.shape) for name, tensor in file.tensors.items()}
    return Blueprint(architecture, keys, tensors)


def decoded(value: Value) -> int | float | bool | str | Items | None:
    """A metadata value as Python has it; None for a list of texts."""
    if value.type is GGUFValueType.STRING:
        return value.raw[8:].decode("utf-8", "replace")
    if value.type is not GGUFValueType.ARRAY:
        scalar: int | float | bool = struct.unpack(FORMATS[value.type], value.raw)[0]
        return scalar
    item, count = item_type(value), struct.unpack_from("<Q", value.raw, 4)[0]
    if item is GGUFValueType.STRING:
        return None
    return list(struct.unpack(f"<{count}{FORMATS[item][1:]}", value.raw[12:]))


def item_type(value: Value) -> GGUFValueType:
    """The type of a list's items."""
    return GGUFValueType(struct.unpack_from("<I", value.raw)[0])
