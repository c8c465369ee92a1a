"""A model in one file or in several pieces, NAME-00001-of-00003.gguf and so on, read as one where they lie.

llama.cpp's `llama-gguf-split` and gguf's own writer make such pieces: the first holds the metadata, each holds
some of the tensors, and each says which of how many it is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import MalformedFile
from hypercluster.node.shards.header import read_header

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


def pieces_of(path: Path) -> tuple[Path, ...]:
    """All pieces of the model that `path` is a piece of, by its name; (path,) where the name says nothing.

    They need not exist. A link without such a name is followed to see whether what it points to has one.
    """
    for named in (path, path.resolve()):
        match = _NAME.fullmatch(named.name)
        if match is not None and 1 <= int(match[2]) <= int(match[3]):
            stem, count = match[1], int(match[3])
            return tuple(named.with_name(f"{stem}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1))
    return (path,)


def read_container(path: Path) -> Container:
    """Read and check the header of a GGUF file, or of all pieces of the model that it is one of.

    Raises MalformedFile, which names the pieces that are missing.
    """
    file = read_header(path)
    count, number = file.scalar(COUNT), file.scalar(NUMBER)
    if count is None or count == 1:
        return file
    if not isinstance(count, int) or not isinstance(number, int) or not 0 <= number < count:
        raise MalformedFile(f"{path} says that it is piece {number!r} of {count!r}, counted from 0.")
    paths = pieces_of(path)
    if len(paths) != count:
        raise MalformedFile(
            f"{path} is piece {number + 1} of {count}, and its name does not say so; name all pieces as they "
            f"were, as in NAME-{number + 1:05d}-of-{count:05d}.gguf, to have the others found."
        )
    missing = [piece for piece in paths if not piece.exists()]
    if missing:
        names = ", ".join(piece.name for piece in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MalformedFile(
            f"{path} is one of {count} pieces, of which {len(missing)} are missing in {path.parent}: {names}."
        )
    return _joined([read_header(piece) for piece in paths])


def _joined(files: list[Container]) -> Container:
    first = files[0]
    tensors = dict(first.tensors)
    for number, file in enumerate(files):
        if (file.scalar(NUMBER), file.scalar(COUNT)) != (number, len(files)):
            raise MalformedFile(
                f"{file.path} says that it is piece {file.scalar(NUMBER)} of {file.scalar(COUNT)}, counted from "
                f"0, where its name says {number} of {len(files)}."
            )
        twice = tensors.keys() & file.tensors.keys() if number else set()
        if twice:
            raise MalformedFile(f"{file.path}: the tensor {min(twice)!r} is in another piece too.")
        tensors |= file.tensors
    expected = first.scalar(TENSORS)
    if expected is not None and expected != len(tensors):
        raise MalformedFile(
            f"{first.path} announces {expected} tensors in {len(files)} pieces, which hold {len(tensors)}: "
            "they do not belong together."
        )
    return replace(first, tensors=tensors, pieces=tuple(file.path for file in files))
