"""Reading the header of one GGUF file: metadata and tensor table, with every size checked before use.

Layout (ggml, docs/gguf.md, versions 2 and 3, little-endian): magic, version, number of tensors, number of
metadata pairs, the pairs, the tensor table, padding, tensor data.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path

from gguf.constants import GGMLQuantizationType, GGUFValueType

from hypercluster.node.shards.container import (
    DEFAULT_ALIGNMENT,
    FORMATS,
    MAGIC,
    MAX_TEXT,
    Container,
    Field,
    Tensor,
    decode,
    padded,
    tensor_bytes,
)
from hypercluster.node.shards.errors import MalformedFile
from hypercluster.node.shards.foreign import what_it_is

VERSIONS = (2, 3)
MAX_PAIRS = 4096
MAX_TENSORS = 1 << 16
MAX_KEY = 256  # bytes; llama.cpp's own names stay far below
MAX_NAME = 63  # bytes; ggml's limit for tensor names
MAX_ITEMS = 1 << 23  # array elements in the whole file
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16


def read_header(path: Path) -> Container:
    """Read and check the header of one GGUF file, which may be a piece of a model.

    Raises MalformedFile for anything that is no complete little-endian GGUF of version 2 or 3. The rules are
    at least as strict as those of ggml (gguf.cpp), which also wants tensors back to back in table order.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise MalformedFile(f"{path} cannot be read: it is no regular file.")
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
            raise MalformedFile(f"{self.path} is no GGUF file: {what_it_is(self.view[:512])}.")
        self.at = 4
        version = self.number("<I")
        if version & 0xFFFF == 0 and version:
            raise MalformedFile(
                f"{self.path} is a big-endian GGUF file (version {version >> 24}), for other processors than "
                f"this; fetch the usual one, or convert it with `gguf-convert-endian {self.path} little`."
            )
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
        tensors = self.place(table, padded(self.at, alignment), alignment)
        return Container(self.path, fields, tensors, (self.path,))

    def field(self, key: str) -> Field:
        type_ = self.value_type(key)
        start = self.at
        if type_ is GGUFValueType.STRING:  # read here, so that no command takes what another refuses
            self.text(MAX_TEXT, f"metadata {key}")
            return Field(type_, start, self.at - start)
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
            self.at += struct.calcsize(FORMATS[type_]) * count
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
            tensors[name] = Tensor(name, type_, shape, start + offset, size, self.path)
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
        if self.at + length > self.end:
            raise MalformedFile(f"{self.path} ends inside {what}: the file is truncated or damaged.")
        if length > limit:
            raise MalformedFile(f"{self.path}: {what} is {length} bytes long; at most {limit} are allowed.")
        raw = self.view[self.at : self.at + length]
        self.at += length
        return decode(raw, self.path, what)
