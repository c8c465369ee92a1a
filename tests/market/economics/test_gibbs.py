from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.gibbs import linked_marginals, marginals, sample_linked_path, sample_paths
from hypercluster.market.economics.graph import AdvertTable, Node, NoPath
from hypercluster.market.economics.parameters import MarketParameters
from tests.market.economics.brute import P_REF, all_paths, gibbs, markets, networks


@given(networks(), markets)
def test_marginals_match_the_sum_over_all_paths(nodes: list[Node], market: MarketParameters) -> None:
    paths = all_paths(nodes)
    chance, outside = gibbs(nodes, paths, market)
    wanted = [chance[[i in path for path in paths]].sum() for i in range(len(nodes))]
    found = marginals(AdvertTable.of(nodes, 4), market)
    assert found.probability == pytest.approx(wanted, abs=1e-12)
    assert found.outside == pytest.approx(outside, abs=1e-12)


@given(networks(), markets, st.integers(0, 2**32 - 1))
def test_linked_marginals_match_the_sum_over_all_paths(
    nodes: list[Node], market: MarketParameters, seed: int
) -> None:
    links = np.random.default_rng(seed).integers(0, 30, (len(nodes), len(nodes))).astype(float)
    paths = all_paths(nodes)
    chance, outside = gibbs(nodes, paths, market, links=links)
    wanted = [chance[[i in path for path in paths]].sum() for i in range(len(nodes))]
    found = linked_marginals(AdvertTable.of(nodes, 4), market, links)
    assert found.probability == pytest.approx(wanted, abs=1e-12)
    assert found.outside == pytest.approx(outside, abs=1e-12)


@given(networks(), markets)
def test_the_marginals_of_each_layer_sum_to_one_less_the_outside_option(
    nodes: list[Node], market: MarketParameters
) -> None:
    found = marginals(AdvertTable.of(nodes, 4), market)
    for layer in range(4):
        covering = [node.start <= layer < node.stop for node in nodes]
        assert found.probability[covering].sum() == pytest.approx(1 - found.outside, abs=1e-12)


def test_path_probabilities_survive_extreme_weights() -> None:
    nodes = [Node("a", 0, 1, 4000 * P_REF, 1.0), Node("b", 0, 1, 4001 * P_REF, 1.0)]
    market = MarketParameters(p_ref=P_REF, outside_weight=math.inf)
    found = marginals(AdvertTable.of(nodes, 1), market).probability
    assert found == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))])


@pytest.mark.parametrize("outside", [2.5, math.inf])
def test_sampling_frequencies_match_the_path_probabilities(outside: float) -> None:
    ranges = [(0, 2), (0, 2), (2, 4), (2, 3), (3, 4), (0, 4), (1, 4), (0, 1)]
    rng = np.random.default_rng(5)
    nodes = [Node(f"n{i}", a, b, int(rng.integers(0, 2 * P_REF)), 5.0) for i, (a, b) in enumerate(ranges)]
    market = MarketParameters(p_ref=P_REF, outside_weight=outside)
    paths = all_paths(nodes)
    chance, rest = gibbs(nodes, paths, market)
    draws = 200_000
    drawn = sample_paths(AdvertTable.of(nodes, 4), market, draws, np.random.default_rng(11))
    counts = Counter(tuple(i for i in row if i >= 0) for row in drawn.tolist())
    assert set(counts) <= {(), *map(tuple, paths)}
    for path, wanted in [*zip(map(tuple, paths), chance, strict=True), ((), rest)]:
        assert counts[path] / draws == pytest.approx(wanted, abs=5 * math.sqrt(wanted / draws) + 1e-9)


def test_linked_sampling_frequencies_match_the_path_probabilities() -> None:
    ranges = [(0, 2), (0, 2), (2, 4), (2, 3), (3, 4), (0, 4), (1, 4), (0, 1)]
    rng = np.random.default_rng(5)
    nodes = [Node(f"n{i}", a, b, int(rng.integers(0, 2 * P_REF)), 5.0) for i, (a, b) in enumerate(ranges)]
    links = rng.integers(0, 20, (len(nodes), len(nodes))).astype(float)
    market = MarketParameters(p_ref=P_REF, outside_weight=math.inf)
    paths = all_paths(nodes)
    chance, _ = gibbs(nodes, paths, market, links)
    table, draws, rng = AdvertTable.of(nodes, 4), 4_000, np.random.default_rng(11)
    counts = Counter(tuple(sample_linked_path(table, market, links, rng)) for _ in range(draws))
    assert set(counts) <= set(map(tuple, paths))
    for path, wanted in zip(map(tuple, paths), chance, strict=True):
        assert counts[path] / draws == pytest.approx(wanted, abs=5 * math.sqrt(wanted / draws) + 1e-9)
    with pytest.raises(NoPath):
        sample_linked_path(table.rows(table.start > 0), market, links[:5, :5], rng)


@given(networks(), markets, st.integers(0, 2**32 - 1))
def test_every_sample_is_a_path(nodes: list[Node], market: MarketParameters, seed: int) -> None:
    paths = {tuple(path) for path in all_paths(nodes)}
    drawn = sample_paths(AdvertTable.of(nodes, 4), market, 20, np.random.default_rng(seed))
    for row in drawn.tolist():
        path = tuple(i for i in row if i >= 0)
        assert path in paths or (path == () and market.outside_weight < math.inf)
        assert row[len(path) :] == [-1] * (len(row) - len(path))


def test_without_path_or_outside_option_there_is_no_choice() -> None:
    table = AdvertTable.of([Node("a", 0, 1, 0, 1.0)], 2)
    with pytest.raises(NoPath, match="layer 1"):
        marginals(table, MarketParameters(outside_weight=math.inf))
    assert marginals(table, MarketParameters()).outside == 1.0
    assert sample_paths(table, MarketParameters(), 3, np.random.default_rng(0)).size == 0
