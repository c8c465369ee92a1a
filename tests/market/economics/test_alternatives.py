from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.alternatives import k_best
from hypercluster.market.economics.graph import Node, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from tests.market.economics.brute import P_REF, all_paths, networks, weight

UNIT = MarketParameters(p_ref=P_REF)


def spread(nodes: list[Node]) -> list[Node]:
    """Make all path weights different, so that the order is unique."""
    return [Node(n.id, n.start, n.stop, n.price_wei, n.cost_ms + 1e-3 * 2**-i) for i, n in enumerate(nodes)]


@given(networks(most=10), st.integers(1, 6))
def test_the_k_best_are_the_first_of_all_paths(nodes: list[Node], k: int) -> None:
    nodes = spread(nodes)
    every = sorted(weight(nodes, path, UNIT) for path in all_paths(nodes))
    found = k_best(nodes, layers=4, k=k, market=UNIT)
    assert [path.weight for path in found] == pytest.approx(every[:k])
    assert len({tuple(path.ids) for path in found}) == len(found)


@given(networks(most=10), st.integers(1, 4), st.integers(0, 3))
def test_paths_share_no_more_nodes_than_asked(nodes: list[Node], k: int, share: int) -> None:
    nodes = spread(nodes)
    left = sorted(all_paths(nodes), key=lambda path: weight(nodes, path, UNIT))
    wanted: list[list[int]] = []
    while left and len(wanted) < k:
        wanted.append(left[0])
        left = [p for p in left if p not in wanted and all(len({*p} & {*w}) <= share for w in wanted)]
    found = k_best(nodes, layers=4, k=k, share=share, market=UNIT)
    assert [path.ids for path in found] == [[nodes[i].id for i in path] for path in wanted]


def test_no_path_at_all_is_an_error() -> None:
    for share in (None, 0):
        with pytest.raises(NoPath, match="layer 1"):
            k_best([Node("a", 0, 1, 0, 1.0)], layers=2, k=3, share=share, market=UNIT)
