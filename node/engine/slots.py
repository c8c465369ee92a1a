"""The sessions of an engine: which sequence of llama.cpp's cache each of them has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hypercluster.node.engine.batching import Computing
from hypercluster.node.engine.steps import (
    CannotRewind,
    EngineFailed,
    EngineFull,
    EngineStopped,
    OutOfOrder,
    TooLong,
    UnknownSlot,
    Work,
)


class Slot:
    """A session's place in the engine. `stray` says that the cache may hold cells beyond `length`, `tainted` that
    cells may hold numbers that are not finite; `lost` is why what it held is gone.
    """

    def __init__(self, sequence: int, capacity: int) -> None:
        self.sequence = sequence
        self.capacity = capacity
        self.length = 0
        self.stray = True
        self.tainted = False
        self.work: Work | None = None
        self.closed = False
        self.lost: str | None = None

    @property
    def running(self) -> Work:
        """The step under way; there must be one."""
        assert self.work is not None
        return self.work

    def stands(self, computing: Computing) -> bool:
        """Let the cache hold what lies before the step under way, and no more; False where that cannot be."""
        work = self.running
        if self.stray or (not work.at and work.start != self.length):
            if not computing.cut_back(work.sequence, work.start):
                return False
            self.length, self.stray = work.start, False
        return True


class Slots:
    """Numbers of sessions and what is behind them; whoever holds the engine's lock asks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_number: dict[int, Slot] = {}
        self._free = list(range(most))
        self._quarantine: list[int] = []
        self._next = 1
        self.to_wipe = False
        """before the next step: some sequence has cells that are not finite"""
        self._copies: deque[tuple[Slot, Slot]] = deque()
        """to be made before the next step"""
        self.stopped = False
        self.trouble: EngineFailed | None = None
        """why nothing can be computed now"""

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def free(self) -> int:
        """Sessions that could be opened."""
        return 0 if self.trouble is not None else len(self._free)

    def take(self, capacity: int, most: int) -> int:
        """The number, never used again, of a new session of `most` tokens at most.

        Raises EngineFull, EngineFailed, TooLong, EngineStopped.
        """
        _check_capacity(capacity, most)
        self._refuse_if_stopped()
        if self.trouble is not None:
            raise EngineFailed(str(self.trouble), self.trouble.wait)
        if self._quarantine and not self._by_number:
            # cells that are not finite would reach whoever has them next (0 x nan): zero them first
            self._free += self._quarantine
            self._quarantine.clear()
            self.to_wipe = True
        if not self._free:
            raise EngineFull(f"All {self._most} sessions are taken; try again later.")
        sequence = min(self._free)  # llama.cpp batches neighbouring sequences only: keep them dense
        self._free.remove(sequence)
        number, self._next = self._next, self._next + 1
        self._by_number[number] = Slot(sequence, capacity)
        return number

    def branch(self, number: int, position: int, capacity: int, most: int) -> int:
        """The number of a new session that holds the first `position` tokens of another, which goes on as it was.

        Raises OutOfOrder: the other does not hold so many, or they are about to change; and what `of` and `take` do.
        """
        source = self.of(number)
        work = source.work
        lasting = source.length if work is None else min(source.length, work.start)
        if source.tainted or not 0 < position <= lasting:
            raise OutOfOrder(
                f"Of what the session holds, {lasting} tokens stay, and {position} were asked for."
            )
        if position > capacity:
            raise TooLong(f"A session of {capacity} tokens cannot begin with {position}.")
        new = self.take(capacity, most)
        target = self._by_number[new]
        target.length = position
        self._copies.append((source, target))
        return new

    @property
    def is_due(self) -> bool:
        """Whether something is to be done to the cache before the next step."""
        return self.to_wipe or bool(self._copies)

    def prepare(self, computing: Computing) -> None:
        """Do what the cache needs before the next step. Steps that were asked for later than a copy come after it."""
        if self.to_wipe:
            computing.wipe()
            self.to_wipe = False
        while self._copies:
            source, target = self._copies.popleft()
            computing.copy(source.sequence, target.sequence)
            target.tainted |= source.tainted

    def of(self, number: int) -> Slot:
        """The session of a number. Raises UnknownSlot, EngineStopped, or EngineFailed if it is lost."""
        self._refuse_if_stopped()
        place = self._by_number.get(number)
        if place is None:
            raise UnknownSlot(f"There is no session in slot {number}.")
        if place.lost is not None:
            raise EngineFailed(place.lost)
        return place

    def begin(self, number: int, position: int, rows: int, *, rewinds: bool) -> Slot:
        """The session that takes a step of so many rows at `position`.

        Raises OutOfOrder (also while a step of it runs), CannotRewind, TooLong, and what `of` does.
        """
        place = self.of(number)
        if place.work is not None:
            raise OutOfOrder("The session's step before this one is still running.")
        if not 0 <= position <= place.length:
            raise OutOfOrder(f"The step starts at {position}, the session stands at {place.length}.")
        if position < place.length and position > 0 and not rewinds:
            raise CannotRewind(f"The session stands at {place.length} and this model cannot go back.")
        if position + rows > place.capacity:
            raise TooLong(f"The step ends at {position + rows}, the session holds {place.capacity}.")
        return place

    def resize(self, number: int, capacity: int, most: int) -> int:
        """Give a session another capacity, but for what it holds; returns how much that is. Raises TooLong, and what
        `of` does.
        """
        place = self.of(number)
        _check_capacity(capacity, most)
        place.capacity = max(capacity, place.length)
        return place.length

    def drop(self, number: int) -> None:
        """Forget a session; its sequence is free once no step of it runs. Raises UnknownSlot."""
        place = self._by_number.pop(number, None)
        if place is None:
            raise UnknownSlot(f"There is no session in slot {number}.")
        place.closed = True
        if place.work is None:
            self.release(place)

    def release(self, place: Slot) -> None:
        """The sequence of a session that was dropped is free."""
        (self._quarantine if place.tainted else self._free).append(place.sequence)

    def lose(self, others: Iterable[Slot], why: str) -> None:
        """The cache is gone: all sessions, and `others` that were dropped while a step of theirs ran."""
        for place in [*self._by_number.values(), *others]:
            place.lost, place.tainted = why, False
        self._copies.clear()
        self._free += self._quarantine
        self._quarantine.clear()
        self.to_wipe = False

    def _refuse_if_stopped(self) -> None:
        if self.stopped:
            raise EngineStopped("The engine has been stopped.")


def _check_capacity(capacity: int, most: int) -> None:
    if not 1 <= capacity <= most:
        raise TooLong(f"A session of {capacity} tokens was asked for, this engine has 1 to {most}.")
