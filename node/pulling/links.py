"""Where a model file is on the web, as people write it: a URL, or `hf:OWNER/REPO/FILE` for Hugging Face."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hypercluster.node.catalogue import is_safe
from hypercluster.node.shards.errors import FetchFailed

HUB = "https://huggingface.co"
_HUB_FILE = re.compile(r"(?i:hf:)([\w.-]+)/([\w.-]+)(?:@([\w.-]+))?/([^?#]+)", re.ASCII)
_HUB_PAGE = re.compile(r"(/[\w.-]+/[\w.-]+)/blob(/.+)", re.ASCII)
"""the path of what a browser shows of a file"""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://|hf:|https?:", re.IGNORECASE)
_PIECE = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:+ -]{0,199}")
MOST_PIECES = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """A file on the web: its URL and the name that it gets here."""

    url: str
    name: str

    @property
    def host(self) -> str:
        """Who gives it, for people: a URL may hold a secret."""
        return urlsplit(self.url).hostname or ""


def is_link(text: str) -> bool:
    """Whether what somebody named is meant as a place on the web."""
    return _SCHEME.match(text) is not None


def link_of(text: str) -> Link:
    """The file that `hf:OWNER/REPO/FILE`, `hf:OWNER/REPO@REVISION/FILE` or a URL names, that of its page there too.

    HF_ENDPOINT stands in for https://huggingface.co, as for other programs. Raises FetchFailed where it is no such name
    or the URL is neither https nor on this machine.
    """
    hub = os.environ.get("HF_ENDPOINT", HUB).strip().rstrip("/")
    if text[:3].lower() == "hf:":
        match = _HUB_FILE.fullmatch(text)
        if match is None or ".." in match[4].split("/"):
            raise FetchFailed(f"{text[:200]!r} names no file: write hf:OWNER/REPO/FILE.")
        owner, repo, revision, path = match.groups()
        if not is_safe(hub):
            raise FetchFailed(
                "HF_ENDPOINT is no URL that begins with https://, or http:// on this machine: correct or unset it."
            )
        url = f"{hub}/{owner}/{repo}/resolve/{revision or 'main'}/{quote(path)}"
    else:
        url = text
    if not is_safe(url):
        raise FetchFailed(
            "A model is fetched from hf:OWNER/REPO/FILE or a URL that begins with https://, or http:// on this machine."
        )
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}".lower() in (HUB, hub.lower()):
        parts = parts._replace(path=_HUB_PAGE.sub(r"\1/resolve\2", parts.path))
        url = urlunsplit(parts)
    name = unquote(parts.path).rpartition("/")[2]
    if not _NAME.fullmatch(name):
        raise FetchFailed(
            f"The URL at {parts.hostname} ends in no name of a file: give the URL of the .gguf file itself."
        )
    return Link(url, name)


def pieces_of(link: Link) -> tuple[Link, ...]:
    """The links of all pieces of a split model of which `link` is one, in order; itself alone where it is none.

    Raises FetchFailed where its name says something absurd.
    """
    match = _PIECE.fullmatch(link.name)
    if match is None:
        return (link,)
    number, count = int(match[2]), int(match[3])
    if not 1 <= number <= count <= MOST_PIECES:
        raise FetchFailed(f"{link.name} says that it is piece {number} of {count}: name one that exists.")
    names = [f"{match[1]}-{n:05d}-of-{count:05d}.gguf" for n in range(1, count + 1)]
    parts = urlsplit(link.url)
    folder = parts.path.rpartition("/")[0]
    return tuple(Link(urlunsplit(parts._replace(path=f"{folder}/{quote(name)}")), name) for name in names)
