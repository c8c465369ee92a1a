"""What others say of an operator, and how little it weighs.

A rumour is a failed audit that a staked verifier signed, over what the accused signed itself. The verifier may be in
league with the accuser, so its word is bounded: it makes the paths of the accused dearer and distrusts nobody. It
weighs by the stake behind it, so that many names of one stake weigh what one does. What anyone can check, two receipts
for one step, is no rumour: it is evidence of a lie like one's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

MOST_HEARD = 2.0
"""weight of all rumours against one operator at most: a quarter of what a stranger is distrusted for. Twice as much
would find cheats hardly sooner, and be worth twice as much to slanderers (docs/economics.md)"""
MOST_OF_WITNESS = 0.5
"""weight of what one operator of verifiers says at most"""
QUORUM = 1 / 3
"""share of the verifiers' stake whose word weighs all that rumours may"""
HALF_LIFE = timedelta(days=7)
"""in which half of a rumour's weight is forgotten"""


@dataclass(frozen=True, slots=True)
class Rumour:
    """What a witness says against an operator.

    Attributes:
        operator: the accused.
        witness: the operator whose verifier signed; "" for what proves itself, which weighs nothing here.
        share: of the stake of all verifiers known, 0 to 1, that the witness's stake was when it was heard.
        heard: moment, with a time zone.
    """

    operator: str
    witness: str
    share: float
    heard: datetime


def weights(rumours: Iterable[Rumour], now: datetime) -> dict[str, float]:
    """Add up what is said against each operator, as a weight of bad evidence from 0 to `MOST_HEARD`.

    Each witness counts once, with the most that it said, and nobody witnesses about himself.
    """
    said: dict[tuple[str, str], float] = {}
    for each in rumours:
        if each.witness in ("", each.operator):
            continue
        pair = each.operator, each.witness
        said[pair] = max(said.get(pair, 0.0), weight(each.share) * _left(now - each.heard))
    total: dict[str, float] = {}
    for (operator, _), weighs in said.items():
        total[operator] = min(MOST_HEARD, total.get(operator, 0.0) + weighs)
    return total


def weight(share: float) -> float:
    """What the word of one witness weighs that holds a share of the verifiers' stake, 0 to `MOST_OF_WITNESS`."""
    return min(MOST_OF_WITNESS, MOST_HEARD * max(0.0, share) / QUORUM)


def _left(age: timedelta) -> float:
    return min(1.0, float(0.5 ** (age / HALF_LIFE)))
