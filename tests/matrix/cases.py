"""What meets what in the data plane: a value of each axis is one case."""

from __future__ import annotations

from typing import NamedTuple

from tests.matrix.covering import Case as Values
from tests.matrix.covering import covering, whole

RELAY, CHAIN, MIXED = "relay", "chain", "mixed"
NO_DRAFTS, N_GRAMS, DRAFT_MODEL, IN_FLIGHT = "no drafts", "n-grams", "draft model", "windows in flight"
FRESH, RESUMED = "fresh", "resumed"
NOTHING, KILLED, FROZEN, CUT = "nothing fails", "hop killed", "hop frozen", "link cut"
CHEATS, CLIENT_KILLED = "hop cheats", "client killed"
F32, F16 = "f32", "f16"
GREEDY, SEEDED = "greedy", "seeded"

AXES = {
    "rows": (RELAY, CHAIN, MIXED),
    "guesses": (NO_DRAFTS, N_GRAMS, DRAFT_MODEL, IN_FLIGHT),
    "session": (FRESH, RESUMED),
    "failure": (NOTHING, KILLED, FROZEN, CUT, CHEATS, CLIENT_KILLED),
    "wire": (F32, F16),
    "draws": (GREEDY, SEEDED),
}


class Case(NamedTuple):
    """One of them, its fields in the order of AXES.

    `mixed` has one link, and relays the rows of the other. The hop that fails or cheats is in the middle of the path,
    the link that is cut leads to it.
    """

    rows: str
    guesses: str
    session: str
    failure: str
    wire: str
    draws: str

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self)


def can_be(values: Values) -> bool:
    """Whether there is such a case: where all rows are relayed no link can be cut."""
    case = Case(*values)
    return not (case.rows == RELAY and case.failure == CUT)


ALL = [Case(*values) for values in whole(AXES, can_be)]
FEW = [Case(*values) for values in covering(ALL)]
