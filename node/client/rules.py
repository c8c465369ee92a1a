"""What a path should keep to where it can: whom to leave alone, whom to try, and how much one operator gets.

None of it refuses a request: what cannot be kept, since only those can serve, is waived, the least of it first, and the
path says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypercluster.market.economics.graph import Floats, Node, NoPath
from hypercluster.node.client.wishing import FREELY, Bounds, TooDear, fitting_path

if TYPE_CHECKING:
    import numpy as np

    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.request import Wishes

WAIVED = {
    "failed": "an operator on it failed in this request before, and nobody else serves its layers",
    "resting": "an operator on it failed a moment ago, and nobody else serves its layers",
    "untried": "an operator on it never served this client, and no path is free without one",
    "newcomers": "more than one operator on it never served this client, as those who did serve no path now",
    "trying": "an operator on it is being tried for the first time by another request",
    "hops": "an operator has more of its hops than its share, as no other path is free",
    "requests": "an operator has had its share of the latest requests, and no path is free without it",
}
"""what it means that a rule could not be kept, the weightiest rules first"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Owners (`Node.owner`) by why they should be left alone.

    Attributes:
        failed: in this request.
        resting: failed a moment ago in any request.
        untried: never served this client.
        trying: untried, and another request is waiting for their first answer.
        crowded: had their share of the latest requests.
        trial: whether this request may go over one of those who are untried.
    """

    failed: frozenset[str] = frozenset()
    resting: frozenset[str] = frozenset()
    untried: frozenset[str] = frozenset()
    trying: frozenset[str] = frozenset()
    crowded: frozenset[str] = frozenset()
    trial: bool = True


def path_by_rules(
    candidates: Callable[[Collection[str]], Sequence[Node]],
    layers: int,
    wishes: Wishes,
    rules: Rules,
    rng: np.random.Generator,
    delays: Callable[[Sequence[Node]], Floats] | None = None,
) -> Path:
    """Return the path that fits the wishes and keeps all rules or, where none does, the weightiest that can be kept.

    Its ``waived`` names the others. Who is preferred by name is taken untried, and whatever share it has.

    Args:
        candidates: nodes that could be on it where some owners are left alone. Those decide as well how long a
            session has to be, so that who offers the longest does not shut out all others.
        layers, wishes, rules, rng: of the model, of the request, and for draws.
        delays: between nodes, as `Bounds` has them.

    Raises:
        NoPath: there is none over these nodes at all.
        TooDear: there are, and all cost more than the wishes allow.
    """
    owners = {node.owner for node in candidates(())}
    sets = {
        "failed": rules.failed,
        "resting": rules.resting,
        "untried": rules.untried,
        "newcomers": frozenset[str](),
        "trying": rules.trying,
        "hops": frozenset[str](),
        "requests": rules.crowded,
    }
    wanted = [name for name in ("failed", "resting") if sets[name] & owners]
    if not wishes.prefer:
        if rules.untried & owners and owners - rules.untried:
            wanted += ["newcomers"] if rules.trial else ["untried", "newcomers"]
        wanted += ["trying"] if rules.trying & owners else []
        wanted += ["hops"] if wishes.shares.hops < 1 else []
        wanted += ["requests"] if rules.crowded & owners else []

    def find(kept: Sequence[str]) -> Path:
        left_out = {owner for name in kept for owner in sets[name]}
        bounds = Bounds(
            shares=wishes.shares if "hops" in kept else FREELY.shares,
            untried=rules.untried,
            most_untried=1 if "newcomers" in kept else None,
            delays=delays,
        )
        return fitting_path(candidates(left_out), layers, wishes, rng, bounds)

    try:
        return find(wanted)
    except (NoPath, TooDear):
        if not wanted:
            raise
    path: Path | None = None
    kept: list[str] = []
    for name in wanted:
        try:
            path = find([*kept, name])
        except (NoPath, TooDear):
            continue
        kept.append(name)
    return replace(path or find(()), waived=tuple(name for name in wanted if name not in kept))
