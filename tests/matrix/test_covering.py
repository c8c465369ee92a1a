"""The few cases that every run has: no pair of values that can meet is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.matrix.cases import ALL, AXES, CROSSED, CUT, RELAY, chosen
from tests.matrix.covering import Case, covering, meetings, whole


def met(cases: list[Case], strength: int) -> set[object]:
    return set[object]().union(*(meetings(case, strength) for case in cases))


@given(st.lists(st.integers(1, 4), min_size=3, max_size=4), st.integers(0, 3), st.sampled_from([2, 3]))
def test_every_pair_is_there_and_nothing_that_does_not_fit(
    sizes: list[int], apart: int, strength: int
) -> None:
    axes = {str(place): [str(value) for value in range(size)] for place, size in enumerate(sizes)}
    cases = whole(axes, lambda case: not (case[0] == str(apart) and case[1] == "0"))
    few = covering(cases, strength)
    assert set(few) <= set(cases)
    assert len(set(few)) == len(few)
    assert met(few, strength) == met(cases, strength)


def test_of_the_data_plane_few_cases_say_what_all_do_of_pairs() -> None:
    few = chosen()
    assert met([*few], 2) == met([*ALL], 2)
    assert 100 * len(few) < len(ALL)


def test_what_is_crossed_has_every_combination_of_some_axes_and_every_triple_of_all() -> None:
    few, at = chosen("crossed"), [list(AXES).index(axis) for axis in CROSSED]
    combined = [tuple(case[axis] for axis in at) for case in few]
    assert sorted(combined) == sorted({tuple(case[axis] for axis in at) for case in ALL})
    assert met([*few], 3) == met([*ALL], 3)


def test_all_that_cannot_meet_is_a_link_that_is_cut_where_there_is_none() -> None:
    """So a feature that is added meets all the others, or says in the table why it does not."""
    values = {(axis, value) for case in ALL for axis, value in enumerate(case)}
    pairs = {(one, other) for one in values for other in values if one[0] < other[0]}
    assert {(one[1], other[1]) for one, other in pairs - met([*ALL], 2)} == {(RELAY, CUT)}


def test_a_run_can_be_taken_in_parts() -> None:
    parts = [chosen("whole", f"{place}/5") for place in range(1, 6)]
    assert sorted(case for part in parts for case in part) == sorted(ALL)
    with pytest.raises(ValueError, match="HC_MATRIX"):
        chosen("all")
