"""How rows enter a shard's layers and leave them: by the names of the tensors in llama.cpp's graph.

A shard says so itself, in metadata that is compared with the manifest like all of a shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hypercluster.node.shards.blueprint import MAX_LAYERS, MAX_WIDTH, blueprint_of
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.writing import Value, text, uint32

How = Literal["embd", "inject", "skeleton"]
PREFIX = "hypercluster."
LAYER_START, LAYER_STOP = f"{PREFIX}layer_start", f"{PREFIX}layer_stop"
_ENTRY, _EXIT, _HOW = f"{PREFIX}entry", f"{PREFIX}exit", f"{PREFIX}how"
_WIDTH, _TOKENS, _FIRST, _END, _REWINDS, _SHARES, _PLANES = (
    f"{PREFIX}{key}" for key in ("width", "tokens", "real_start", "real_stop", "rewinds", "shares", "planes")
)
MAX_NAME = 63  # bytes; ggml's limit for names of tensors


@dataclass(frozen=True)
class Crossing:
    """`entry` is the tensor that rows are written to, None at the head; `exit` the one that leaves the last layer of
    the range, where the graph may stop except at the tail.

    `how` rows enter: as llama.cpp's own input of rows ("embd"); by writing `entry` in the callback while token ids go
    in ("inject"); or the same with all layers of the model in the file, those before `entry` left out
    ("skeleton"). A row has `width` float32 numbers; where it `reads_tokens` the ids have to be the true ones.
    `layer_at` are the layers of the file that are the range's, half-open; others are zeros. Whether it `rewinds` and
    `shares`: see Traits. The tensors hold a row as so many `planes`, each with its share of all rows.
    """

    entry: str | None
    exit: str
    how: How
    width: int
    reads_tokens: bool
    layer_at: tuple[int, int]
    rewinds: bool = True
    shares: bool = True
    planes: int = 1


def crossing_of(shard: Path) -> Crossing:
    """What a shard says of its crossing; a file that is none has all its layers and takes tokens.

    Raises MalformedFile, UnsupportedModel.
    """
    file = read_container(shard)
    if _HOW not in file.fields:
        model = blueprint_of(file)
        return Crossing(
            None,
            model.rule.exit.format(last=model.layers - 1),
            "embd",
            model.n_embd,
            model.rule.tokens,
            (0, model.layers),
            model.rule.rewinds,
            model.rule.shares,
        )
    return read_crossing(file)


def read_crossing(file: Container) -> Crossing:
    """What the metadata of a shard says. Raises MalformedFile, UnsupportedModel."""

    def name(key: str) -> str:
        value = file.scalar(key)
        if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_NAME:
            raise UnsupportedModel(
                f"{file.path}: {key} is {value!r}, which names no tensor; cut the shard again."
            )
        return value

    def number(key: str, high: int) -> int:
        value = file.scalar(key)
        if type(value) is not int or not 0 <= value <= high:
            raise UnsupportedModel(f"{file.path}: {key} is {value!r}, which no shard says; cut it again.")
        return value

    how = next((each for each in get_args(How) if each == file.scalar(_HOW)), None)
    if how is None:
        raise UnsupportedModel(f"{file.path}: {_HOW} is {file.scalar(_HOW)!r}; rows cannot enter so.")
    return Crossing(
        entry=name(_ENTRY) if _ENTRY in file.fields else None,
        exit=name(_EXIT),
        how=how,
        width=number(_WIDTH, MAX_WIDTH),
        reads_tokens=bool(number(_TOKENS, 1)),
        layer_at=(number(_FIRST, MAX_LAYERS), number(_END, MAX_LAYERS)),
        rewinds=bool(number(_REWINDS, 1)),
        shares=bool(number(_SHARES, 1)),
        planes=max(1, number(_PLANES, MAX_WIDTH)),
    )


def crossing_keys(crossing: Crossing) -> dict[str, Value]:
    """The same as metadata of a shard."""
    keys = {
        _EXIT: text(crossing.exit),
        _HOW: text(crossing.how),
        _WIDTH: uint32(crossing.width),
        _TOKENS: uint32(int(crossing.reads_tokens)),
        _FIRST: uint32(crossing.layer_at[0]),
        _END: uint32(crossing.layer_at[1]),
        _REWINDS: uint32(int(crossing.rewinds)),
        _SHARES: uint32(int(crossing.shares)),
        _PLANES: uint32(crossing.planes),
    }
    return keys if crossing.entry is None else {_ENTRY: text(crossing.entry)} | keys
