"""Reading a file on the web in ranges: what drops or stalls is gone on with, what changes or lies is refused."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import httpx

from hypercluster.node.catalogue import MOST_BYTES, is_safe
from hypercluster.node.pulling.links import Link
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.foreign import what_it_is

log = logging.getLogger(__name__)

CHUNK = 1 << 20
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_DIGEST = re.compile(r'"?([0-9a-f]{64})"?')


class FileChanged(FetchFailed):
    """The file at a URL is another one than it was before."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may take: seconds without a byte, tries without progress, and seconds before the second."""

    silent: float = 30.0
    tries: int = 6
    pause: float = 1.0
    slowest: int = 1024
    """bytes a second, on average over `silent` seconds: what is slower counts as stalled"""
    progress: int = 1 << 16
    """bytes that count as progress"""


class _Dropped(Exception):
    """One try ended early; another may go on."""


class WebFile:
    """One file on the web. A context manager; for one thread.

    Attributes:
        size: bytes, known after `probe`.
        ranges: whether the server gives parts of the file.
        sha256: of the whole file where the server told it, as Hugging Face does; else None.
    """

    def __init__(self, link: Link, patience: Patience | None = None) -> None:
        self.link = link
        self.size = 0
        self.ranges = False
        self.sha256: str | None = None
        self.validator = ""
        """what the server calls this version of the file, empty if it has no name for it"""
        self._patience = patience or Patience()
        timeout = httpx.Timeout(self._patience.silent)
        self._client = httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=5)

    def __enter__(self) -> WebFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def probe(self) -> bytes:
        """Learn size and version of a model file, and return its first bytes, CHUNK at most.

        Raises FetchFailed: it is not to be had, or no GGUF file.
        """
        beginning = b"".join(self.read(0, CHUNK))
        if not beginning.startswith(b"GGUF"):
            raise FetchFailed(
                f"What {self.link.host} gives as {self.link.name} is no GGUF file: {what_it_is(beginning[:512])}."
            )
        return beginning

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop), or up to the end of a file that is shorter, in pieces of CHUNK at most.

        Raises FetchFailed: it is not to be had; FileChanged: it is another one than before.
        """
        patience, failures = self._patience, 0
        at = gained = start
        while at < (min(stop, self.size) if self.size else stop):
            try:
                for piece in self._once(at, stop):
                    at += len(piece)
                    yield piece
                if not self.size or at < min(stop, self.size):
                    raise _Dropped("the answer ended early")
            except (httpx.HTTPError, _Dropped) as error:
                failures = failures + 1 if at < gained + patience.progress else 1
                gained = at
                if failures >= patience.tries:
                    raise FetchFailed(
                        f"{self.link.name} cannot be fetched from {self.link.host} "
                        f"({str(error) or type(error).__name__}): look at the network and try again; what has come "
                        "is kept."
                    ) from error
                log.info("%s: %s; going on at byte %d", self.link.host, error, at)
                time.sleep(min(30.0, patience.pause * 2 ** (failures - 1)))

    def _once(self, start: int, stop: int) -> Iterator[bytes]:
        """One request for [start, stop). Raises _Dropped, httpx.HTTPError where another may do better."""
        if self.size:
            stop = min(stop, self.size)
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}
        if self.validator:
            headers["If-Range"] = self.validator
        with self._client.stream("GET", self.link.url, headers=headers) as answer:
            self._check(answer)
            begins = self._understand(answer, start, stop)
            wanted = stop - start if not self.size else min(stop, self.size) - start
            since, came = time.monotonic(), 0
            for piece in answer.iter_raw(CHUNK):
                came += len(piece)
                passed = time.monotonic() - since
                if passed > self._patience.silent:
                    if came < passed * self._patience.slowest:
                        raise _Dropped(f"only {came} bytes came in {passed:.0f} s")
                    since, came = time.monotonic(), 0
                if begins < start:  # it gave the file from its beginning
                    skipped = min(len(piece), start - begins)
                    begins, piece = begins + skipped, piece[skipped:]
                piece = piece[:wanted]
                wanted -= len(piece)
                if piece:
                    yield piece
                if not wanted:
                    return

    def _check(self, answer: httpx.Response) -> None:
        host, name, status = self.link.host, self.link.name, answer.status_code
        if not all(is_safe(str(each.url)) for each in (*answer.history, answer)):
            raise FetchFailed(f"{host} leads to where it is not https: {name} is not fetched.")
        if status >= 500 or status in (408, 425, 429):
            raise _Dropped(f"{host} answers {status} {answer.reason_phrase}")
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if self.size:
                raise FileChanged(f"{name} at {host} is shorter than it was.")
            raise FetchFailed(f"{name} at {host} is empty.")
        if status in (401, 403):
            raise FetchFailed(
                f"{host} answers {status} {answer.reason_phrase} for {name}: it gives this file only to those who log "
                "in. Fetch it with the tool of that place, and name the file."
            )
        if status not in (200, 206):
            raise FetchFailed(
                f"{host} answers {status} {answer.reason_phrase} for {name}: look whether the address is right, or try "
                "again later."
            )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchFailed(
                f"{host} gives {name} compressed, so that no part of it can be told: not fetched."
            )

    def _understand(self, answer: httpx.Response, start: int, stop: int) -> int:
        """Learn from an answer, and return the byte of the file that it begins with."""
        host, name = self.link.host, self.link.name
        if answer.status_code == 206:
            match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if match is None:
                raise FetchFailed(f"{host} gives a part of {name} and does not say which.")
            first, last, size = map(int, match.groups())
            begins = start
            if not (first == start and start <= last < size):
                raise FetchFailed(
                    f"{host} gives the bytes {first} to {last} of {name} where {start} on were asked."
                )
        else:
            length = answer.headers.get("Content-Length", "")
            if not length.isdecimal() or len(length) > 15:
                raise FetchFailed(f"{host} does not say how long {name} is: give another URL.")
            begins, size = 0, int(length)
        if size > MOST_BYTES:
            raise FetchFailed(f"{name} at {host} has {size} bytes; at most {MOST_BYTES} are fetched.")
        validator = _validator(answer)
        if self.size and (size != self.size or validator != self.validator):
            raise FileChanged(f"{name} at {host} has changed.")
        if not self.size:
            self.size, self.validator, self.ranges = size, validator, answer.status_code == 206
            linked = [each.headers.get("X-Linked-Etag", "") for each in (*answer.history, answer)]
            told = [match[1] for match in map(_DIGEST.fullmatch, linked) if match]
            self.sha256 = told[0] if told else None
        return begins


def _validator(answer: httpx.Response) -> str:
    """What names this version of the file: a strong tag, or the date of its last change."""
    tag = str(answer.headers.get("ETag", ""))[:500]
    return tag if tag.startswith('"') else str(answer.headers.get("Last-Modified", ""))[:100]
