"""Whether others reach this node: peers are asked to dial it, and say what came of it (as libp2p's AutoNAT does).

Whoever answers dials only where the asker can be expected to be: at the IP address it is seen at, or at one of
the addresses in its current advert. Never a private address for a peer that comes from a public one, one dial
at a time, and each peer seldom, so that nobody scans or floods others through it.
"""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID

from hypercluster.node.errors import HostError, NodeError, PeerUnreachable, Trouble, UnknownHost, WireError
from hypercluster.node.network.addresses import Address, parse
from hypercluster.node.network.budgets import BOUNDS, Budget, OverBudget, Source, block_of
from hypercluster.node.network.direct import dial_direct
from hypercluster.node.network.host import Host
from hypercluster.node.network.names import resolve
from hypercluster.node.network.stream import Stream
from hypercluster.node.network.trouble import reason_of, trouble_of
from hypercluster.node.wire.framing import Frames

log = logging.getLogger(__name__)

PROTOCOL = "/hypercluster/dialback/1.0.0"
MOST = 9
"""addresses in one request"""
_DIAL_SECONDS = 3.0
_ANSWER_SECONDS = 20.0
_MOST_BYTES = 8192
_NOT_TRIED = "not tried"
_REACHED = "reached"
_TROUBLES = {trouble.name.lower(): trouble for trouble in Trouble}


@dataclass(frozen=True, slots=True)
class Reached:
    """What peers found when they dialled one address of this node: how many got through, how many did not."""

    address: str
    yes: int = 0
    no: int = 0
    trouble: Trouble | None = None
    """why the last one did not"""

    @property
    def nobody(self) -> bool:
        """Whether somebody tried and nobody got through."""
        return self.no > 0 and self.yes == 0


class DialBack:
    """Dials peers that ask for it, and asks peers to dial this host.

    Args:
        offered: the addresses in the current advert of a peer, direct ones included; none without an advert.
    """

    def __init__(self, host: Host, offered: Callable[[str], Collection[str]]) -> None:
        self._host = host
        self._offered = offered
        # Also for those who are known: others pay for a dial that hits them.
        self._budget = Budget(BOUNDS["dial-back"])
        self._one = trio.CapacityLimiter(1)
        self._found: dict[str, dict[str, Trouble | None]] = {}
        host.serve(PROTOCOL, self._answer)

    def reached(self) -> tuple[Reached, ...]:
        """What peers found, by address."""
        return tuple(
            Reached(
                address,
                sum(trouble is None for trouble in answers.values()),
                sum(trouble is not None for trouble in answers.values()),
                next((trouble for trouble in reversed(answers.values()) if trouble), None),
            )
            for address, answers in self._found.items()
        )

    async def ask(self, peer: str, addrs: Collection[str], direct: str = "") -> None:
        """Have `peer` dial the addresses `addrs` and `direct` of this host. Raises NodeError."""
        stream = await self._host.open_stream(peer, PROTOCOL, timeout=5.0)
        try:
            frames = Frames(stream, max_frame=_MOST_BYTES)
            await frames.send(json.dumps({"addrs": list(addrs)[: MOST - 1], "direct": direct}).encode())
            answers = _answers(await frames.receive(_ANSWER_SECONDS))
        finally:
            await stream.close()
        for address in (*addrs, direct):
            said = answers.get(address, _NOT_TRIED)
            if said == _REACHED or said in _TROUBLES:
                found = self._found.setdefault(address, {})
                found.pop(peer, None)
                found[peer] = _TROUBLES.get(said)

    async def _answer(self, stream: Stream) -> None:
        frames = Frames(stream, max_frame=_MOST_BYTES, frame_seconds=5)
        addrs, direct = _request(await frames.receive(5))
        answers: dict[str, str] = {}
        seen = _seen_at(stream)
        if seen is not None:
            try:
                with self._budget.holding(Source(stream.peer, block_of(stream.ip))):
                    async with self._one:
                        with trio.move_on_after(_ANSWER_SECONDS / 2):
                            for address in addrs:
                                answers[address] = await self._try(stream.peer, address, seen, direct=False)
                            if direct:
                                answers[direct] = await self._try(stream.peer, direct, seen, direct=True)
            except OverBudget as error:
                log.debug("%s is not dialled: %s", stream.peer, error)
        await frames.send(json.dumps({"answers": answers}).encode())

    async def _try(self, peer: str, text: str, seen: Ip, *, direct: bool) -> str:
        try:
            address = parse(text)
            targets = await resolve(address)
        except UnknownHost:
            return Trouble.UNKNOWN_HOST.name.lower()
        except HostError:
            return _NOT_TRIED
        offered = text in self._offered(peer)
        allowed = [target for target in targets if may_dial(target, seen, offered=offered)]
        if not allowed:
            return _NOT_TRIED
        trouble: Trouble | None = None
        for target in allowed[:2]:
            trouble = await _dial(self._host, peer, target, direct=direct)
            if trouble is None:
                return _REACHED
        assert trouble is not None
        return trouble.name.lower()


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def may_dial(target: Address, seen: Ip, *, offered: bool) -> bool:
    """Whether somebody who is seen at `seen` may send this node to `target`, a numeric address. `offered` says that
    the peer to be dialled is known to be there.
    """
    host = ipaddress.ip_address(target.host)
    if target.kind not in ("ip4", "ip6") or target.port == 0 or host.is_multicast or host.is_unspecified:
        return False
    if host == seen:
        return True
    # Loopback of another machine would be this one's own.
    return offered and not host.is_loopback and (host.is_global or not seen.is_global)


