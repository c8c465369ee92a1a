"""What `hc-model inspect` shows of a model, as a document and as tables."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.text import Text

from hypercluster.node.cli.console import visible
from hypercluster.node.cli.tables import Table
from hypercluster.node.shards import ModelFile
from hypercluster.node.shards.container import Container, Scalar
from hypercluster.node.shards.traits import traits_of


def description(
    file: Container, model: ModelFile | None, reason: str | None, chat: str | None
) -> dict[str, Any]:
    """All that is told of a file; `reason` says why it cannot be split, `chat` why it cannot be chatted with."""
    types: dict[str, dict[str, int]] = {}
    for tensor in file.tensors.values():
        row = types.setdefault(tensor.type.name, {"tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += tensor.size
    document: dict[str, Any] = {
        "path": str(file.path),
        "bytes": file.size,
        "architecture": _scalars(file).get("general.architecture"),
        "supported": model is not None,
        "reason": reason,
        "chat": chat is None,
        "chat_reason": chat,
        "types": types,
        "metadata": {key: _plain(value) for key, value in _scalars(file).items()},
    }
    if reason is not None:
        document["error"] = reason
    if model is not None:
        document |= {
            "layers": model.blueprint.layers,
            "n_embd": model.blueprint.n_embd,
            "n_vocab": model.blueprint.n_vocab,
            "context": model.blueprint.context,
            "tied": model.tied,
            **asdict(traits_of(model)),
            "part_bytes": dict(_part_bytes(model)),
            "layer_bytes": [sum(tensor.size for tensor in layer.values()) for layer in model.layers],
        }
    return document


def overview(document: dict[str, Any]) -> Table:
    """The description as a table."""
    table = Table(title=document["path"])
    table.row("can be split", _verdict(document["reason"]))
    table.row("can be chatted with", _verdict(document["chat_reason"]))
    table.row("size", shown_size(document["bytes"]))
    for kind, row in document["types"].items():
        table.row(f"type {kind}", f"{row['tensors']} tensors, {shown_size(row['bytes'])}")
    for key, value in document["metadata"].items():
        table.row(_shown(key), _shown(value))
    return table


def _verdict(reason: str | None) -> Text:
    return Text("yes", style="green") if reason is None else Text(f"no: {visible(reason)}", style="red")


def sizes(model: ModelFile) -> Table:
    """What its parts add to a shard."""
    table = Table("part", "size", title="What a shard weighs")
    rows = _part_bytes(model)
    layers = [sum(tensor.size for tensor in layer.values()) for layer in model.layers]
    first = 0
    for size, alike in groupby(layers):
        stop = first + len(list(alike))
        rows.append((f"layers {first}:{stop}, each", size))
        first = stop
    for name, size in rows:
        table.row(name, shown_size(size))
    traits = traits_of(model)
    if traits.starts is not None:
        table.row("ranges may begin at layers", ", ".join(map(str, traits.starts)))
    return table


def _part_bytes(model: ModelFile) -> list[tuple[str, int]]:
    parts = {"shared by all": model.shared, "embedding": model.embedding, "head": model.last}
    return [(name, sum(tensor.size for tensor in part.values())) for name, part in parts.items()]


def _scalars(file: Container) -> dict[str, Scalar | None]:
    return {key: file.scalar(key) for key, field in file.fields.items() if field.item is None}


def _shown(value: object) -> str:
    """A value from a file, safe for the terminal: one short line without control characters."""
    text = "".join(letter if letter.isprintable() else "·" for letter in str(value)[:80])
    return text if len(str(value)) <= 80 else f"{text}… ({len(str(value))} characters)"


def _plain(value: Scalar | None) -> Scalar | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def shown_size(n: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
