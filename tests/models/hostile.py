"""Hostile model files: good ones, changed somewhere, are judged and computed with in processes with limits."""

from __future__ import annotations

import io
import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType

from hypercluster.node.engine.templates import template
from hypercluster.node.engine.tiny import write_tiny
from hypercluster.node.shards.container import tensor_bytes
from hypercluster.node.shards.header import read_header
from hypercluster.node.shards.writing import Part, Value, laid_out, write_parts
from tests.models.trial import PASSED, Trial, computed, judged

ARCHITECTURES = ("llama", "qwen3moe", "gpt-oss", "gemma3", "lfm2", "qwen3next", "deepseek2", "glm4moe")
EVIL = (0, 1, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LAYERS = {"gemma3": 7}
"""where four are too few for one of each kind"""
SMALL = {"feed_forward_length": 64, "expert_feed_forward_length": 64, "expert_shared_feed_forward_length": 64}
"""what is changed is what is said of the weights, so there may be few of them"""

Metadata = dict[str, Value]


@dataclass(frozen=True)
class Good:
    """A good model in memory, to be changed."""

    name: str
    metadata: Metadata
    parts: dict[str, Part]


@dataclass
class Found:
    """How many files ended how, over how many a process ended that alone do not end one, and what was wrong."""

    seen: Counter[str] = field(default_factory=Counter)
    after_others: int = 0
    wrong: list[str] = field(default_factory=list)


def good_models(folder: Path, architectures: Sequence[str] = ARCHITECTURES) -> list[Good]:
    """Tiny models that are changed, one of each architecture."""
    return [_good(folder, name) for name in architectures]


def _good(folder: Path, name: str) -> Good:
    meta = template(name, layers=LAYERS.get(name, 4), changes=SMALL)
    file = read_header(write_tiny(folder / f"{name}.gguf", name, meta, type_of=_half))
    metadata = {key: Value(each.type, file.raw(key)) for key, each in file.fields.items()}
    parts = {
        tensor.name: _part(tensor.name, tensor.type, tensor.shape, b"".join(file.chunks(tensor)))
        for tensor in file.tensors.values()
    }
    return Good(name, metadata, parts)


def _half(_name: str, _shape: tuple[int, ...]) -> Type:
    return Type.F16


def _part(name: str, type_: Type, shape: tuple[int, ...], raw: bytes) -> Part:
    return Part(name, type_, shape, lambda: (raw,))


def changed(model: Good, draw: random.Random) -> tuple[memoryview, str]:
    """A model file with one thing changed, or a few, and what."""
    metadata, parts = dict(model.metadata), dict(model.parts)
    told = [draw.choice(CHANGES)(metadata, parts, draw) for _ in range(draw.choice((1, 1, 1, 2, 4)))]
    written = list(parts.values())
    whole = io.BytesIO()
    write_parts(whole, metadata, written)
    raw = whole.getbuffer()
    kind = draw.random()
    if kind < 0.2:
        header = len(laid_out(metadata, written)[0])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(header)
            raw[at] = draw.choice((0, 1, 255, raw[at] ^ (1 << draw.randrange(8))))
            told.append(f"byte {at}")
    elif kind < 0.25:
        raw = raw[: draw.randrange(len(raw))]
        told.append(f"cut at {len(raw)}")
    return raw, f"{model.name}: {', '.join(told)}"


def _number(metadata: Metadata, _parts: dict[str, Part], draw: random.Random) -> str:
    key = draw.choice([key for key in metadata if not key.startswith(("general.", "tokenizer."))])
    value, evil = metadata[key], draw.choice(EVIL)
    real = struct.pack("<f", draw.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
    if value.type is GGUFValueType.ARRAY:
        raw = value.raw[:12] + struct.pack("<I", evil) * (len(value.raw[12:]) // 4)
    elif value.type is GGUFValueType.FLOAT32:
        raw = real
    else:
        raw = struct.pack("<I", evil)[: len(value.raw)]
    metadata[key] = Value(value.type, raw)
    return f"{key} = {evil}"


def _without_key(metadata: Metadata, _parts: dict[str, Part], draw: random.Random) -> str:
    key = draw.choice(sorted(metadata))
    del metadata[key]
    return f"without {key}"


def _other_type(metadata: Metadata, _parts: dict[str, Part], draw: random.Random) -> str:
    key, type_ = draw.choice(sorted(metadata)), draw.choice(list(GGUFValueType))
    raw = {
        GGUFValueType.STRING: struct.pack("<Q", 3) + b"yes",
        GGUFValueType.ARRAY: struct.pack("<IQI", 4, 1, 9),
    }
    sizes = {"UINT8": 1, "INT8": 1, "BOOL": 1, "UINT16": 2, "INT16": 2, "UINT64": 8, "INT64": 8, "FLOAT64": 8}
    metadata[key] = Value(type_, raw.get(type_, bytes([1] * sizes.get(type_.name, 4))))
    return f"{key} as {type_.name}"


def _architecture(metadata: Metadata, _parts: dict[str, Part], draw: random.Random) -> str:
    name = draw.choice((*ARCHITECTURES, "mamba", "gemma3n", "talkie", "", "x" * 200))
    raw = struct.pack("<Q", len(name)) + name.encode()
    metadata["general.architecture"] = Value(GGUFValueType.STRING, raw)
    return f"says that it is {name[:20]}"


def _without_tensor(_metadata: Metadata, parts: dict[str, Part], draw: random.Random) -> str:
    return f"without {parts.pop(draw.choice(sorted(parts))).name}" if parts else "without tensors"


def _renamed(_metadata: Metadata, parts: dict[str, Part], draw: random.Random) -> str:
    if not parts:
        return "without tensors"
    part = parts[draw.choice(sorted(parts))]
    names = ("blk.0.x.weight", "blk.9999.ffn_up.weight", "output.weight", "a" * 63, "blk..", "\x1b[31m")
    name = draw.choice((*names, part.name))
    parts[part.name] = Part(name, part.type, part.shape, part.chunks)
    return f"{part.name} as {name!a}"


def _shaped(_metadata: Metadata, parts: dict[str, Part], draw: random.Random) -> str:
    if not parts:
        return "without tensors"
    part = parts[draw.choice(sorted(parts))]
    shape = draw.choice(
        (part.shape[::-1], (*part.shape, 1), part.shape[:1], (part.shape[0], 2), (32,), (256, 256, 2))
    )
    return _replace(parts, part, part.type, shape)


def _typed(_metadata: Metadata, parts: dict[str, Part], draw: random.Random) -> str:
    if not parts:
        return "without tensors"
    part = parts[draw.choice(sorted(parts))]
    return _replace(parts, part, draw.choice(list(Type)), part.shape)


def _noise(_metadata: Metadata, parts: dict[str, Part], draw: random.Random) -> str:
    if not parts:
        return "without tensors"
    part = parts[draw.choice(sorted(parts))]
    raw = draw.choice(
        (draw.randbytes(part.size), b"\xff" * part.size, b"\0\0\xc0\x7f" * (part.size // 4 + 1))
    )
    parts[part.name] = _part(part.name, part.type, part.shape, raw[: part.size])
    return f"noise in {part.name}"


def _replace(parts: dict[str, Part], part: Part, type_: Type, shape: tuple[int, ...]) -> str:
    try:
        size = tensor_bytes(type_, shape)
    except (ValueError, KeyError):  # no such tensor can be written
        return f"{part.name} as it was"
    parts[part.name] = _part(part.name, type_, shape, bytes(size))
    return f"{part.name} as {type_.name} {list(shape)}"


Change = Callable[[Metadata, dict[str, Part], random.Random], str]
CHANGES: tuple[Change, ...] = (
    _number, _number, _number, _without_key, _other_type, _architecture, _without_tensor, _renamed, _shaped, _typed,
    _noise,
)  # fmt: skip


def search(files: int, seed: int, folder: Path, models: Sequence[Good]) -> Found:
    """Judge so many files, and compute with those that pass. Needs fork."""
    draw, found = random.Random(seed), Found()
    with Trial("judging", judged) as judging, Trial("computing", computed) as computing:
        for number in range(files):
            raw, what = changed(models[number % len(models)], draw)
            path = folder / f"{number}.gguf"  # a name of its own, as if nothing had been there before
            path.write_bytes(raw)
            ending = judging.ending(path)
            wrong = ending.died or ending.after_others
            if ending.told == PASSED:
                ending = computing.ending(path)
            path.unlink()
            if wrong or ending.told.startswith("wrong"):
                found.wrong.append(f"{seed}/{number} {what}: {ending.told}")
            found.seen[ending.told.split(":")[0]] += 1
            found.after_others += ending.after_others
    return found
