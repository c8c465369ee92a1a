"""Some layers of a model file on the web: its header, then the blocks of the range and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from hypercluster.node.pulling.fetched import fill
from hypercluster.node.pulling.layers import Layers
from hypercluster.node.pulling.links import Link, pieces_of
from hypercluster.node.pulling.web import CHUNK, FileChanged, Patience, WebFile
from hypercluster.node.shards.blocks import BLOCK
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import FetchFailed, MalformedFile
from hypercluster.node.shards.header import read_header
from hypercluster.node.shards.naming import Showing, unseen
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import VOCABULARY, StoredModel
from hypercluster.node.shards.vocabulary import has_vocabulary

MOST_HEADER = 256 << 20
"""bytes of a file before its first tensor"""


def fetch_layers(
    link: Link,
    layers: Layers,
    hashes: Mapping[str, bytes] | None = None,
    showing: Showing = unseen,
    patience: Patience | None = None,
) -> Path:
    """The shard of a range of layers out of the file at a link, and the vocabulary beside it.

    With `hashes`, those of all blocks of the model, every block is checked as it comes; without, all of the shard when
    it is whole. What was broken off is gone on with. Raises FetchFailed, ShardError.
    """
    if layers.path.exists():
        return layers.path
    headers = layers.folder / f".{layers.path.name}.headers"
    try:
        headers.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            webs = [stack.enter_context(WebFile(piece, patience)) for piece in pieces_of(link)]
            with showing(f"Reading the header of {link.name}", None):
                paths = {_header_of(web, headers): web for web in webs}
            file = read_container(next(iter(paths)))
            _compare(file, layers, link)
            if has_vocabulary(file) and not (layers.folder / VOCABULARY).exists():
                StoredModel(layers.manifest, layers.folder, file.path).vocabulary()
            return _fill(file, paths, layers, hashes, showing)
    except OSError as error:
        raise FetchFailed(f"{layers.path} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(headers, ignore_errors=True)


def _fill(
    file: Container,
    webs: Mapping[Path, WebFile],
    layers: Layers,
    hashes: Mapping[str, bytes] | None,
    showing: Showing,
) -> Path:
    filling, origins = layers.filling(hashes)
    with filling:
        filling.check_room()
        with showing(f"Layers {layers.start}:{layers.stop}", layers.copied) as progress:
            progress(layers.copied - filling.bytes_missing)
            for path, web in webs.items():

                def place(index: int, path: Path = path) -> int | None:
                    tensor = file.tensors[origins[index][0]]
                    return tensor.offset + BLOCK * origins[index][1] if tensor.path == path else None

                try:
                    fill(filling, web, place, progress)
                except FileChanged as error:
                    raise FetchFailed(f"{error} Try again; what is of the model is kept.") from error
        return layers.finish(filling)


def _header_of(web: WebFile, folder: Path) -> Path:
    """A file with the header of one on the web and holes for the rest."""
    path, known = folder / web.link.name, 0
    beginning = web.probe()
    if not web.ranges:
        raise FetchFailed(
            f"{web.link.host} gives no parts of files: fetch all of {web.link.name}, without --layers, and split it."
        )
    with path.open("w+b") as file:
        file.truncate(web.size)
        file.write(beginning)
        known = len(beginning)
        while True:
            file.flush()
            try:
                found = read_header(path)
                if min((each.offset for each in found.tensors.values()), default=0) <= known:
                    return path
            except MalformedFile:
                if known >= min(web.size, MOST_HEADER):
                    raise
            for piece in web.read(known, max(2 * known, CHUNK)):  # it ends in a hole
                file.write(piece)
                known += len(piece)


def _compare(file: Container, layers: Layers, link: Link) -> None:
    """Raise FetchFailed unless the tensors that the layers need are those of the manifest's model, by their shapes."""
    for name in layers.sources():
        tensor, line = file.tensors.get(name), layers.manifest.tensors[name]
        if tensor is None or (tensor.type, tensor.shape) != (line.type, line.shape):
            raise FetchFailed(
                f"{link.name} at {link.host} is not the model {layers.manifest.model_id[:16]}: {name} is another "
                "tensor there, or none."
            )
