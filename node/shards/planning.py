"""What a shard of layers [start, stop) consists of: its metadata and its tensors, by the model's blueprint alone.

This is the general rule of cutting. Whoever writes a shard, checks one or fetches the pieces of one goes by it.

metadata   what llama.cpp computes with, lists and numbers of layers fitted to the layers in the file; no vocabulary
layers     those of the range, counted from 0, and layers of zeros beside them (layout.py); no layers that look ahead
embedding  where start = 0, or where layers read the token ids; else zeros, since other rows replace what it gives
head       where stop = m, else zeros
the rest   tensors outside the layers that belong to neither end are in every shard
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.blueprint import Blueprint, Row
from hypercluster.node.shards.crossing import Crossing, How
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.keys import shard_keys
from hypercluster.node.shards.layout import Place, is_skeleton, layout
from hypercluster.node.shards.ranges import check_range
from hypercluster.node.shards.rules import EMBEDDING, HEAD
from hypercluster.node.shards.traits import reads_embedding, reads_tokens, starts, width
from hypercluster.node.shards.writing import Value

LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.(.+)")
FEW = 32
"""tokens of a shard that has neither embedding nor head"""
_BY_TOKEN = ("token_embd.weight", "output.weight", "output.bias")
_MULTIPLIER = "layer_output_scale.weight"  # of the whole stream: one in a layer that should change nothing


@dataclass(frozen=True)
class Piece:
    """A tensor of a shard: what it copies of the model, or `fill` (0 or 1) in all its numbers."""

    name: str
    row: Row
    source: str | None
    fill: int = 0


@dataclass(frozen=True)
class Plan:
    """A shard: metadata below its full names without labels, tensors in their order, and how rows cross."""

    metadata: dict[str, Value]
    pieces: tuple[Piece, ...]
    crossing: Crossing

    @property
    def size(self) -> int:
        """Bytes of tensor data."""
        return sum(piece.row.size for piece in self.pieces)

    @property
    def copied(self) -> int:
        """Bytes of it that come from the model; the rest are holes of the file."""
        return sum(piece.row.size for piece in self.pieces if piece.source is not None)


def plan(model: Blueprint, start: int, stop: int) -> Plan:
    """The shard of layers [start, stop). Raises InvalidRange, UnsupportedModel."""
    check_range(model.layers, start, stop, starts(model))
    places = layout(model, start, stop)
    whole_vocabulary = start == 0 or stop == model.layers or reads_tokens(model)
    n_vocab = model.n_vocab if whole_vocabulary else FEW
    pieces = [*_outer(model, start, stop, n_vocab, places), *_layers(model, places)]
    for piece in pieces:
        if piece.row.shape[0] % GGML_QUANT_SIZES[piece.row.type][0]:
            raise UnsupportedModel(
                f"The tensor {piece.name} would not be whole blocks of its type in a shard."
            )
    return Plan(shard_keys(model, start, places, n_vocab), tuple(pieces), _crossing(model, start, places))


def _crossing(model: Blueprint, start: int, places: tuple[Place, ...]) -> Crossing:
    real = [at for at, place in enumerate(places) if place.real]
    first, last, rule = real[0], real[-1], model.rule
    how: How = "skeleton" if is_skeleton(model) else "embd"
    if how == "embd" and (rule.scaled or rule.aborts or rule.streams != 1 or rule.tokens):
        how = "inject"
    leaving = rule.exit.format(last=last)
    if rule.between and last + 1 < len(places):
        leaving = rule.between.format(at=last + 1)
    entry = rule.between.format(at=first) or rule.exit.format(last=first - 1)
    return Crossing(
        entry=None if start == 0 else rule.entry if first == 0 else entry,
        exit=leaving,
        how=how,
        width=width(model),
        reads_tokens=reads_tokens(model),
        layer_at=(first, last + 1),
        rewinds=rule.rewinds,
        shares=rule.shares,
        planes=width(model) // model.n_embd if rule.planes else 1,
    )


def _outer(
    model: Blueprint, start: int, stop: int, n_vocab: int, places: tuple[Place, ...]
) -> Iterator[Piece]:
    """Tensors outside the layers."""
    first, last = start == 0, stop == model.layers
    for name, row in sorted(model.tensors.items()):
        if LAYER.fullmatch(name) or (name.startswith("per_layer") and not _per_layer(model, places)):
            continue
        if is_head(model, name):
            copied = last
        elif not EMBEDDING.fullmatch(name):
            copied = True
        elif name == "token_embd.weight":
            copied = first or (last and model.tied) or reads_embedding(model)
        else:
            copied = first or reads_tokens(model)
        if copied:
            yield Piece(name, row, name)
        else:
            shape = (*row.shape[:-1], n_vocab) if name in _BY_TOKEN else row.shape
            yield Piece(name, zero_row(Row(row.type, shape)), None)


def _layers(model: Blueprint, places: tuple[Place, ...]) -> Iterator[Piece]:
    by_layer = layer_tensors(model)
    for at, (layer, real) in enumerate(places):
        for name, source in sorted(by_layer[layer].items()):
            row = model.tensors[source]
            if real:
                yield Piece(f"blk.{at}.{name}", row, source)
            else:
                fill = int(name == _MULTIPLIER)
                yield Piece(f"blk.{at}.{name}", row if fill else zero_row(row), None, fill)


def layer_tensors(model: Blueprint) -> list[dict[str, str]]:
    """Of each layer, the tensors by their names in it, with their names in the model."""
    found: list[dict[str, str]] = [{} for _ in range(model.layers)]
    for name in model.tensors:
        match = LAYER.fullmatch(name)
        if match is not None and int(match[1]) < model.layers:
            found[int(match[1])][match[2]] = name
    return found


def is_head(model: Blueprint, name: str) -> bool:
    """Whether a tensor outside the layers belongs to the head."""
    of_norm = model.rule.norm_is_head and name.startswith("token_embd_norm.")
    return of_norm or HEAD.fullmatch(name) is not None


def zero_row(row: Row) -> Row:
    """The smallest type for zeros that are multiplied like this; what is not in blocks keeps its type."""
    if GGML_QUANT_SIZES[row.type][0] == 1:
        return row
    small = Type.IQ1_S if row.shape[0] % 256 == 0 else Type.Q4_0
    return row if row.shape[0] % 32 else Row(small, row.shape)


def _per_layer(model: Blueprint, places: tuple[Place, ...]) -> bool:
    """Whether a layer of the range uses the tables by token beside the embedding."""
    users = model.value("ple.layers")
    return not isinstance(users, list) or any(place.real and place.layer in users for place in places)
