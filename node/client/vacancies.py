"""How many sessions each provider has left: what it says, and what this client has taken and given back since then."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hypercluster.market.advert import Advert
    from hypercluster.market.economics.routing import Path

REST_SECONDS = 0.5
"""a provider that is full is left alone for so long, and for twice as long each time"""
MOST_REST_SECONDS = 8.0
_SHARE = 0.2
"""of a new measurement in a mean"""


@dataclass(slots=True)
class _Seen:
    sequence: int
    taken: int = 0
    """since that advert, less those given back; all that it says is free where it was full after all"""
    full_until: float = 0.0
    said_until: float = 0.0
    """until when it asked to be left alone itself"""
    refusals: int = 0


class Vacancies:
    """Counts the sessions of one client with all providers of a model."""

    def __init__(self) -> None:
        self.changes = 0
        """how often anything changed"""
        self._seen: dict[str, _Seen] = {}
        self._open: Counter[str] = Counter()
        self.paths = 0
        """taken now"""
        self._held = 1.0
        self._woken = trio.Event()

    def free(self, advert: Advert) -> int:
        """Sessions that the provider would take now, as far as can be told from here."""
        seen = self._of(advert)
        left = min(advert.free - seen.taken, advert.capacity - self._open[advert.peer])
        if seen.refusals and trio.current_time() >= seen.full_until:
            # It may have changed its mind without telling: one may ask.
            left = max(left, min(1, advert.capacity - self._open[advert.peer]))
        return max(0, left)

    def take(self, path: Path) -> None:
        """Sessions are about to be opened with all providers of a path."""
        self.paths += 1
        self.hold(path.ids)

    def give_back(self, path: Path, seconds: float) -> None:
        """They have ended, or were never opened; `seconds` is for how long they were taken."""
        self.paths -= 1
        self._held += _SHARE * (seconds - self._held)
        self.release(path.ids)

    def exchange(self, before: Path, after: Path) -> None:
        """The sessions of one path that are not on the other have ended, and those that it did not have are opened."""
        held, wanted = set(before.ids), set(after.ids)
        self.hold(wanted - held)
        self.release(held - wanted)

    def hold(self, peers: Iterable[str]) -> None:
        """Sessions are about to be opened with these besides, which are on no path."""
        for peer in peers:
            self._open[peer] += 1
            if peer in self._seen:
                self._seen[peer].taken += 1

    def release(self, peers: Iterable[str]) -> None:
        """They have ended, or are on a path from now on, which counts them itself."""
        for peer in peers:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]
            if peer in self._seen:
                self._seen[peer].taken -= 1
        self.wake()

    def full(self, advert: Advert, wait: float = 0.0) -> None:
        """The provider refused a session for want of room; `wait` (s) is when to come again by its word, 0 unknown."""
        seen = self._of(advert)
        # What is given back now counts as free again; that of the refused session itself never was.
        seen.taken = advert.free + 1
        rest = min(MOST_REST_SECONDS, max(wait, REST_SECONDS * 2**seen.refusals))
        seen.refusals += 1
        seen.full_until = trio.current_time() + rest
        seen.said_until = trio.current_time() + wait

    def accepted(self, peers: Sequence[str]) -> None:
        """The providers took the sessions."""
        for peer in peers:
            if peer in self._seen:
                self._seen[peer].refusals = 0

    def pace(self) -> float:
        """Seconds after which, on the average, one of the paths in use is given back."""
        return self._held / max(1, self.paths)

    def soonest(self) -> float:
        """Seconds until the first of those who are full may be asked again by its own word; 0 where none said when.

        Where paths are in use it is 0 as well: one of them is given back, whatever others say.
        """
        if self.paths:
            return 0.0
        at = trio.current_time()
        return min(
            (each.said_until - at for each in self._seen.values() if each.said_until > at), default=0.0
        )

    def wake(self) -> None:
        """Tell those in line that something may have become free."""
        self.changes += 1
        self._woken.set()
        self._woken = trio.Event()

    async def changed(self, since: int, seconds: float) -> None:
        """Wait until there are more than `since` changes, or for so many seconds."""
        with trio.move_on_after(seconds):
            while self.changes == since:
                await self._woken.wait()

    def _of(self, advert: Advert) -> _Seen:
        seen = self._seen.get(advert.peer)
        if seen is None or advert.sequence > seen.sequence:
            if len(self._seen) > 4096:
                self._seen.clear()
            refusals = seen.refusals if seen and not advert.free else 0
            seen = self._seen[advert.peer] = _Seen(advert.sequence, refusals=refusals)
        return seen
