"""Reading the GGUF container: header, metadata and tensor table, with every size checked before use.

Layout (ggml, docs/gguf.md, versions 2 and 3, little-endian): magic, version, number of tensors, number of
metadata pairs, the pairs, the tensor table, padding, tensor data. Nothing here interprets a model. Arrays are
kept as byte spans of the file, so a vocabulary of 128k entries costs no memory, and tensor data is read in
chunks with ordinary reads.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from hypercluster.node.shards.errors import MalformedFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
CHUNK = 4 << 20  # bytes of tensor data held in memory at once

MAX_PAIRS = 4096
MAX_TENSORS = 1 << 16
MAX_KEY = 256  # bytes; llama.cpp's own names stay far below
MAX_NAME = 63  # bytes; ggml's limit for tensor names
MAX_ITEMS = 1 << 23  # array elements in the whole file
MAX_TEXT = 8 << 20  # bytes of one text that is read into memory
MAX_TEXTS = 64 << 20  # bytes of one list of texts that is read into memory
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16

Scalar = int | float | bool | str

_FORMATS = {
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
    """One row of the tensor table; shape in ggml order (row length first), offset from the file's start."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Container:
    """A GGUF file whose header has been read and checked; holds no open handle."""

    path: Path
    fields: dict[str, Field]
    tensors: dict[str, Tensor]

    def raw(self, key: str) -> bytes:
        """The encoding of a metadata value as it lies in the file."""
        field = self.fields[key]
        with self.path.open("rb") as file:
            return _read_exactly(file.fileno(), self.path, field.offset, field.size)

    def scalar(self, key: str) -> Scalar | None:
        """A metadata value that is no array, or None where the key is absent. Raises MalformedFile."""
        field = self.fields.get(key)
        if field is None:
            return None
        if field.type is GGUFValueType.ARRAY:
            raise MalformedFile(f"{self.path}: metadata {key} is a list where one value is expected.")
        if field.size > MAX_TEXT:
            raise MalformedFile(f"{self.path}: metadata {key} is {field.size} bytes long, which is absurd.")
        raw = self.raw(key)
        if field.type is GGUFValueType.STRING:
            return _text(raw[8:], self.path, f"metadata {key}")
        value: int | float | bool = struct.unpack(_FORMATS[field.type], raw)[0]
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
        with self.path.open("rb") as file:
            done = 0
            while done < tensor.size:
                piece = _read_exactly(
                    file.fileno(), self.path, tensor.offset + done, min(CHUNK, tensor.size - done)
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


def read_container(path: Path) -> Container:
    """Read and check the header of a GGUF file.

    Raises MalformedFile for anything that is no complete little-endian GGUF of version 2 or 3. The rules are
    at least as strict as those of ggml (gguf.cpp), which also wants tensors back to back in table order.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Header(path, view).read()
    except ValueError as error:  # mmap of an empty file
        raise MalformedFile(f"{path} is empty.") from error
    except OSError as error:
        raise MalformedFile(f"{path} cannot be read: {error.strerror or error}.") from error


class _Header:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, path: Path, view: mmap.mmap) -> None:
        self.path = path
        self.view = view
        self.at = 0
        self.end = len(view)
        self.items_left = MAX_ITEMS

    def read(self) -> Container:
        if self.view[:4] != MAGIC:
            raise MalformedFile(f"{self.path} is no GGUF file: it does not start with the letters GGUF.")
        self.at = 4
        version = self.number("<I")
        if version not in VERSIONS:
            raise MalformedFile(f"{self.path} is GGUF version {version}; versions 2 and 3 can be read.")
        n_tensors, n_pairs = self.number("<Q"), self.number("<Q")
        if n_tensors > MAX_TENSORS or n_pairs > MAX_PAIRS:
            raise MalformedFile(
                f"{self.path} announces {n_tensors} tensors and {n_pairs} metadata pairs, which is absurd."
            )
        fields: dict[str, Field] = {}
        for _ in range(n_pairs):
            key = self.text(MAX_KEY, "a metadata key")
            if not key or key in fields:
                raise MalformedFile(f"{self.path}: the metadata key {key!r} is empty or comes twice.")
            fields[key] = self.field(key)
        table = [self.tensor_row() for _ in range(n_tensors)]
        alignment = self.alignment(fields)
        return Container(self.path, fields, self.place(table, padded(self.at, alignment), alignment))

    def field(self, key: str) -> Field:
        type_ = self.value_type(key)
        start = self.at
        if type_ is not GGUFValueType.ARRAY:
            self.skip(type_, 1, key)
            return Field(type_, start, self.at - start)
        item, count = self.value_type(key), self.number("<Q")
        if item is GGUFValueType.ARRAY:
            raise MalformedFile(f"{self.path}: metadata {key} is a list of lists, which GGUF readers refuse.")
        self.items_left -= count
        if self.items_left < 0:
            raise MalformedFile(f"{self.path}: metadata {key} brings the lists over {MAX_ITEMS} elements.")
        self.skip(item, count, key)
        return Field(type_, start, self.at - start, item, count)

    def skip(self, type_: GGUFValueType, count: int, key: str) -> None:
        if type_ is not GGUFValueType.STRING:
            self.at += struct.calcsize(_FORMATS[type_]) * count
        else:
            at, last, view, unpack = self.at, self.end - 8, self.view, struct.Struct("<Q").unpack_from
            for _ in range(count):
                if at > last:
                    at = self.end + 1
                    break
                at += 8 + unpack(view, at)[0]
            self.at = at
        if self.at > self.end:
            raise MalformedFile(f"{self.path} ends inside metadata {key}: the file is truncated or damaged.")

    def tensor_row(self) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int]:
        name = self.text(MAX_NAME, "a tensor name")
        n_dimensions = self.number("<I")
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise MalformedFile(f"{self.path}: tensor {name!r} has {n_dimensions} dimensions; 1 to 4 exist.")
        shape = tuple(self.number("<Q") for _ in range(n_dimensions))
        code, offset = self.number("<I"), self.number("<Q")
        try:
            type_ = GGMLQuantizationType(code)
        except ValueError as error:
            raise MalformedFile(f"{self.path}: tensor {name!r} has the unknown type {code}.") from error
        if min(shape) < 1 or math.prod(shape) >= 1 << 62:
            raise MalformedFile(f"{self.path}: tensor {name!r} has the absurd shape {shape}.")
        return name, type_, shape, offset

    def place(
        self, table: list[tuple[str, GGMLQuantizationType, tuple[int, ...], int]], start: int, alignment: int
    ) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        expected = 0
        for name, type_, shape, offset in table:
            if name in tensors:
                raise MalformedFile(f"{self.path}: the tensor {name!r} comes twice.")
            try:
                size = tensor_bytes(type_, shape)
            except ValueError as error:
                raise MalformedFile(f"{self.path}: tensor {name!r} of type {type_.name}: {error}.") from error
            if offset != expected:
                raise MalformedFile(
                    f"{self.path}: tensor {name!r} starts at byte {offset} of the data, not {expected}; "
                    "there is an overlap or a gap."
                )
            if start + offset + size > self.end:
                raise MalformedFile(
                    f"{self.path} ends inside tensor {name!r} ({self.end} bytes, {start + offset + size} "
                    "needed): the file is truncated, fetch it again."
                )
            tensors[name] = Tensor(name, type_, shape, start + offset, size)
            expected = padded(offset + size, alignment)
        return tensors

    def alignment(self, fields: dict[str, Field]) -> int:
        field = fields.get("general.alignment")
        if field is None:
            return DEFAULT_ALIGNMENT
        if field.type is GGUFValueType.UINT32:
            value: int = struct.unpack_from("<I", self.view, field.offset)[0]
            if 8 <= value <= MAX_ALIGNMENT and value & (value - 1) == 0:
                return value
        raise MalformedFile(
            f"{self.path}: general.alignment must be a power of two from 8 to {MAX_ALIGNMENT}."
        )

    def number(self, code: str) -> int:
        size = struct.calcsize(code)
        if self.at + size > self.end:
            raise MalformedFile(f"{self.path} ends inside its header: the file is truncated or damaged.")
        value: int = struct.unpack_from(code, self.view, self.at)[0]
        self.at += size
        return value

    def value_type(self, key: str) -> GGUFValueType:
        code = self.number("<I")
        try:
            return GGUFValueType(code)
        except ValueError as error:
            raise MalformedFile(f"{self.path}: metadata {key} has the unknown type {code}.") from error

    def text(self, limit: int, what: str) -> str:
        length = self.number("<Q")
        if length > limit or self.at + length > self.end:
            raise MalformedFile(f"{self.path}: {what} is {length} bytes long; at most {limit} are allowed.")
        raw = self.view[self.at : self.at + length]
        self.at += length
        return _text(raw, self.path, what)


def _text(raw: bytes, path: Path, what: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedFile(f"{path}: {what} is not valid UTF-8.") from error
    if "\0" in text:
        raise MalformedFile(f"{path}: {what} contains a zero byte.")
    return text


def _read_exactly(descriptor: int, path: Path, offset: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while size:
        piece = os.pread(descriptor, size, offset)
        if not piece:
            raise MalformedFile(f"{path} became shorter while it was read.")
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
