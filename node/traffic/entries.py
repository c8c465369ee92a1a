"""The models that a market trades in, by the names that people use, and what is offered of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.client.request import Sampling
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.node.catalogue import ListedModel
    from hypercluster.node.shards.store import StoredModel


class UnknownModel(NodeError):
    """A request names a model that this market does not trade in."""


class MarketClosed(NodeError):
    """The market is used after its block, or ended by itself; then the cause says why."""


class NameTaken(NodeError):
    """Two models were to have one name."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model on this machine (at least its manifest and vocabulary) and what it is called."""

    name: str
    stored: StoredModel
    aliases: tuple[str, ...] = ()
    sampling: Sampling | None = None
    """how its tokens are drawn where nobody says how; None leaves it to whoever asks"""

    @property
    def model_id(self) -> str:
        """64 hex digits."""
        return self.stored.manifest.model_id

    def is_called(self, name: str) -> bool:
        """Whether `name` is its name, one of its aliases or its id."""
        return name in (self.name, *self.aliases) or name.lower() == self.model_id


def named_of(listed: ListedModel, stored: StoredModel) -> NamedModel:
    """A model of a catalogue that was opened."""
    temperature, top_p = listed.temperature, listed.top_p
    sampling = None
    if temperature is not None or top_p is not None:
        sampling = Sampling(temperature=temperature or 0.0, top_p=1.0 if top_p is None else top_p)
    return NamedModel(listed.name, stored, listed.aliases, sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model as it is offered at this moment."""

    name: str
    aliases: tuple[str, ...]
    model_id: str
    layers: int
    context: int
    """tokens of prompt and answer that a whole path holds now; those the model is made for while there is none"""
    n_vocab: int
    price_wei: int | None
    """per generated token over the cheapest path with a free session; None while there is none"""
    prompt_price_wei: int | None
    coverage: float
    """share of the layers that somebody serves, 0 to 1"""
    sessions: int
    """that could be opened now over whole paths, at most"""
    has_template: bool
    """whether it comes with a chat template"""
    sampling: Sampling | None = None
    """as in NamedModel"""
