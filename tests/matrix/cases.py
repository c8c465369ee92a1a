"""What meets what in the data plane: a value of each axis is one case."""

from __future__ import annotations

from typing import NamedTuple

from tests.matrix.covering import Case as Values
from tests.matrix.covering import covering, crossing, whole

RELAY, CHAIN, MIXED = "relay", "chain", "mixed"
NO_DRAFTS, N_GRAMS, DRAFT_MODEL, IN_FLIGHT = "no drafts", "n-grams", "draft model", "windows in flight"
FRESH, RESUMED = "fresh", "resumed"
ALONE, FORKED = "one answer", "forked"
NOTHING, KILLED, FROZEN, CUT = "nothing fails", "hop killed", "hop frozen", "link cut"
CHEATS, CLIENT_KILLED = "hop cheats", "client killed"
F32, F16, Q8 = "f32", "f16", "q8"
GREEDY, SEEDED = "greedy", "seeded"
EACH, AHEAD = "a voucher a step", "paid ahead"
NOBODY, STANDS_BY, FAILS = "no spare", "spare", "spare fails"

AXES = {
    "rows": (RELAY, CHAIN, MIXED),
    "guesses": (NO_DRAFTS, N_GRAMS, DRAFT_MODEL, IN_FLIGHT),
    "session": (FRESH, RESUMED),
    "answers": (ALONE, FORKED),
    "failure": (NOTHING, KILLED, FROZEN, CUT, CHEATS, CLIENT_KILLED),
    "wire": (F32, F16, Q8),
    "draws": (GREEDY, SEEDED),
    "vouchers": (EACH, AHEAD),
    "spare": (NOBODY, STANDS_BY, FAILS),
}


class Case(NamedTuple):
    """One of them, its fields in the order of AXES.

    `mixed` has one link, and relays the rows of the other. The hop that fails or cheats is in the middle of the path,
    the link that is cut leads to it. `forked` are two answers to one prompt, which run at the same time, the second one
    over copies of the sessions of the first; whatever fails fails for both. A spare stands by for the hop in the
    middle, and has read the prompt before anything fails. One that `fails` is frozen where the hop is, and else dead.
    """

    rows: str
    guesses: str
    session: str
    answers: str
    failure: str
    wire: str
    draws: str
    vouchers: str
    spare: str

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self)

    @property
    def siblings(self) -> int:
        """Answers to the last prompt."""
        return 2 if self.answers == FORKED else 1


def can_be(values: Values) -> bool:
    """Whether there is such a case: where all rows are relayed no link can be cut."""
    case = Case(*values)
    return not (case.rows == RELAY and case.failure == CUT)


ALL = [Case(*values) for values in whole(AXES, can_be)]
STRENGTHS = {"pairs": 2, "triples": 3}
CROSSED = ("rows", "guesses", "session", "answers", "failure", "wire")
"""axes of which `crossed` has every combination; what else there is takes turns"""


def chosen(wanted: str = "pairs", part: str = "1/1") -> list[Case]:
    """The cases of a run: few that have every pair, or every triple; every combination of the axes that are CROSSED,
    with every triple of all; or the `whole`. Of them those of one part, as "2/5" is the second of five.

    Raises ValueError for anything else.
    """
    place, _, parts = part.partition("/")
    if wanted not in (*STRENGTHS, "crossed", "whole") or not 1 <= int(place) <= int(parts):
        raise ValueError(
            f"HC_MATRIX is pairs, triples, crossed or whole and HC_MATRIX_PART 1/1, not {wanted} and {part}."
        )
    if wanted == "whole":
        cases = ALL
    elif wanted == "crossed":
        cases = [Case(*each) for each in crossing(ALL, [list(AXES).index(axis) for axis in CROSSED])]
    else:
        cases = [Case(*each) for each in covering(ALL, STRENGTHS[wanted])]
    return cases[int(place) - 1 :: int(parts)]
