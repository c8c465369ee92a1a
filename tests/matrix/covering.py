"""Few cases that have every pair: of any two axes, each value of the one beside each value of the other. Or every
triple, of any three; or every combination of some axes, beside which the others take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import combinations, product
from operator import or_

Case = tuple[str, ...]
"""a value of each axis"""
Meeting = tuple[tuple[int, str], ...]
"""values of some axes, each with the number of its axis"""


def whole(axes: Mapping[str, Sequence[str]], fits: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Every case there is, but those that do not fit."""
    return [case for case in product(*axes.values()) if fits(case)]


def meetings(case: Case, strength: int = 2) -> set[Meeting]:
    """The pairs that a case has, or whatever so many values together are."""
    return set(combinations(enumerate(case), strength))


def covering(cases: Sequence[Case], strength: int = 2) -> list[Case]:
    """Some of these cases that have all pairs that they have together: the one with most that are missing first, and of
    several the one with most triples. The same cases give the same ones.
    """
    held, more = _bits(cases, strength), _bits(cases, strength + 1)
    missing, also = _union(held), _union(more)
    chosen: list[Case] = []
    while missing:
        best = max(
            range(len(cases)),
            key=lambda each: ((held[each] & missing).bit_count(), (more[each] & also).bit_count()),
        )
        chosen.append(cases[best])
        missing, also = missing & ~held[best], also & ~more[best]
    return chosen


def crossing(cases: Sequence[Case], axes: Sequence[int]) -> list[Case]:
    """One of these cases for every combination of values that some axes have in them: the one with most triples that
    those before it lack. The same cases give the same ones.
    """
    held = _bits(cases, 3)
    groups: dict[Case, list[int]] = {}
    for place, case in enumerate(cases):
        groups.setdefault(tuple(case[axis] for axis in axes), []).append(place)
    missing = _union(held)
    chosen: list[Case] = []
    for group in groups.values():
        best = max(group, key=lambda each: (held[each] & missing).bit_count())
        chosen.append(cases[best])
        missing &= ~held[best]
    return chosen


def _bits(cases: Sequence[Case], strength: int) -> list[int]:
    """The pairs of each case, a bit for each: thousands of cases are looked through for each one that is chosen."""
    places: dict[Meeting, int] = {}
    return [
        sum(1 << places.setdefault(each, len(places)) for each in meetings(case, strength)) for case in cases
    ]


def _union(held: Sequence[int]) -> int:
    return reduce(or_, held, 0)
