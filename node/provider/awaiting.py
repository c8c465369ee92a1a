"""The waits of one session for rows that come from the provider before."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from hypercluster.node.errors import ErrorCode
from hypercluster.node.provider.links import Entrance
from hypercluster.node.serving.refusals import Refused
from hypercluster.node.wire.links import Discard, Rows
from hypercluster.node.wire.messages import Close, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercluster.node.provider.incoming import Incoming
    from hypercluster.node.provider.seats import Seat

LEAST_SECONDS = 3.0
"""for rows, whatever the layers before ours take"""
SLOWER = 20.0
"""times what rows took so far that they may take"""
MOST_MISSED = 3
"""waits in a row without rows, after which the session is over: they hold a place and pay nothing"""
_SHARE = 0.2
"""of a new measurement in a mean"""


class RowsMissing(Exception):
    """The rows of a step did not come, or are none; the code says which."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


class ClientCloses(Exception):
    """The client ended the session in the meantime."""

    def __init__(self, closing: Close) -> None:
        super().__init__()
        self.closing = closing


class Awaiting:
    """Waits for rows, for a time that follows what they took so far.

    Args:
        seconds_before: how long the layers before ours may take for so many rows, s.
    """

    def __init__(
        self,
        entrance: Entrance,
        incoming: Incoming,
        seat: Seat,
        seconds_before: Callable[[int], float],
    ) -> None:
        self._entrance, self._incoming, self._seat = entrance, incoming, seat
        self._before = seconds_before
        self._mean = 0.0
        self._missed = 0

    def holds(self, step: Step) -> bool:
        """Whether the rows of a step are here. Raises Refused: none ever come."""
        if self._entrance.inlet is None:
            raise Refused(ErrorCode.BAD_REQUEST, "No rows come to this session but from its client.")
        return self._entrance.inlet.holds(step.awaited)

    async def rows_of(self, step: Step, use: Callable[[bytes], None]) -> bytes:
        """The packed rows of a step, which are given to `use` a moment before.

        Raises:
            RowsMissing: they do not come, or the client does not want to wait any more.
            ClientCloses, Refused, ConnectionLost, WireError, FrameError: what the client says, or does not.
        """
        inlet = self._entrance.inlet
        assert inlet is not None
        incoming = self._incoming
        said = partial(incoming.interruption, step.epoch) if incoming.interrupts else None

        def used(rows: Rows) -> None:
            if rows.rows == step.rows:
                use(rows.data)

        began = time.monotonic()
        seconds = LEAST_SECONDS + max(self._before(step.rows), SLOWER * self._mean)
        with self._seat.clients_turn():
            rows, word = await inlet.rows_of(step.awaited, said, min(seconds, self._seat.patience), used)
        if rows is not None and word is not None:
            incoming.put_back(word)
        came = rows or word
        match came:
            case Rows(rows=step.rows, data=data):
                self._missed = 0
                self._mean += _SHARE * (time.monotonic() - began - self._mean)
                return data
            case Rows():
                raise self.missing(ErrorCode.BAD_SHAPE)
            case Discard() if step.epoch and incoming.drops(step):
                raise RowsMissing(ErrorCode.OUT_OF_ORDER)
            case None | Discard(seq=step.seq):
                raise self.missing(ErrorCode.TIMEOUT)
            case Close():
                raise ClientCloses(came)
        raise Refused(ErrorCode.BAD_REQUEST, f"{type(came).__name__} is no message while a step waits.")

    def missing(self, code: ErrorCode) -> RowsMissing:
        """What the client is told. Raises Refused after too many of them."""
        self._missed += 1
        if self._missed > MOST_MISSED:
            raise Refused(ErrorCode.TIMEOUT, "No rows came for several steps: the session is over.")
        return RowsMissing(code)
