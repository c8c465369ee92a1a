"""All attacks by name, for tests, the benchmark and the process that runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.siege.hostile import opens
from tests.siege.tally import Tally
from tests.siege.target import Target

if TYPE_CHECKING:
    from trio_typing import TaskStatus


class Attack(Protocol):
    """Runs until it is cancelled; `strength` is how many connections, or adverts, it uses at once.

    It goes under a tenth as many names, a hundred at most (tests.siege.hostile.identities). What it cost and what it
    got goes into `tally`; `task_status.started()` says that it is under way, so `nursery.start` waits for that.
    """

    async def __call__(
        self, target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = ...
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One attack: what runs it, what it is in a few words, and on which role."""

    run: Attack
    what: str
    role: str = "provider"
    strengths: tuple[int, ...] = (10, 100, 1000)


ATTACKS: dict[str, Listed] = {
    "open-nothing": Listed(opens.open_without_channel, "Opens on channels that do not exist"),
    "open-foreign": Listed(opens.open_foreign_channel, "Opens on somebody else's channel"),
    "hold": Listed(opens.hold_sessions, "sessions held on 1 wei, nothing paid"),
    "hold-rich": Listed(opens.hold_sessions_rich, "sessions held on 1 HCT, nothing paid"),
    "open-close": Listed(opens.open_and_close, "Open and Close without a step"),
    "open-vanish": Listed(opens.open_and_vanish, "Open, and the connection cut"),
}
