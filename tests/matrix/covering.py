"""Few cases that have every pair: of any two axes, each value of the one beside each value of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

Case = tuple[str, ...]
"""a value of each axis"""
Pair = tuple[int, str, int, str]


def whole(axes: Mapping[str, Sequence[str]], fits: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Every case there is, but those that do not fit."""
    return [case for case in product(*axes.values()) if fits(case)]


def pairs(case: Case) -> set[Pair]:
    """The pairs that a case has."""
    return {(i, case[i], j, case[j]) for i, j in combinations(range(len(case)), 2)}


def covering(cases: Sequence[Case]) -> list[Case]:
    """Some of these cases that have all pairs that they have together, the one with most that are missing first.

    The same cases give the same ones.
    """
    missing: set[Pair] = set().union(*map(pairs, cases))
    chosen: list[Case] = []
    while missing:
        best = max(cases, key=lambda case: len(pairs(case) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen
