"""The few cases that every run has: no pair of values that can meet is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.matrix.cases import ALL, FEW
from tests.matrix.covering import covering, pairs, whole


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 3))
def test_every_pair_is_there_and_nothing_that_does_not_fit(sizes: list[int], apart: int) -> None:
    axes = {str(place): [str(value) for value in range(size)] for place, size in enumerate(sizes)}
    cases = whole(axes, lambda case: not (case[0] == str(apart) and case[1] == "0"))
    chosen = covering(cases)
    assert set(chosen) <= set(cases)
    assert len(set(chosen)) == len(chosen)
    assert set().union(*map(pairs, chosen)) == set().union(*map(pairs, cases))


def test_of_the_data_plane_few_cases_say_what_all_do_of_pairs() -> None:
    assert set().union(*map(pairs, FEW)) == set().union(*map(pairs, ALL))
    assert 8 * len(FEW) < len(ALL)
