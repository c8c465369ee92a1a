"""Penalties, biases and masks: llama.cpp's results wherever the candidates suffice, and counted where not."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import llama_cpp as native
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.engine.penalties import Penalties
from hypercluster.node.engine.ranking import best
from hypercluster.node.engine.sampler import BadSampling, NothingToDraw, Sampler
from tests.node.engine.test_sampler import TOKEN_DATA, V, logits

Bias = tuple[tuple[int, float], ...]


@dataclass
class Reference:
    """llama.cpp's own chain on all logits, in the order in which llama.cpp's programs build it."""

    seed: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    penalties: Penalties
    bias: Bias

    def __post_init__(self) -> None:
        entries = (native.llama_logit_bias * len(self.bias))()
        for entry, (token, value) in zip(entries, self.bias, strict=True):
            entry.token, entry.bias = token, -np.inf if value <= -100 else value
        own = self.penalties
        stages = [
            native.llama_sampler_init_logit_bias(V, len(self.bias), entries),
            native.llama_sampler_init_penalties(V, own.last_n, own.repetition, own.frequency, own.presence),
        ]
        if self.temperature == 0:
            stages.append(native.llama_sampler_init_greedy())
        else:
            stages += [
                native.llama_sampler_init_top_k(self.top_k),
                native.llama_sampler_init_top_p(self.top_p, 1),
                native.llama_sampler_init_min_p(self.min_p, 1),
                native.llama_sampler_init_temp(self.temperature),
                native.llama_sampler_init_dist(self.seed),
            ]
        self.chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        for stage in stages:
            native.llama_sampler_chain_add(self.chain, stage)

    def draw(self, row: np.ndarray) -> int:
        data = np.zeros(len(row), TOKEN_DATA)
        data["id"], data["logit"] = np.arange(len(row)), row
        array = native.llama_token_data_array(
            data=ctypes.cast(data.ctypes.data, native.llama_token_data_p),
            size=len(row),
            selected=-1,
            sorted=False,
        )
        native.llama_sampler_apply(self.chain, array)
        return int(array.data[array.selected].id)

    def accept(self, token: int) -> None:
        native.llama_sampler_accept(self.chain, token)


OPTIONS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 2),
        "temperature": st.sampled_from([0.0, 0.7, 1.3]),
        "top_k": st.sampled_from([0, 1, 5, 40]),
        "top_p": st.sampled_from([0.2, 0.9, 1.0]),
        "min_p": st.sampled_from([0.0, 0.1]),
        "penalties": st.builds(
            Penalties,
            presence=st.sampled_from([0.0, 1.5, -1.0]),
            frequency=st.sampled_from([0.0, 0.7, -0.4]),
            repetition=st.sampled_from([1.0, 1.3, 0.8]),
            last_n=st.sampled_from([0, 3, 20]),
        ),
        "bias": st.lists(
            st.tuples(st.integers(0, V - 1), st.sampled_from([-100.0, -5.0, 0.0, 2.0, 30.0])),
            max_size=6,
            unique_by=lambda pair: pair[0],
        ).map(tuple),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    OPTIONS, st.integers(0, 1000), st.sampled_from([32, 300, V]), st.lists(st.integers(0, V - 1), max_size=5)
)
def test_every_draw_is_llama_cpp_s_or_counted(
    options: dict[str, Any], at: int, k: int, prompt: list[int]
) -> None:
    reference = Reference(**options)
    with Sampler(V, **options) as sampler:
        sampler.accept(prompt)
        for token in prompt:
            reference.accept(token)
        # few tokens come often, as in texts
        rows = [logits(at % 7 + i % 3, 3.0) for i in range(12)]
        for row in rows:
            before = sampler.cut_short
            drawn, expected = sampler.sample(best([row], k)), reference.draw(row)
            assert drawn == expected or sampler.cut_short > before
            if k == V:
                assert sampler.cut_short == 0
            sampler.accept([expected])
            reference.accept(expected)
    native.llama_sampler_free(reference.chain)


def test_what_is_certain_is_not_counted() -> None:
    """A count that is always up says nothing: ordinary penalties with ordinary candidates are exact."""
    own = Penalties(presence=1.0, frequency=0.5, repetition=1.1)
    for options in ({"temperature": 0.0}, {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}):
        with Sampler(V, **options, seed=1, penalties=own, bias=((3, -100), (4, -2))) as sampler:  # type: ignore[arg-type]
            for i in range(100):
                sampler.accept([sampler.sample(best([logits(i % 5, 3.0)], 128))])
            assert sampler.cut_short == 0


def test_a_banned_token_never_comes() -> None:
    row = logits(1, 3.0)
    order = np.argsort(-row)
    ban = tuple((int(token), -100.0) for token in order[:50])
    with Sampler(V, bias=ban) as sampler:
        assert sampler.sample(best([row], 64)) == order[50]
        assert sampler.cut_short == 0
        with pytest.raises(NothingToDraw):
            sampler.sample(best([row], 50))
    with Sampler(V, temperature=2.0, bias=ban, seed=1) as sampler:
        drawn = {sampler.sample(best([row], 64)) for _ in range(300)}
    assert not drawn & set(order[:50].tolist())


def test_a_token_that_is_wanted_above_all_comes_from_anywhere() -> None:
    """A bias of 100 picks among few words, as clients do to classify; it counts as not certain."""
    row = logits(1, 3.0)
    last = int(np.argmin(row))
    with Sampler(V, bias=((last, 100.0),)) as sampler:
        assert sampler.sample(best([row], 10)) == last
        assert sampler.cut_short == 1


def test_a_mask_leaves_the_distribution_of_what_it_allows() -> None:
    row = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    mask = np.array([False, True, False, True])
    with Sampler(4, temperature=1.0, seed=3) as sampler:
        counts = np.bincount([sampler.sample(best([row], 4), mask=mask) for _ in range(20000)], minlength=4)
    np.testing.assert_allclose(counts / 20000, [0, 0.75, 0, 0.25], atol=0.02)
    with Sampler(4) as sampler:
        assert sampler.sample(best([row], 3), mask=mask) == 1
        assert sampler.cut_short == 0
        with pytest.raises(NothingToDraw):
            sampler.sample(best([row], 3), mask=np.array([False, False, False, True]))


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.integers(0, 1000), st.sampled_from([32, 300, V]))
def test_a_masked_draw_is_that_of_llama_cpp_with_the_rest_at_minus_infinity(
    options: dict[str, Any], at: int, k: int
) -> None:
    reference = Reference(**options)
    with Sampler(V, **options) as sampler:
        for i in range(8):
            row, mask = logits(at + i, 3.0), np.random.default_rng(at + i).random(V) < 0.3
            before = sampler.cut_short
            expected = reference.draw(np.where(mask, row, -np.inf))
            try:
                drawn = sampler.sample(best([row], k), mask=mask)
            except NothingToDraw:
                assert k < V or not mask.any()
                continue
            assert drawn == expected or sampler.cut_short > before
            assert mask[drawn]
    native.llama_sampler_free(reference.chain)


def test_a_bias_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(BadSampling, match="Token 2000 has a bias and lies outside"):
        Sampler(V, bias=((V, 1.0),))
