"""The line in front of a model: who waits for a session, in an order that is fair between those who ask.

Everybody waiting has a function that looks for a path. As long as all sessions are taken it finds none; whenever one
may have become free the line asks again, in order: first those whose path broke in the middle of an answer, then one
of each key in turn, of one key the first to come. Who cannot be served yet, since it needs more than is free, is gone
around, though not for ever.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.needs import AllBusy
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path
    from hypercluster.node.client.vacancies import Vacancies

MOST_WAITING = 256
LOOK_SECONDS = 0.3
"""after which those in line look again though nobody said that anything changed"""
OVERTAKEN = 32
"""so often others may go ahead of one who needs more than is free"""
TRIED = 4
"""that are busy, after which the rest of the line is not asked"""
LONGEST_RETRY = 60.0

Find = Callable[[], Awaitable["Path"]]


class QueueFull(AllBusy):
    """Too many wait for this model, or this one waited too long; to be tried again after `retry_after` seconds."""

    def __init__(self, sentence: str, retry_after: float) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Place:
    """A place in the line. In the end there is a `path`; until then `error` says why there was none yet."""

    def __init__(self, key: str, find: Find) -> None:
        self.key = key
        self.find = find
        self.path: Path | None = None
        self.error: NodeError | None = None
        self.since = trio.current_time()
        self.overtaken = 0
        self.done = trio.Event()


class Line:
    """Who waits for sessions of one model, `most` at most.

    Args:
        vacancies: told when a path is given away; tell how many sessions there are.
    """

    def __init__(self, vacancies: Vacancies, most: int = MOST_WAITING) -> None:
        self._vacancies, self._most = vacancies, most
        self._first: deque[Place] = deque()
        self._keys: dict[str, deque[Place]] = {}
        """in the order in which they are next, each with its places"""
        self._turn = trio.Lock()
        self._looked = -math.inf
        self._seen = -1

    def __len__(self) -> int:
        return len(self._first) + sum(len(places) for places in self._keys.values())

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self) >= self._most

    def check_room(self, key: str) -> None:
        """Raise QueueFull where nobody else of `key` may stand in line.

        In a full line there is room for a key that has fewer places than another has: the last of that one goes.
        """
        if self.full and self._crowd(key) is None:
            raise self._refusal(f"{len(self)} requests wait for this model already, which are the most.")

    def join(self, key: str, find: Find, *, first: bool = False) -> Place:
        """Stand in line; `first` where an answer is under way and only its path has to be found again.

        Raises:
            QueueFull: too many wait, and nobody has more places than `key`.
        """
        place = Place(key, find)
        if first:
            self._first.append(place)
            return place
        self.check_room(key)
        if self.full:
            crowd = self._crowd(key)
            assert crowd is not None
            dropped = self._keys[crowd].pop()
            dropped.error = self._refusal("Others who asked for less came, and the line is full.")
            dropped.done.set()
        self._keys.setdefault(key, deque()).append(place)
        self._looked = -math.inf
        return place

    def leave(self, place: Place) -> None:
        """Give a place up; nothing if it has none any more."""
        if place in self._first:
            self._first.remove(place)
        places = self._keys.get(place.key)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._keys[place.key]

    def position(self, place: Place) -> int:
        """1 for the next; 0 for who is not in line."""
        return next((at for at, each in enumerate(self._order(), 1) if each is place), 0)

    def retry_after(self) -> float:
        """Seconds after which somebody who comes then will likely be served, 1 to LONGEST_RETRY."""
        seconds = max(len(self) * self._vacancies.pace(), self._vacancies.soonest())
        return float(min(LONGEST_RETRY, max(1, math.ceil(seconds))))

    async def wait(self, place: Place, seconds: float) -> bool:
        """Wait until the place is served, or for so many seconds; whether it was served."""
        deadline = trio.current_time() + seconds
        while not place.done.is_set():
            # A look is never given up half-way for want of time: it would begin again for ever.
            await self._look()
            left = deadline - trio.current_time()
            if place.done.is_set() or left <= 0:
                break
            await self._vacancies.changed(self._seen, min(left, LOOK_SECONDS))
        return place.done.is_set()

    async def _look(self) -> None:
        """Ask all in line, in order, unless that was just done and nothing has changed since."""
        async with self._turn:
            at = trio.current_time()
            if self._seen == self._vacancies.changes and at < self._looked + LOOK_SECONDS:
                return
            self._seen, self._looked = self._vacancies.changes, at
            busy: list[Place] = []
            for place in list(self._order()):
                if place.done.is_set():
                    continue
                if len(busy) >= TRIED or any(each.overtaken >= OVERTAKEN for each in busy):
                    place.error = place.error or AllBusy("Others are before this request.")
                    continue
                try:
                    path = await place.find()
                except AllBusy as error:
                    place.error = error
                    busy.append(place)
                except NodeError as error:
                    # Its own trouble: who waits behind it is not concerned.
                    place.error = error
                else:
                    if self.position(place):
                        self._serve(place, path)
                        for each in busy:
                            each.overtaken += 1

    def _serve(self, place: Place, path: Path) -> None:
        self._vacancies.take(path)
        self.leave(place)
        if place.key in self._keys:
            self._keys[place.key] = self._keys.pop(place.key)
        place.path = path
        place.done.set()

    def _order(self) -> Iterator[Place]:
        yield from self._first
        for each in itertools.zip_longest(*self._keys.values()):
            yield from (place for place in each if place is not None)

    def _crowd(self, key: str) -> str | None:
        """Of which key the last one has to go for another one of `key`."""
        crowd = max(self._keys, key=lambda each: len(self._keys[each]), default=None)
        if crowd is None or len(self._keys[crowd]) <= len(self._keys.get(key, ())) + 1:
            return None
        return crowd

    def _refusal(self, sentence: str) -> QueueFull:
        seconds = self.retry_after()
        return QueueFull(f"{sentence} Try again in {seconds:g} s.", seconds)
