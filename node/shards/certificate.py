"""What rounding on the wire does to a model, measured: which types its rows may travel in without harm.

`hc-model wire` measures it and keeps it beside the manifest. Providers offer q8 for no model that has no such figures,
or too bad ones, and clients that leave the choice to the figures stay with f32 then.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from hypercluster.node.catalogue import CATALOGUE
from hypercluster.node.errors import NodeError
from hypercluster.node.shards.store import StoredModel

log = logging.getLogger(__name__)

FILE = "wire.json"
FORMAT = 1
LEAST_AGREEMENT = 0.99
MOST_PERPLEXITY = 1.005
"""times that of f32"""
LEAST_TOKENS = 1000
"""that figures are of: one in a hundred of fewer is chance"""
LEAST_CUTS = 3
MOST_BYTES = 1 << 20
MOST = 1e300
"""of a perplexity"""


class BadCertificate(NodeError):
    """A file of figures that is malformed, or of another model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one type on the wire does to a model that is cut in so many places.

    Attributes:
        tokens: of the text that was read, each with those before it in its window.
        agreement: share of them behind which the likeliest next token is that of f32.
        perplexity, plain: of the text, with this type and with f32.
    """

    dtype: str
    cuts: int
    tokens: int
    agreement: float
    perplexity: float
    plain: float

    def __post_init__(self) -> None:
        whole = all(type(each) is int and each >= 0 for each in (self.cuts, self.tokens))
        told = isinstance(self.dtype, str) and 0 <= self.agreement <= 1
        if not (whole and told and all(1 <= each < MOST for each in (self.perplexity, self.plain))):
            raise BadCertificate(f"The figures of {self.dtype!r} on the wire cannot be: measure again.")

    @property
    def harmless(self) -> bool:
        """Whether they are within the limits."""
        return (
            self.agreement >= LEAST_AGREEMENT
            and self.perplexity <= MOST_PERPLEXITY * self.plain
            and self.tokens >= LEAST_TOKENS
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """The figures of one model."""

    model_id: str
    figures: tuple[Figures, ...]

    @property
    def certified(self) -> frozenset[str]:
        """The types, by name, with which it is harmless wherever it was cut, several times among others."""
        named: dict[str, list[Figures]] = {}
        for each in self.figures:
            named.setdefault(each.dtype, []).append(each)
        return frozenset(
            dtype
            for dtype, found in named.items()
            if all(each.harmless for each in found) and max(each.cuts for each in found) >= self._cuts
        )

    @property
    def _cuts(self) -> int:
        """Places where it has to have been cut: some, or as many as it was at all."""
        return min(LEAST_CUTS, max(each.cuts for each in self.figures))

    def save(self, folder: Path) -> Path:
        """Write them beside a manifest, in one move; returns the file."""
        path = folder / FILE
        document = {
            "format": FORMAT,
            "model_id": self.model_id,
            "figures": [asdict(each) for each in self.figures],
        }
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: Path, model_id: str) -> Certificate:
        """Read them. Raises BadCertificate, FileNotFoundError."""
        try:
            if path.stat().st_size > MOST_BYTES:
                raise BadCertificate(f"{path} is too large for figures of a model: delete it.")
            document = json.loads(path.read_text())
            if document["format"] != FORMAT or document["model_id"] != model_id:
                raise BadCertificate(f"{path} holds figures of another model or format: measure again.")
            return cls(model_id, tuple(Figures(**each) for each in document["figures"]))
        except (FileNotFoundError, BadCertificate):
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadCertificate(f"The figures in {path} cannot be used: {error}.") from error


def certified(stored: StoredModel) -> frozenset[str]:
    """The types beside f32 that rows of a model may travel in without harm: as was measured here, or is listed. None
    where there is a file that cannot be used.
    """
    model_id = stored.manifest.model_id
    try:
        return Certificate.load(stored.folder / FILE, model_id).certified
    except FileNotFoundError:
        known = CATALOGUE.of(model_id)
        return frozenset(known.certified) if known is not None else frozenset()
    except BadCertificate as error:
        log.warning("%s Until then no rows of it travel as q8.", error)
        return frozenset()
