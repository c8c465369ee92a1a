"""Whole model files from the web, in one piece or several, into a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from filelock import FileLock

from hypercluster.node.pulling.filling import Block, Filling
from hypercluster.node.pulling.links import Link, pieces_of
from hypercluster.node.pulling.web import CHUNK, FileChanged, Patience, WebFile
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.naming import Showing, unseen
from hypercluster.node.shards.writing import Progress

MOST_LIES = 8
"""blocks that may come wrong before a server is given up"""


def folder_of(link: Link, cache: Path) -> Path:
    """Where a file from the web goes where nobody says: a folder of its own for each place on the web."""
    place = link.url.partition("?")[0].rpartition("/")[0]
    return cache / "models" / "web" / hashlib.sha256(place.encode()).hexdigest()[:16]


def fetch_whole(
    link: Link, folder: Path, showing: Showing = unseen, patience: Patience | None = None
) -> Path:
    """The file at a link in `folder`, with all its pieces where it is one of several; returns the path of the first.

    What is there is not fetched again, and what was broken off is gone on with. Where the server tells the SHA-256 of
    the file, it is compared. Raises FetchFailed, which says what to do.
    """
    paths = [_fetch_one(piece, folder, showing, patience) for piece in pieces_of(link)]
    return paths[0]


def _fetch_one(link: Link, folder: Path, showing: Showing, patience: Patience | None) -> Path:
    path = folder / link.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{link.name}.lock", fallback_to_soft=False)
        with lock:
            if path.exists():
                return path
            try:
                return _try_one(link, path, showing, patience)
            except FileChanged:  # begin anew, once: what came before is of no use
                return _try_one(link, path, showing, patience)
    except OSError as error:
        raise FetchFailed(f"{path} cannot be written: {error.strerror or error}.") from error


def _try_one(link: Link, path: Path, showing: Showing, patience: Patience | None) -> Path:
    with WebFile(link, patience) as web:
        beginning = web.probe()
        blocks = [Block(at, min(CHUNK, web.size - at)) for at in range(0, web.size, CHUNK)]
        with Filling(path, web.size, blocks, of=f"{link.url.partition('?')[0]}\n{web.validator}") as filling:
            filling.put(0, beginning)
            filling.check_room()
            with showing(f"Fetching {link.name} from {link.host}", web.size) as progress:
                progress(web.size - filling.bytes_missing)
                try:
                    fill(filling, web, lambda index: blocks[index].offset, progress)
                except FileChanged:
                    filling.discard()
                    raise
            if web.sha256 is not None:
                _compare(filling, web.sha256, link)
            return filling.finish()


def fill(filling: Filling, web: WebFile, place: Callable[[int], int | None], progress: Progress) -> None:
    """Fetch the missing blocks that lie in a file on the web: `place` says at which byte, None for those elsewhere.

    Blocks that lie one after the other come in one answer. `progress` is told of the bytes written.
    Raises FetchFailed: it is not to be had, or gives other bytes than those with the digests of the blocks.
    """
    lies = 0
    while wanted := [(at, index) for index in filling.missing() if (at := place(index)) is not None]:
        for run in _runs(sorted(wanted), filling):
            lies += _fill_run(filling, web, run, progress)
            if lies >= MOST_LIES:
                break
        if lies >= MOST_LIES:
            raise FetchFailed(
                f"{web.link.host} gives other bytes of {web.link.name} than the manifest says, again and again: it is "
                "another file, or somebody changes it on the way. Try another place; what came right is kept."
            )


def _runs(wanted: list[tuple[int, int]], filling: Filling) -> list[list[tuple[int, int]]]:
    """Blocks by their place, those together that follow each other."""
    runs = [[wanted[0]]]
    for (before, index), following in pairwise(wanted):
        if before + filling.blocks[index].size == following[0]:
            runs[-1].append(following)
        else:
            runs.append([following])
    return runs


def _fill_run(filling: Filling, web: WebFile, run: list[tuple[int, int]], progress: Progress) -> int:
    """Fetch blocks that follow each other; returns how many came wrong."""
    stop = run[-1][0] + filling.blocks[run[-1][1]].size
    if stop > web.size:
        raise FetchFailed(f"{web.link.name} at {web.link.host} ends before what it should hold.")
    held, lies, waiting = bytearray(), 0, iter(run)
    index: int | None = next(waiting)[1]
    for piece in web.read(run[0][0], stop):
        held += piece
        while index is not None and len(held) >= (size := filling.blocks[index].size):
            right = filling.put(index, bytes(memoryview(held)[:size]))
            del held[:size]
            lies += not right
            if right:
                progress(size)
            if lies >= MOST_LIES:
                return lies
            _, index = next(waiting, (0, None))
    return lies


def _compare(filling: Filling, sha256: str, link: Link) -> None:
    with filling.part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        filling.discard()
        raise FetchFailed(
            f"What {link.host} gave as {link.name} is not the file that it names, by its SHA-256: it is thrown away. "
            "Try again later, or ask whoever offers it."
        )
