"""Links: rows that come from the provider before, and rows that go to the provider after.

A link is a direct connection of its own for one session. The client tells both ends of it, with a ticket that it drew;
a link that cannot be made, or breaks, is passed by: then the client relays the rows.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from hypercluster.node.errors import ErrorCode, HostError, NodeError
from hypercluster.node.network.addresses import parse
from hypercluster.node.network.budgets import BOUNDS, Budget, Source
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.dialback import may_dial
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host
from hypercluster.node.network.names import resolve
from hypercluster.node.network.strangers import charged_now
from hypercluster.node.serving.refusals import SEND_SECONDS, Refused
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.links import Link, LinkOpen, LinkTaken, Rows
from hypercluster.node.wire.messages import LinkState, Open

log = logging.getLogger(__name__)

DIAL_SECONDS = 5.0
"""to make a link"""
FORWARD_SECONDS = 5.0
"""for the provider after to take rows; else they go to the client"""
MOST_AHEAD = 2
"""steps whose rows may be here before the step is"""
MOST_LINKS = 8
"""of one session in each direction, one after the other: as many as providers beside it may be replaced"""


class Inlet:
    """Where the rows of one session come in from the provider before, which is `peer`."""

    def __init__(self, peer: str, frame_bound: int) -> None:
        self.peer = peer
        self._frame_bound = frame_bound
        self._here: deque[Rows] = deque()
        self._came: Callable[[], None] = _nobody
        self._room = trio.Event()
        self._reading = trio.CancelScope()
        self._taken = self._over = False

    async def read(self, connection: Connection) -> None:
        """Take rows from a link until it ends. Raises Refused: there is one already."""
        if self._taken:
            raise Refused(ErrorCode.BAD_REQUEST, "This session has its link already.")
        self._taken = True
        connection.raise_bound(self._frame_bound)
        try:
            with self._reading:
                await connection.send(LinkTaken(), SEND_SECONDS)
                while isinstance(rows := await connection.receive(None), Rows):
                    self._here.append(rows)
                    self._came()
                    while len(self._here) >= MOST_AHEAD:
                        self._room = trio.Event()
                        await self._room.wait()
        finally:
            self._over = True
            self._came()

    async def rows_of(
        self,
        number: int,
        said: Callable[[], Awaitable[Message]] | None,
        seconds: float,
        use: Callable[[Rows], None],
    ) -> tuple[Rows | None, Message | None]:
        """The rows of that number, None where they do not come, and what was `said` meanwhile, if anybody is listened
        to: it ends the wait, and may come at the same time.

        As soon as they are here the rows are given to `use`, some turns of the event loop before this returns.
        """
        rows: Rows | None = None

        def taken() -> None:
            nonlocal rows
            # What came may be of a step that was dropped here.
            if rows is None and (rows := self._held(number)) is not None:
                use(rows)

        def came() -> None:
            taken()
            if rows is not None or self._over:
                scope.cancel()

        taken()
        word: Message | None = None
        if rows is None and not self._over:
            with trio.move_on_after(seconds) as scope:
                self._came = came
                try:
                    if said is None:
                        await trio.sleep_forever()
                    else:
                        word = await said()
                finally:
                    self._came = _nobody
        return rows, word

    def holds(self, number: int) -> bool:
        """Whether the rows of that number are here."""
        return any(rows.number == number for rows in self._here)

    def end(self) -> None:
        """Take no more."""
        self._reading.cancel()

    def _held(self, number: int) -> Rows | None:
        while self._here and self._here[0].number < number:
            self._here.popleft()
        found = self._here.popleft() if self._here and self._here[0].number == number else None
        if len(self._here) < MOST_AHEAD:
            self._room.set()
        return found


def _nobody() -> None:
    """Nobody waits for rows."""


class Entrance:
    """Where the rows of one session come in: from one provider, until the client names another."""

    def __init__(self, inlets: dict[bytes, Inlet], frame_bound: int) -> None:
        self.inlet: Inlet | None = None
        """None: none ever come"""
        self._inlets, self._frame_bound = inlets, frame_bound
        self._ticket, self._left = b"", MOST_LINKS

    def expect(self, ticket: bytes, peer: str) -> None:
        """Take rows from `peer`, which shows the ticket, and from nobody else.

        Raises Refused: another session has the same ticket, or it is one link too many.
        """
        if ticket in self._inlets:
            raise Refused(ErrorCode.BAD_REQUEST, "This ticket is another session's: draw one at random.")
        if not self._left:
            raise Refused(ErrorCode.BAD_REQUEST, f"A session has {MOST_LINKS} links at most.")
        self.close()
        self._left -= 1
        self._ticket = ticket
        self.inlet = self._inlets[ticket] = Inlet(peer, self._frame_bound)

    def close(self) -> None:
        """Take no more."""
        if self.inlet is not None:
            del self._inlets[self._ticket]
            self.inlet.end()


class Outlet:
    """The link of one session to the provider after, if it has one. It is made in the background."""

    def __init__(self, frame_bound: int) -> None:
        self.state = LinkState.NONE
        self.asked = False
        """whether there shall be one"""
        self.last: Rows | None = None
        """what was sent on last, until the client has been shown it"""
        self._frame_bound = frame_bound
        self._connection: Connection | None = None
        self._making = trio.CancelScope()

    async def make(self, host: Host, link: Link, client: Source, ip: str, budget: Budget) -> None:
        """Dial the provider after. Never raises."""
        connection: Connection | None = None
        try:
            with self._making, trio.fail_after(DIAL_SECONDS), budget.holding(client):
                connection = await _dialled(host, link, ip)
                connection.raise_bound(self._frame_bound)
                await connection.send(LinkOpen(link.ticket), DIAL_SECONDS)
                answer = await connection.receive(DIAL_SECONDS)
                if not isinstance(answer, LinkTaken):
                    raise Refused(ErrorCode.BAD_REQUEST, f"It answered {answer}.")
                self._connection, self.state = connection, LinkState.STANDS
        except Exception as error:  # noqa: BLE001 - it runs beside the session, which goes on without a link
            log.info("no link to %s: %s", link.peer, error or "no answer in time")
        finally:
            if self._connection is None:
                self.state = LinkState.BROKEN
                if connection is not None:
                    with trio.CancelScope(shield=True):
                        await connection.close()

    async def send(self, rows: Rows) -> bool:
        """Send rows on; False where there is no link, or no longer."""
        self.last = None
        if self._connection is None or self.state is not LinkState.STANDS:
            return False
        try:
            await self._connection.send(rows, FORWARD_SECONDS)
        except NodeError as error:
            log.info("the link to %s broke: %s", self._connection.peer, error)
            self.state = LinkState.BROKEN
            await self.end()
            return False
        self.last = rows
        return True

    def shown(self) -> Rows | None:
        """What was sent on last, once."""
        shown, self.last = self.last, None
        return shown

    async def end(self) -> None:
        """Make none any more, and end the one that there is."""
        self._making.cancel()
        if self._connection is not None:
            self.state = LinkState.BROKEN
            with trio.CancelScope(shield=True):
                await self._connection.reset()


class Links:
    """The links of all sessions of one provider, whose frames have at most so many bytes; `outlet` makes those that
    go on to others.
    """

    def __init__(self, host: Host, frame_bound: int, outlet: Callable[[int], Outlet] = Outlet) -> None:
        self._host, self._frame_bound, self._outlet = host, frame_bound, outlet
        self._inlets: dict[bytes, Inlet] = {}
        self._offered, self._wanted = Budget(BOUNDS["link"]), Budget(BOUNDS["link dial"])

    @contextmanager
    def entrance(self, opening: Open) -> Iterator[Entrance]:
        """Where the rows of a session come in for as long as the block lasts, if its opening names who brings them.

        Raises Refused, see Entrance.
        """
        entrance = Entrance(self._inlets, self._frame_bound)
        if opening.ticket:
            entrance.expect(opening.ticket, opening.previous)
        try:
            yield entrance
        finally:
            entrance.close()

    def outlet(self) -> Outlet:
        """The way out of a new session."""
        return self._outlet(self._frame_bound)

    async def take(self, connection: Connection, opened: LinkOpen) -> None:
        """Serve a link that another provider opens, to its end.

        Raises Refused, OverBudget: nobody awaits it; NodeError: it broke.
        """
        with self._offered.holding(connection.source):
            inlet = self._inlets.get(opened.ticket)
            if inlet is None or inlet.peer != connection.peer:
                # The same answer for both: a stranger learns nothing.
                raise Refused(ErrorCode.UNKNOWN_SESSION, "No session here awaits this link.")
        if connection.direct and (charge := charged_now()) is not None:
            # What comes here is paid for by the session that awaits it.
            charge.known()
        await inlet.read(connection)

    def make(self, outlet: Outlet, link: Link, client: Connection) -> None:
        """Have a link made in the background, as the client at the other end of `client` asks."""
        outlet.asked = True
        self._host.nursery.start_soon(outlet.make, self._host, link, client.source, client.ip, self._wanted)


async def _dialled(host: Host, link: Link, ip: str) -> Connection:
    """A direct connection to where a client says that the provider after is, if it may send us there."""
    try:
        targets = await resolve(parse(link.direct))
        seen = ipaddress.ip_address(ip)
    except ValueError:
        raise HostError("The client has no address.") from None
    seen = getattr(seen, "ipv4_mapped", None) or seen
    allowed = [target for target in targets if may_dial(target, seen, offered=True)]
    if not allowed:
        raise HostError(f"{link.direct} is nowhere that a client may send us to.")
    return Connection(await dial_direct(host, link.peer, str(allowed[0]), DIAL_SECONDS), direct=True)
