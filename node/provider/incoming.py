"""What the client of one session says; where it sends steps while others are unanswered, ahead of their turn.

So a word that drops steps is heard while the step before them is computed. At most as many steps are held as may be
unanswered, and nothing else is held beside them for long: the connection waits.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from hypercluster.node.errors import ErrorCode, FrameTimeout
from hypercluster.node.serving.refusals import Refused
from hypercluster.node.wire.links import Discard
from hypercluster.node.wire.messages import MOST_IN_FLIGHT, Close, Step

if TYPE_CHECKING:
    from hypercluster.node.network.connection import Connection
    from hypercluster.node.wire.codec import Message

MOST_DROPPED = 2 * MOST_IN_FLIGHT
"""steps in a row that may be dropped: each is looked at and brings nothing"""
MOST_HELD, MOST_BYTES = 2 * MOST_IN_FLIGHT, 16 * 2**20
"""messages that wait for their turn, and bytes of rows in them before no more are read"""


class Incoming:
    """The messages of one client, in order, but for those that are urgent. An asynchronous context manager."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held: deque[Message] = deque()
        self._ended: Exception | None = None
        self._changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._ahead = False
        self._over = 0
        """the last epoch whose steps are dropped unless they have begun"""
        self._dropped = 0

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message; `timeout` (s) is how long it may take to begin, None for ever.

        Raises what Connection.receive does, and Refused: the client has more steps out than it may.
        """
        if not self._ahead:
            message = self._held.popleft() if self._held else await self._connection.receive(timeout)
            if isinstance(message, Step) and message.epoch:
                self._read_ahead()
            return message
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            while not self._held and self._ended is None:
                await self._changed.wait()
        if self._ended is not None:
            raise self._ended
        if not self._held:
            raise FrameTimeout(f"The peer sent nothing for {timeout:g} s.")
        return self._taken()

    @property
    def interrupts(self) -> bool:
        """Whether `interruption` can be waited for: a libp2p stream does not stand it that a read is given up."""
        return self._connection.direct

    async def interruption(self, epoch: int) -> Message:
        """What the client says while a step of that epoch waits for its rows: any message, or where the step is not
        alone one that ends the wait.

        Raises what `receive` does.
        """
        if not self._ahead:
            return self._held.popleft() if self._held else await self._connection.receive(None)
        while True:
            if self._ended is not None:
                raise self._ended
            if self._is_over(epoch):
                return Discard(0, self._over)
            if self._held and not (epoch and isinstance(self._held[0], Step)):
                return self._taken()
            await self._changed.wait()

    def put_back(self, message: Message) -> None:
        """Let the next message be this one, which was received and not answered."""
        self._held.appendleft(message)

    def drops(self, step: Step) -> bool:
        """Whether a step that would begin now is dropped. Raises Refused where that goes on and on."""
        if not self._is_over(step.epoch):
            return False
        self._dropped += 1
        if self._dropped > MOST_DROPPED:
            raise Refused(ErrorCode.TIMEOUT, "Too many steps in a row were dropped: the session is over.")
        return True

    def computed(self) -> None:
        """Note that a step was computed."""
        self._dropped = 0

    def end(self, epoch: int) -> None:
        """Drop all steps up to that epoch which have not begun; nothing for 0."""
        self._over = max(self._over, epoch)

    def _is_over(self, epoch: int) -> bool:
        return 0 < epoch <= self._over

    def _taken(self) -> Message:
        message = self._held.popleft()
        self._change()
        return message

    def _change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _read_ahead(self) -> None:
        if not self.interrupts:
            raise Refused(
                ErrorCode.BAD_REQUEST, "Steps that are not alone come over direct connections only."
            )
        assert self._nursery is not None
        self._ahead = True
        self._nursery.start_soon(self._read)

    async def _read(self) -> None:
        try:
            while True:
                message = await self._connection.receive(None)
                match message:
                    case Discard(epoch=epoch) if epoch:
                        self.end(epoch)
                    case Close():
                        # What has not begun never does.
                        self._held.clear()
                        self._held.append(message)
                    case _:
                        self._held.append(message)
                self._change()
                self._check()
                while len(self._held) >= MOST_HELD or self._bytes > MOST_BYTES:
                    await self._changed.wait()
                if isinstance(message, Close):
                    return
        except Exception as error:  # noqa: BLE001 - raised again where the session is served
            self._ended = error
            self._change()

    @property
    def _bytes(self) -> int:
        return sum(len(each.input) for each in self._held if isinstance(each, Step))

    def _check(self) -> None:
        """Raise Refused for steps that may not be here yet."""
        steps = [each for each in self._held if isinstance(each, Step)]
        # One may be under way, and the one that goes on behind all that were given up comes besides.
        if len(steps) > MOST_IN_FLIGHT + 1:
            raise Refused(ErrorCode.BAD_REQUEST, f"More than {MOST_IN_FLIGHT} steps are unanswered.")
        if any(not each.epoch for each in steps[1:]):
            raise Refused(
                ErrorCode.BAD_REQUEST, "A step without an epoch is sent when all others are answered."
            )

    async def __aenter__(self) -> Self:
        self._reading = trio.open_nursery()
        self._nursery = await self._reading.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        # What the block raises comes out as it is, not within a group.
        await self._reading.__aexit__(None, None, None)
