from __future__ import annotations

from typing import Any

import llama_cpp as native
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.engine import ranking as topk
from hypercluster.node.engine.ranking import NoCandidates
from hypercluster.node.engine.sampler import BadSampling, Sampler
from hypercluster.node.rows import BadCandidates, TopK, check

V = 2000


def logits(seed: int, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, V).astype(np.float32)


TOKEN_DATA = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
"""llama_token_data"""


def llama_cpp_draws(
    rows: list[np.ndarray], seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> list[int]:
    """What llama.cpp's own chain draws from all logits, row after row."""
    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
    if temperature == 0:
        stages = [native.llama_sampler_init_greedy()]
    else:
        stages = [
            native.llama_sampler_init_top_k(top_k),
            native.llama_sampler_init_top_p(top_p, 1),
            native.llama_sampler_init_min_p(min_p, 1),
            native.llama_sampler_init_temp(temperature),
            native.llama_sampler_init_dist(seed),
        ]
    for stage in stages:
        native.llama_sampler_chain_add(chain, stage)
    drawn: list[int] = []
    for row in rows:
        data = np.zeros(len(row), TOKEN_DATA)
        data["id"], data["logit"] = np.arange(len(row)), row
        array = native.llama_token_data_array(
            data=data.ctypes.data_as(native.llama_token_data_p), size=len(row), selected=-1, sorted=False
        )
        native.llama_sampler_apply(chain, array)
        drawn.append(int(array.data[array.selected].id))
    native.llama_sampler_free(chain)
    return drawn


def draws(rows: list[np.ndarray], k: int, **options: Any) -> list[int]:
    with Sampler(V, **options) as sampler:
        return [sampler.sample(topk.best([row], k)) for row in rows]


PARAMETERS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 2),
        "temperature": st.sampled_from([0.0, 0.3, 0.8, 1.0, 1.7]),
        "top_k": st.sampled_from([0, 1, 5, 40, V]),
        "top_p": st.sampled_from([0.1, 0.5, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.5]),
    }
)


@settings(max_examples=80, deadline=None)
@given(PARAMETERS, st.integers(0, 1000))
def test_with_all_logits_the_draws_are_llama_cpp_s(options: dict[str, Any], at: int) -> None:
    rows = [logits(at + i) for i in range(5)]
    assert draws(rows, V, **options) == llama_cpp_draws(rows, **options)


@settings(max_examples=80, deadline=None)
@given(PARAMETERS.filter(lambda o: 0 < o["top_k"] <= 40), st.integers(0, 1000))
def test_candidates_that_cover_top_k_are_enough(options: dict[str, Any], at: int) -> None:
    rows = [logits(at + i) for i in range(5)]
    assert draws(rows, 40, **options) == llama_cpp_draws(rows, **options)


def test_top_p_counts_the_mass_of_the_tokens_not_sent() -> None:
    rows = [logits(i, 3.0) for i in range(200)]
    options: dict[str, Any] = {"seed": 7, "temperature": 1.0, "top_k": 0, "top_p": 0.6, "min_p": 0.0}
    exact = llama_cpp_draws(rows, **options)
    with Sampler(V, **options) as sampler:
        for row, expected in zip(rows, exact, strict=True):
            before = sampler.cut_short
            chosen = sampler.sample(topk.best([row], 200))
            assert chosen == expected or sampler.cut_short > before
        assert sampler.cut_short < 100
    # a sampler that took the candidates for all there is would keep fewer of them
    row = logits(3, 1.0)
    best = topk.best([row], 100)
    mass = np.exp(best.logits[0] - best.logsumexp[0]).sum()
    assert mass < 0.6
    with Sampler(V, **options) as sampler:
        assert len({sampler.sample(best) for _ in range(3000)}) == 100
        assert sampler.cut_short == 3000


def test_the_seed_fixes_the_draws() -> None:
    rows = [logits(i) for i in range(50)]
    assert draws(rows, 40, temperature=1.0, seed=1) == draws(rows, 40, temperature=1.0, seed=1)
    assert draws(rows, 40, temperature=1.0, seed=1) != draws(rows, 40, temperature=1.0, seed=2)
    with Sampler(V, temperature=1.0) as a, Sampler(V, temperature=1.0) as b:
        assert a.seed != b.seed


def test_draws_follow_the_probabilities() -> None:
    best = topk.best([np.log(np.array([0.5, 0.3, 0.2], np.float32))], 3)
    with Sampler(3, temperature=1.0, seed=3) as sampler:
        counts = np.bincount([sampler.sample(best) for _ in range(20000)], minlength=3)
    np.testing.assert_allclose(counts / 20000, [0.5, 0.3, 0.2], atol=0.02)


def test_best_ranks_and_prefers_the_lower_id_among_equals() -> None:
    row = np.array([1, 5, 5, 2, 5, -1], np.float32)
    assert topk.best([row], 2).ids.tolist() == [[1, 2]]
    assert topk.best([row], 9).ids.tolist() == [[1, 2, 4, 3, 0, 5]]
    assert topk.best([row], 3).logsumexp[0] == pytest.approx(np.log(np.exp(row.astype(float)).sum()))
    for bad in (np.nan, np.inf):
        with pytest.raises(NoCandidates):
            topk.best([np.array([1, bad], np.float32)], 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_best_agrees_with_sorting_everything(size: int, k: int, levels: int, seed: int) -> None:
    row = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    order = np.lexsort((np.arange(size), -row))[:k]
    best = topk.best([row], k)
    np.testing.assert_array_equal(best.ids[0], order)
    np.testing.assert_array_equal(best.logits[0], row[order])


def test_candidates_nobody_can_have_computed_are_refused() -> None:
    good = topk.best([logits(0)], 5)
    check(good, V)

    def ids(*values: int) -> np.ndarray:
        return np.array([values], np.int32)

    bad = [
        TopK(ids(1, 1, 2, 3, 4), good.logits, good.logsumexp),
        TopK(ids(1, 2, 3, 4, V), good.logits, good.logsumexp),
        TopK(ids(1, 2, 3, 4, -1), good.logits, good.logsumexp),
        TopK(good.ids, good.logits[:, ::-1], good.logsumexp),
        TopK(good.ids, good.logits, good.logsumexp - 50),
        TopK(good.ids, good.logits, good.logsumexp * np.nan),
        TopK(good.ids, good.logits * np.float32(np.nan), good.logsumexp),
        TopK(good.ids[:, :4], good.logits, good.logsumexp),
        TopK(good.ids[:, :0], good.logits[:, :0], good.logsumexp),
        TopK(good.ids[:0], good.logits[:0], good.logsumexp[:0]),
        TopK(good.ids[0], good.logits[0], good.logsumexp),
    ]
    for candidates in bad:
        with pytest.raises(BadCandidates):
            check(candidates, V)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": 1},
        {"min_p": -0.1},
        {"seed": -1},
        {"seed": 2**32 - 1},
    ],
)
def test_parameters_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadSampling):
        Sampler(V, **options)


def test_a_closed_sampler_says_so() -> None:
    sampler = Sampler(V)
    sampler.close()
    sampler.close()
    with pytest.raises(BadSampling, match="closed"):
        sampler.sample(topk.best([logits(0)], 5))
