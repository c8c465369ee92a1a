"""Hostile model files: a good one, changed somewhere, is judged, loaded and run in a process with limits.

What judges a file and says what its shards are runs in nodes themselves, so it has to take anything, with one sentence.
What it lets pass goes to llama.cpp, which runs in processes of its own: there, ending the process is allowed.
"""

from __future__ import annotations

import io
import os
import random
import select
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType

from hypercluster.node.engine import reference
from hypercluster.node.engine.exactness import limit
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.engine.templates import template
from hypercluster.node.engine.tiny import write_tiny
from hypercluster.node.errors import NodeError
from hypercluster.node.shards import check_source
from hypercluster.node.shards.container import Container, Tensor
from hypercluster.node.shards.header import read_header
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.traits import traits_of
from hypercluster.node.shards.values import values_of
from hypercluster.node.shards.writing import Part, Value, write_parts

ARCHITECTURES = ("llama", "qwen3moe", "gpt-oss", "gemma3", "lfm2", "qwen3next", "deepseek2", "glm4moe")
EVIL = (0, 1, 3, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
MEMORY, SECONDS = 6 << 30, 20
SMALL = {"feed_forward_length": 64, "expert_feed_forward_length": 64, "expert_shared_feed_forward_length": 64}
"""what is changed is what is said of the weights, so there may be few of them"""

Metadata = dict[str, Value]


@dataclass
class Found:
    """How many files ended how, and what was wrong."""

    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def good_models(folder: Path, architectures: Sequence[str] = ARCHITECTURES) -> list[Path]:
    """Tiny models that are changed, one of each architecture."""
    return [
        write_tiny(folder / f"{name}.gguf", name, template(name, changes=SMALL), type_of=_half)
        for name in architectures
    ]


def _half(_name: str, _shape: tuple[int, ...]) -> Type:
    return Type.F16


def changed(model: Path, draw: random.Random) -> tuple[bytes, str]:
    """A model file with one thing changed, or a few, and what."""
    file = read_header(model)
    metadata = {key: Value(each.type, file.raw(key)) for key, each in file.fields.items()}
    parts = {name: _part(file, tensor) for name, tensor in file.tensors.items()}
    told = [draw.choice(CHANGES)(metadata, parts, draw) for _ in range(draw.choice((1, 1, 1, 2, 4)))]
    whole = io.BytesIO()
    write_parts(whole, metadata, list(parts.values()))
    raw = bytearray(whole.getvalue())
    kind = draw.random()
    if kind < 0.2:
        end = len(raw) - sum(part.size for part in parts.values())
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(max(1, min(end, len(raw))))
            raw[at] = draw.choice((0, 1, 255, raw[at] ^ (1 << draw.randrange(8))))
            told.append(f"byte {at}")
    elif kind < 0.25:
        del raw[draw.randrange(len(raw)) :]
        told.append(f"cut at {len(raw)}")
    return bytes(raw), f"{model.stem}: {', '.join(told)}"


def _part(file: Container, tensor: Tensor) -> Part:
    return Part(tensor.name, tensor.type, tensor.shape, lambda: file.chunks(tensor))


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
    parts[part.name] = Part(part.name, part.type, part.shape, lambda: (raw[: part.size],))
    return f"noise in {part.name}"


def _replace(parts: dict[str, Part], part: Part, type_: Type, shape: tuple[int, ...]) -> str:
    try:
        other = Part(part.name, type_, shape, lambda: (bytes(other.size),))
        other.size  # noqa: B018  raises where no such tensor can be written
    except (ValueError, KeyError):
        return f"{part.name} as it was"
    parts[part.name] = other
    return f"{part.name} as {type_.name} {list(shape)}"


Change = Callable[[Metadata, dict[str, Part], random.Random], str]
CHANGES: tuple[Change, ...] = (
    _number, _number, _number, _without_key, _other_type, _architecture, _without_tensor, _renamed, _shaped, _typed,
    _noise,
)  # fmt: skip


def judge(raw: bytes, what: str, path: Path, found: Found) -> None:
    """Write a file and have a forked process judge it, load it and compute with it."""
    path.write_bytes(raw)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(path, writer)
    os.setpgid(child, child)
    os.close(writer)
    said = _heard(reader)
    os.killpg(child, signal.SIGKILL)  # and whatever it has started
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _count(found, what, said, status)


def _heard(reader: int) -> bytes:
    """What comes until the other end is closed, for so long as a child may take."""
    said, end = b"", time.monotonic() + 4 * SECONDS
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            more = pipe.read(1 << 16)
            if not more:
                break
            said += more
    return said


def _count(found: Found, what: str, said: bytes, status: int) -> None:
    lines = said.decode("utf-8", "replace").splitlines()
    phase = lines[-1][:1] if lines else "?"
    last = lines[-1][1:] if lines else ""
    if status == 0:
        found.seen[last.split(":")[0]] += 1
        if last.startswith("wrong"):
            found.wrong.append(f"{what}: {last}")
        return
    name = signal.Signals(-status).name if status < 0 else f"exit {status}"
    where = {"j": "judging", "l": "loading", "r": "running"}.get(phase, "before")
    found.seen[f"{name} while {where}"] += 1
    if where in ("judging", "before"):
        found.wrong.append(f"{what}: {name} while {where}")


def _child(path: Path, writer: int) -> None:
    """Ends the process."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1), os.dup2(silence, 2)
    limit(MEMORY, SECONDS)
    signal.alarm(3 * SECONDS)  # by the clock
    try:
        os.write(writer, b"j\n")
        told = _told(path, writer)
    except MemoryError:
        told = "out of memory"
    except Exception as error:  # noqa: BLE001
        told = f"wrong: {type(error).__name__} {str(error)[:200]!a}"
    os.write(writer, f"j{told}\n".encode("utf-8", "replace"))
    os._exit(0)


def _told(path: Path, writer: int) -> str:
    try:
        model = check_source(path)
        values_of(model.file)
        starts = traits_of(model).starts
        for start in range(model.blueprint.layers) if starts is None else starts:
            plan(model.blueprint, start, start + 1)
    except NodeError as error:
        sentence = str(error)
        fits = (
            "\n" not in sentence
            and sentence.isprintable()
            and sentence.endswith(".")
            and len(sentence) < 1000
        )
        return "refused" if fits else f"wrong: no sentence: {sentence[:300]!a}"
    except MemoryError:
        return "wrong: judging takes too much memory"
    os.write(writer, b"l\n")
    try:
        os.write(writer, b"r\n")
        generated = reference.generate(path, [1, 2, 3], 3, 1, gpu_layers=0)
    except LlamaError:
        return "refused by llama.cpp"
    return "computed" if bool((generated.logits == generated.logits).all()) else "computed no numbers"


def search(files: int, seed: int, folder: Path, architectures: Sequence[str] = ARCHITECTURES) -> Found:
    """Judge so many files. Needs fork."""
    models = good_models(folder, architectures)
    draw, found = random.Random(seed), Found()
    for number in range(files):
        raw, what = changed(models[number % len(models)], draw)
        judge(raw, f"{seed}/{number} {what}", folder / "changed.gguf", found)
    return found
