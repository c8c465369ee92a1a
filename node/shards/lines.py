"""The lines of a manifest: one for each tensor, with its type, its shape and the root over its blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gguf.constants import GGMLQuantizationType

from hypercluster.node.shards.container import Tensor, tensor_bytes
from hypercluster.node.shards.errors import InvalidTensor, ManifestError

NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
"""what tensors are called"""
_LINE = re.compile(
    rf"({NAME.pattern}) " + r"([A-Z0-9_]{1,16}) ([0-9]{1,18}(?:x[0-9]{1,18}){0,3}) ([0-9a-f]{64})"
)

Lines = dict[str, tuple[str, ...]]
"""lines by the name of their part"""


@dataclass(frozen=True)
class TensorLine:
    """What a manifest says of one tensor: shape in ggml order (row length first), root in hex, size in bytes."""

    part: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    root: str
    size: int


def line_of(name: str, tensor: Tensor, root: str) -> str:
    """The line of a tensor that its part calls `name`. Raises InvalidTensor for what is no name."""
    line = f"{name} {tensor.type.name} {'x'.join(map(str, tensor.shape))} {root}"
    if not _LINE.fullmatch(line):
        raise InvalidTensor(f"{tensor.path}: {tensor.name!r} is no name that a tensor has.")
    return line


def read_lines(lines: Mapping[str, tuple[str, ...]], name: str) -> dict[str, TensorLine]:
    """What all lines say, by the tensors' names in a whole model, part by part. Raises ManifestError."""
    found: dict[str, TensorLine] = {}
    for part, own in lines.items():
        for line in own:
            match = _LINE.fullmatch(line)
            tensor = (f"blk.{part}." if part.isdigit() else "") + (match[1] if match else "")
            if match is None or tensor in found:
                raise ManifestError(
                    f"{name} has a line that describes no tensor, or one twice: {line[:80]!a}."
                )
            found[tensor] = _read(part, match, name)
    return found


def _read(part: str, match: re.Match[str], name: str) -> TensorLine:
    shape = tuple(map(int, match[3].split("x")))
    try:
        type_ = GGMLQuantizationType[match[2]]
        size = tensor_bytes(type_, shape)
    except (KeyError, ValueError) as error:
        raise ManifestError(f"{name} describes no tensor: {match[0][:80]!a}.") from error
    if not 0 < size < 1 << 48:
        raise ManifestError(f"{name} describes a tensor of {size} bytes: {match[0][:80]!a}.")
    return TensorLine(part, type_, shape, match[4], size)
