"""What a request needs of a path, and why it gets none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.market.economics.graph import AdvertTable, node_of
from hypercluster.node.client.lengths import covered, longest
from hypercluster.node.errors import ErrorCode, NodeError

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert

BUSY = "All paths that hold the request go over providers without a free session: try again in a while."
ENOUGH_TOKENS = 1024
"""a session with room for so many tokens of the answer is not passed over for one that holds all that were asked for"""


class NoRoute(NodeError):
    """There is no path; the message says why, as far as anybody here knows."""


class RequestTooLong(NodeError):
    """No path holds the prompt and a token of the answer."""

    code = ErrorCode.TOO_LONG


class TooManyCandidates(NodeError):
    """No path ends in as many candidates as the request asks for."""


class AllBusy(NodeError):
    """There are paths, and all of them go over providers without a free session."""

    code = ErrorCode.FULL


@dataclass(frozen=True, slots=True)
class Needs:
    """What every provider on the path should hold: tokens of the prompt and of the answer, candidates of the last one.

    `tokens` is as much as is of use; a path that holds fewer will do where there is no better.
    """

    prompt: int = 0
    tokens: int = 0
    top_k: int = 0

    @property
    def session(self) -> int:
        """Tokens of the prompt and of the answer."""
        return self.prompt + self.tokens

    def chosen_from(self, advert: Advert) -> bool:
        """Whether the provider gives enough candidates, if it gives any."""
        return not advert.max_top_k or advert.max_top_k >= self.top_k


def session_length(needs: Needs, usable: Collection[Advert], free: Collection[Advert], layers: int) -> int:
    """Tokens that each session of the path has to hold: of the whole request, or what the longest ones hold.

    A session that leaves little room is taken only where a longer one is not to be had by waiting either.
    """
    if covered(free, layers, needs.session):
        return needs.session
    most = longest(usable, layers)
    room = min(needs.tokens, ENOUGH_TOKENS, max(1, most - needs.prompt))
    return max(longest(free, layers), needs.prompt + room)


def explain(offered: Collection[Advert], needs: Needs, layers: int) -> None:
    """Raise why there is no path, where there would be one for a smaller request or a little later."""
    if not _covered(offered, layers):
        return
    chosen_from = [a for a in offered if needs.chosen_from(a)]
    if not _covered(chosen_from, layers):
        most = max(a.max_top_k for a in offered if a.layer_stop == layers)
        raise TooManyCandidates(
            f"The request asks for {needs.top_k} candidates a token, and no path here gives more than "
            f"{most}: lower the top k."
        )
    most = longest(chosen_from, layers)
    if most <= needs.prompt:
        raise RequestTooLong(
            f"The prompt has {needs.prompt} tokens, and no path here holds more than {most} with the answer: "
            f"shorten the prompt to {most - 1} tokens at most."
        )
    raise AllBusy(BUSY)


def _covered(adverts: Collection[Advert], layers: int) -> bool:
    nodes = [node_of(advert) for advert in adverts if advert.layer_stop <= layers]
    return AdvertTable.of(nodes, layers).no_path() is None