async def _dial(host: Host, peer: str, target: Address, *, direct: bool) -> Trouble | None:
    """Whether `peer` answers at `target`, over a connection of its own that is closed at once."""
    try:
        if direct:
            await (await dial_direct(host, peer, str(target), _DIAL_SECONDS)).close()
            return None
        with trio.fail_after(_DIAL_SECONDS):
            stream = await trio.open_tcp_stream(target.host, target.port)
            try:
                swarm = host.basic.get_network()
                assert isinstance(swarm, Swarm)
                connection = RawConnection(TrioTCPStream(stream), True)
                await swarm.upgrader.upgrade_security(connection, True, ID.from_base58(peer))
            finally:
                await trio.aclose_forcefully(stream)
        return None
    except PeerUnreachable as error:
        return error.trouble
    except Exception as error:  # noqa: BLE001 - a handshake raises whatever its libraries raise
        log.debug("dialling %s back: %s", target, reason_of(error))
        return trouble_of(error)


def _seen_at(stream: Stream) -> Ip | None:
    if not stream.ip:
        return None
    address = ipaddress.ip_address(stream.ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _request(data: bytes) -> tuple[list[str], str]:
    """Raises WireError for anything but a request."""
    try:
        document = json.loads(data)
        addrs, direct = document["addrs"], document["direct"]
        if not isinstance(addrs, list) or len(addrs) >= MOST:
            raise ValueError
        if not all(isinstance(each, str) and len(each) <= 256 for each in [*addrs, direct]):
            raise ValueError
        return addrs, direct
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WireError("dialback", "is no request") from None


def _answers(data: bytes) -> dict[str, str]:
    """Raises WireError for anything but an answer."""
    try:
        answers = json.loads(data)["answers"]
        return {str(address): str(said) for address, said in answers.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WireError("dialback", "is no answer") from None


async def try_to_ask(dialback: DialBack, peer: str, addrs: Collection[str], direct: str = "") -> None:
    """Ask a peer; one that does not answer is logged and left."""
    try:
        await dialback.ask(peer, addrs, direct)
    except NodeError as error:
        log.debug("%s does not dial back: %s", peer, error)
