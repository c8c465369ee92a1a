"""Which rows of a session count, where steps go back and others are elsewhere."""

from __future__ import annotations

import pytest

from hypercluster.node.client.kept import NotKept, parts_of
from hypercluster.node.wire.records import AuditStep, StepRoots

WIDTH = 4


def step(seq: int, position: int, rows: int, outputs: int | None = None) -> AuditStep:
    """A step whose every row of output is its number and its place in the step, of WIDTH bytes."""
    count = rows if outputs is None else outputs
    data = b"".join(bytes((seq, row, 0, 0)) for row in range(count))
    return AuditStep(seq, position, rows, count, bytes(WIDTH * rows), data, 1_700_000_000, bytes(64))


def elsewhere(of: AuditStep) -> StepRoots:
    """The same, as its client knows it where its rows went past it."""
    return StepRoots(
        of.seq, of.position, of.rows, of.outputs, b"", b"", bytes(32), bytes(32), of.issued, of.receipt
    )


STEPS = [step(0, 0, 4), step(1, 4, 3), step(2, 5, 1), step(3, 6, 2), step(4, 6, 3)]
"""positions 0 to 8, where the second step counts for its first row alone, and the fourth not at all"""
WHOSE = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (4, 0), (4, 1), (4, 2)]
"""step and row, by position"""


@pytest.mark.parametrize("start", range(9))
def test_what_a_later_step_went_back_over_does_not_count(start: int) -> None:
    for stop in range(start + 1, 10):
        parts = parts_of(STEPS, start, stop)
        expected = b"".join(bytes((seq, row, 0, 0)) for seq, row in WHOSE[start:stop])
        assert b"".join(part.rows({}) for part in parts) == expected
        # And no step is asked for of which nothing is wanted.
        assert {part.step.seq for part in parts} == {seq for seq, _ in WHOSE[start:stop]}


def test_rows_that_are_elsewhere_come_from_what_was_found() -> None:
    known: list[AuditStep | StepRoots] = [STEPS[0], *map(elsewhere, STEPS[1:])]
    parts = parts_of(known, 3, 8)
    asked = {part.step.seq for part in parts if isinstance(part.step, StepRoots)}
    assert asked == {1, 2, 4}
    found = {each.seq: each for each in STEPS if each.seq in asked}
    expected = b"".join(bytes((seq, row, 0, 0)) for seq, row in WHOSE[3:8])
    assert b"".join(part.rows(found) for part in parts) == expected


@pytest.mark.parametrize(
    ("steps", "stop"),
    [
        ([], 1),
        (STEPS, 10),
        (STEPS[1:], 2),
        ([step(0, 0, 4, outputs=1)], 1),
        ([step(0, 0, 2), step(1, 3, 2)], 2),
    ],
    ids=["nothing", "beyond the end", "no beginning", "logits", "a gap"],
)
def test_rows_that_are_not_all_there_are_not_given(steps: list[AuditStep], stop: int) -> None:
    with pytest.raises(NotKept):
        parts_of(steps, 0, stop)
