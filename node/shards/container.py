"""A GGUF file in one or several pieces whose header has been read (header.py), and reading values and tensors.

Nothing here interprets a model. Lists are kept as byte spans of the file, so a vocabulary of 128k entries costs
no memory, and tensor data is read in chunks with ordinary reads.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from hypercluster.node.shards.errors import MalformedFile

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
CHUNK = 4 << 20  # bytes of tensor data held in memory at once

MAX_TEXT = 8 << 20  # bytes of one text that is read into memory
MAX_TEXTS = 64 << 20  # bytes of one list of texts that is read into memory

_position = threading.Lock()
"""held while a descriptor is moved, where reading moves it"""

Scalar = int | float | bool | str

FORMATS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


@dataclass(frozen=True)
class Field:
    """One metadata value: its type and where its encoding lies in the file.

    `offset` and `size` (bytes) span the value after the type word; for an array that includes the item type
    and the count. `item` and `count` are set for arrays only.
    """

    type: GGUFValueType
    offset: int
    size: int
    item: GGUFValueType | None = None
    count: int = 0


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table; shape in ggml order (row length first), offset from the start of `path`."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int
    path: Path


@dataclass(frozen=True)
class Container:
    """A GGUF file whose header has been read and checked; holds no open handle.

    `path` is the file with the metadata, which is the first of several `pieces`.
    """

    path: Path
    fields: dict[str, Field]
    tensors: dict[str, Tensor]
    pieces: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes of the file, or of all its pieces."""
        return sum(piece.stat().st_size for piece in self.pieces)

    def raw(self, key: str) -> bytes:
        """The encoding of a metadata value as it lies in the file."""
        field = self.fields[key]
        with self.path.open("rb") as file:
            return read_exactly(file.fileno(), self.path, field.offset, field.size)

    def scalar(self, key: str) -> Scalar | None:
        """A metadata value that is no array, or None where the key is absent. Raises MalformedFile."""
        field = self.fields.get(key)
        if field is None:
            return None
        if field.type is GGUFValueType.ARRAY:
            raise MalformedFile(f"{self.path}: metadata {key} is a list where one value is expected.")
        raw = self.raw(key)
        if field.type is GGUFValueType.STRING:
            return decode(raw[8:], self.path, f"metadata {key}")
        value: int | float | bool = struct.unpack(FORMATS[field.type], raw)[0]
        return value

    def integers(self, key: str, limit: int) -> list[int] | None:
        """A list of at most `limit` whole numbers, or None where the key is absent. Raises MalformedFile."""
        field = self.fields.get(key)
        if field is None:
            return None
        if field.item not in (GGUFValueType.UINT32, GGUFValueType.INT32) or field.count > limit:
            raise MalformedFile(f"{self.path}: metadata {key} should list at most {limit} 32-bit integers.")
        code = "I" if field.item is GGUFValueType.UINT32 else "i"
        return list(struct.unpack(f"<{field.count}{code}", self.raw(key)[12:]))

    def texts(self, key: str) -> list[bytes]:
        """A list of texts, undecoded. Raises MalformedFile where the list is absurdly long."""
        field = self.fields[key]
        if field.item is not GGUFValueType.STRING or field.size > MAX_TEXTS:
            raise MalformedFile(
                f"{self.path}: metadata {key} should be a list of texts, {MAX_TEXTS} bytes at most."
            )
        raw, at, found = self.raw(key), 12, []
        for _ in range(field.count):
            start = at + 8
            at = start + int.from_bytes(raw[at:start], "little")
            found.append(raw[start:at])
        return found

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """The tensor's bytes in pieces of at most CHUNK. Raises MalformedFile where the file has shrunk."""
        with tensor.path.open("rb") as file:
            done = 0
            while done < tensor.size:
                piece = read_exactly(
                    file.fileno(), tensor.path, tensor.offset + done, min(CHUNK, tensor.size - done)
                )
                done += len(piece)
                yield piece


def tensor_bytes(type_: GGMLQuantizationType, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor of this ggml type and shape takes. Raises ValueError if a row is no whole block."""
    block, size = GGML_QUANT_SIZES[type_]
    if shape[0] % block:
        raise ValueError(f"rows of {shape[0]} elements are not whole blocks of {block}")
    return math.prod(shape) // block * size


def padded(offset: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """The next multiple of `alignment` at or after `offset`."""
    return -(-offset // alignment) * alignment


def decode(raw: bytes, path: Path, what: str) -> str:
    """A text of a file. Raises MalformedFile where it is not UTF-8 or holds a zero byte."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedFile(f"{path}: {what} is not valid UTF-8.") from error
    if "\0" in text:
        raise MalformedFile(f"{path}: {what} contains a zero byte.")
    return text


def _read(descriptor: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from `offset` on; threads may share the descriptor."""
    if sys.platform != "win32":
        return os.pread(descriptor, size, offset)
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def read_exactly(descriptor: int, path: Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on. Raises MalformedFile where the file has shrunk."""
    pieces: list[bytes] = []
    while size:
        piece = _read(descriptor, size, offset)
        if not piece:
            raise MalformedFile(f"{path} became shorter while it was read.")
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
