"""An operator's standing with a client: the honesty of all its nodes together, and the availability of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from hypercluster.market.trust.reputation import PRIOR_BAD, PRIOR_GOOD, Evidence, Reputation

MOST_OF_ONE = 3.0
"""Weight with which one node speaks of the availability of the operator's others: one that is broken says little of
nine that answer, while ten that were silent say enough of an eleventh that has another name."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is believed of an operator at one moment.

    Attributes:
        operator: address, or the peer itself where no operator is known.
        nodes: by peer, of those that there is evidence on.
        reputation: of a node that there is none on.
        last: moment of the latest evidence.
    """

    operator: str
    nodes: Mapping[str, Reputation]
    reputation: Reputation
    last: datetime

    def of(self, peer: str) -> Reputation:
        """The reputation of one of its nodes, met or not."""
        return self.nodes.get(peer, self.reputation)

    @classmethod
    def adding_up(
        cls,
        operator: str,
        counts: Mapping[str, Mapping[Evidence, float]],
        last: datetime,
        heard: float = 0.0,
    ) -> Standing:
        """Add up pieces of evidence by node and kind, as they count now, and the weight of what was heard."""
        together: dict[Evidence, float] = {}
        for node in counts.values():
            for kind, count in node.items():
                together[kind] = together.get(kind, 0.0) + count
        alone = {peer: Reputation.of(together, node, heard=heard) for peer, node in counts.items()}
        said = {peer: _said(each) for peer, each in alone.items()}
        answered, failed = sum(each[0] for each in said.values()), sum(each[1] for each in said.values())
        return cls(
            operator,
            {
                peer: Reputation.of(
                    together,
                    node,
                    expected=_expected(answered - said[peer][0], failed - said[peer][1]),
                    heard=heard,
                )
                for peer, node in counts.items()
            },
            Reputation.of(together, {}, expected=_expected(answered, failed), heard=heard),
            last,
        )


def _said(node: Reputation) -> tuple[float, float]:
    """What a node says of the others: its answers and failures, MOST_OF_ONE together at most."""
    weight = node.answered + node.failed
    scale = min(1.0, MOST_OF_ONE / weight) if weight else 0.0
    return scale * node.answered, scale * node.failed


def _expected(answered: float, failed: float) -> float:
    # Subtracting leaves a trace of rounding.
    answered, failed = max(0.0, answered), max(0.0, failed)
    return (PRIOR_GOOD + answered) / (PRIOR_GOOD + PRIOR_BAD + answered + failed)
