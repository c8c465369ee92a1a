"""Whether what each was sent is what the one before it answered, where somebody was lost on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from hypercluster.node.evidence.bundle import PaidSession
from hypercluster.node.evidence.seams import seam_faults

Row = tuple[int, int, str, str]
"""a step: its position, its tokens, what went in and what came out"""


def session(peer: str, start: int, stop: int, *steps: Row, aside: int = 0) -> PaidSession:
    """As far as seams go."""
    named = [
        SimpleNamespace(position=position, tokens=tokens, in_root=sent, out_root=answered)
        for position, tokens, sent, answered in steps
    ]
    record = SimpleNamespace(peer=peer, layer_start=start, layer_stop=stop)
    return cast(PaidSession, SimpleNamespace(record=record, steps=named, aside=aside))


def broken(*behind: Row) -> list[PaidSession]:
    """The middle one signs for the prompt and one row, and sends two windows on; then one who stood by goes on."""
    head = ((0, 4, "ids", "a"), (4, 1, "ids", "b"), (5, 2, "ids", "c"), (7, 2, "ids", "d"))
    return [
        session("middle", 1, 3, (0, 4, "a", "A"), (4, 1, "b", "B")),
        session("head", 0, 1, *head, (5, 1, "ids", "e"), (6, 1, "ids", "f")),
        session("spare", 1, 3, (0, 5, "ab", "AB"), (5, 1, "e", "E"), (6, 1, "f", "F"), aside=1),
        session("tail", 3, 4, (0, 4, "A", "x"), (4, 1, "B", "x"), *behind),
    ]


LOST: tuple[Row, ...] = ((5, 2, "C", "x"), (7, 2, "D", "x"))
"""windows that nobody signed for"""


def test_what_was_lost_with_who_broke_and_taken_again_is_no_fault() -> None:
    assert list(seam_faults(broken(*LOST, (5, 1, "E", "x"), (6, 1, "F", "x")))) == []


@pytest.mark.parametrize(
    "behind",
    [
        LOST,
        ((5, 1, "E", "x"), (6, 1, "other", "x")),
        (*LOST, (6, 1, "F", "x")),
    ],
    ids=["never taken again", "something else at the end", "taken again from too far on"],
)
def test_what_the_answer_rests_on_was_answered_by_somebody(behind: tuple[Row, ...]) -> None:
    (fault,) = seam_faults(broken(*behind))
    assert fault.startswith(("Step 2 at layer 3", "Step 3 at layer 3"))
