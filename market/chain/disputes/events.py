"""What happens in disputes on chain, as frozen records. Amounts in wei, times in unix seconds, hashes of 32 bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Vote(IntEnum):
    """What a member of a committee says of the work; GREY punishes nobody, UNSERVED means there was no evidence."""

    INNOCENT = 1
    GUILTY = 2
    GREY = 3
    UNSERVED = 4


class Outcome(IntEnum):
    """How a case ended; NONE while it is open, VOID if it never had a committee."""

    NONE = 0
    GUILTY = 1
    INNOCENT = 2
    UNSERVED = 3
    INCONCLUSIVE = 4
    VOID = 5


@dataclass(frozen=True)
class DisputeEvent:
    """An event of the disputes contract; block and log index put events in order."""

    block: int
    index: int


@dataclass(frozen=True)
class EquivocationProven(DisputeEvent):
    """A node signed two different receipts for one step, and its operator lost ``taken``."""

    node: str
    operator: str
    stage_hash: bytes
    seq: int
    reporter: str
    taken: int


@dataclass(frozen=True)
class ContradictionProven(DisputeEvent):
    """A verifier passed two different outputs of one input, and its operator lost ``taken``."""

    node: str
    operator: str
    in_root: bytes
    reporter: str
    taken: int


@dataclass(frozen=True)
class Enlisted(DisputeEvent):
    """A verifier can be drawn for cases that are opened from the next block on."""

    verifier: str
    operator: str


@dataclass(frozen=True)
class Delisted(DisputeEvent):
    """A verifier is drawn no longer."""

    verifier: str
    operator: str


@dataclass(frozen=True)
class CaseOpened(DisputeEvent):
    """The work of a receipt is said to be wrong."""

    case_id: int
    accuser: str
    node: str
    operator: str
    stage_hash: bytes
    receipt_hash: bytes
    seq: int
    model_id: bytes
    layer_start: int
    layer_stop: int
    draw_deadline: int


@dataclass(frozen=True)
class DrawGoesOn(DisputeEvent):
    """The draw needs another call; ``found`` members were found so far, by the randomness of ``draw_block``."""

    case_id: int
    found: int
    draw_block: int


@dataclass(frozen=True)
class CommitteeDrawn(DisputeEvent):
    """Seat i of the case's committee is that of ``members[i]``."""

    case_id: int
    members: tuple[str, ...]
    commit_deadline: int


@dataclass(frozen=True)
class Committed(DisputeEvent):
    """A member has committed to a vote."""

    case_id: int
    member: str


@dataclass(frozen=True)
class Revealed(DisputeEvent):
    """A member's vote, with the SHA-256 of the fingerprint of what it computed."""

    case_id: int
    member: str
    vote: Vote
    fingerprint: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "vote", Vote(self.vote))


@dataclass(frozen=True)
class CaseResolved(DisputeEvent):
    """A case is closed: the accused lost ``taken``, the accuser ``forfeited``."""

    case_id: int
    outcome: Outcome
    taken: int
    forfeited: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcome", Outcome(self.outcome))


@dataclass(frozen=True)
class Demanded(DisputeEvent):
    """A row of a receipt has to be shown until ``deadline``."""

    demand_id: int
    demander: str
    node: str
    operator: str
    stage_hash: bytes
    seq: int
    output: bool
    row: int
    deadline: int


@dataclass(frozen=True)
class Served(DisputeEvent):
    """The row was shown: in the calldata of the transaction, with this keccak256."""

    demand_id: int
    data_hash: bytes


@dataclass(frozen=True)
class Withheld(DisputeEvent):
    """The row was not shown, and the operator lost ``taken``."""

    demand_id: int
    node: str
    operator: str
    taken: int


@dataclass(frozen=True)
class CreditsClaimed(DisputeEvent):
    """An operator took its credits."""

    operator: str
    amount: int


_KINDS: dict[str, type[DisputeEvent]] = {kind.__name__: kind for kind in DisputeEvent.__subclasses__()}
_CAPITAL = re.compile("([A-Z])")


def dispute_event(name: str, block: int, index: int, values: dict[str, Any]) -> DisputeEvent | None:
    """Make the record of an event from its decoded fields; None for an event that is not about disputes."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    fields = {_CAPITAL.sub(r"_\1", field).lower(): _plain(value) for field, value in values.items()}
    return kind(block, index, **fields)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return bytes(value)
    return tuple(value) if isinstance(value, list) else value
