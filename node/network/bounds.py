"""What a peer can make this node do before it has paid for anything, and how much of it: a row for each act.

docs/security.md shows these rows as a table; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

Pace = tuple[float, float]
"""how often: per second on average, and at once"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much of one act strangers get. None where nothing is counted."""

    name: str
    what: str
    """the act, as a refusal calls it: a plural"""
    per_peer: Pace | None
    per_block: Pace | None
    total: Pace
    at_once_per_peer: int | None
    at_once: int | None
    seconds: float
    """time limit of one"""
    pays: str = ""
    """what one costs who does it"""
    costs: str = ""
    """what one costs this node"""
    where: str = ""
    """the module that applies it"""


_ROWS = (
    Bound(
        name="connection",
        what="connections",
        per_peer=None,
        per_block=(100, 400),
        total=(1000, 2000),
        at_once_per_peer=1,
        at_once=256,
        seconds=10,
        pays="a TCP connection",
        costs="a descriptor, 0.1 ms",
        where="node/network/gate.py",
    ),
    Bound(
        name="handshake",
        what="handshakes",
        per_peer=None,
        per_block=None,
        total=(30, 120),
        at_once_per_peer=None,
        at_once=256,
        seconds=10,
        pays="a TCP connection and a Noise handshake",
        costs="a descriptor, 2 to 6 ms",
        where="node/network/gate.py",
    ),
    Bound(
        name="stream",
        what="streams",
        per_peer=(20, 100),
        per_block=(100, 400),
        total=(400, 1600),
        at_once_per_peer=64,
        at_once=1024,
        seconds=10,
        pays="a handshake for each name, some bytes for each stream",
        costs="1 ms",
        where="node/network/host.py",
    ),
    Bound(
        name="work",
        what="seconds of work for strangers",
        per_peer=None,
        per_block=None,
        total=(0.15, 0.3),
        at_once_per_peer=None,
        at_once=None,
        seconds=30,
        pays="whatever it sends",
        costs="as many seconds of one core while somebody known is served, four times as many else; who sends waits",
        where="node/network/strangers.py",
    ),
    Bound(
        name="open",
        what="sessions asked for",
        per_peer=(10, 40),
        per_block=(50, 200),
        total=(200, 400),
        at_once_per_peer=64,
        at_once=256,
        seconds=10,
        pays="a handshake for each name",
        costs="a signature check, 0.3 ms",
        where="node/provider/service.py",
    ),
    Bound(
        name="channel look-up",
        what="look-ups of channels on chain",
        per_peer=(1 / 10, 3),
        per_block=(1, 10),
        total=(4, 16),
        at_once_per_peer=1,
        at_once=4,
        seconds=5,
        pays="a handshake for each name; a channel on chain if it shall be found",
        costs="one call to the chain node, under no lock",
        where="node/serving/admission.py",
    ),
    Bound(
        name="advert",
        what="adverts to be checked",
        per_peer=(0.5, 10),
        per_block=None,
        total=(100, 500),
        at_once_per_peer=2,
        at_once=32,
        seconds=10,
        pays="a key, and a stake for each place in the book",
        costs="a signature check, 0.3 ms, and a fiftieth of one call to the chain node",
        where="node/network/intake.py",
    ),
    Bound(
        name="advert request",
        what="requests for the advert",
        per_peer=(1, 5),
        per_block=(30, 100),
        total=(150, 400),
        at_once_per_peer=4,
        at_once=128,
        seconds=5,
        pays="a stream",
        costs="1 KB sent",
        where="node/network/membership.py",
    ),
    Bound(
        name="hello",
        what="greetings",
        per_peer=(1 / 2, 5),
        per_block=(20, 50),
        total=(100, 300),
        at_once_per_peer=2,
        at_once=128,
        seconds=3,
        pays="a stream",
        costs="up to 8 KiB read and 8 KiB sent",
        where="node/network/hello.py",
    ),
    Bound(
        name="dial-back",
        what="requests to be dialled",
        per_peer=(1 / 60, 4),
        per_block=(1 / 10, 8),
        total=(1, 16),
        at_once_per_peer=1,
        at_once=8,
        seconds=20,
        pays="a stream, and an address that is its own",
        costs="up to 18 dials of 3 s, one request at a time",
        where="node/network/dialback.py",
    ),
    Bound(
        name="recall",
        what="recalls of steps",
        per_peer=(1, 30),
        per_block=(5, 60),
        total=(10, 60),
        at_once_per_peer=2,
        at_once=4,
        seconds=20,
        pays="a stream; a paid session if it shall be answered",
        costs="a look for the stage; it is read for its own client alone",
        where="node/provider/recall.py",
    ),
    Bound(
        name="block",
        what="conversations about blocks of a model",
        per_peer=(1, 20),
        per_block=(5, 60),
        total=(10, 60),
        at_once_per_peer=2,
        at_once=16,
        seconds=600,
        pays="a stream, and its own bandwidth",
        costs="blocks read and sent, all together within --give; a tensor's hashes once",
        where="node/pulling/giving.py",
    ),
    Bound(
        name="audit",
        what="audits asked for",
        per_peer=(1, 20),
        per_block=(10, 60),
        total=(20, 100),
        at_once_per_peer=4,
        at_once=32,
        seconds=10,
        pays="a stream; a channel with a deposit if it shall open",
        costs="a signature check, 0.3 ms; a channel look-up where the channel is new",
        where="node/verifier/audits.py",
    ),
    Bound(
        name="evidence",
        what="deliveries of evidence",
        per_peer=(1, 10),
        per_block=(5, 30),
        total=(10, 40),
        at_once_per_peer=2,
        at_once=16,
        seconds=10,
        pays="a stream; a bond on chain if there shall be a case",
        costs="a look at the open cases",
        where="node/verifier/evidence.py",
    ),
    Bound(
        name="gossip",
        what="gossiped messages",
        per_peer=(50, 500),
        per_block=None,
        total=(400, 2000),
        at_once_per_peer=32,
        at_once=256,
        seconds=10,
        pays="a message; ten forgeries and the connection is cut",
        costs="up to 8 KiB, a signature check",
        where="node/network/gossip.py",
    ),
    Bound(
        name="dht",
        what="DHT requests",
        per_peer=(5, 60),
        per_block=(50, 300),
        total=(100, 600),
        at_once_per_peer=8,
        at_once=64,
        seconds=10,
        pays="a stream",
        costs="1 ms, and a record of 1 KB where it puts one",
        where="node/network/dht.py",
    ),
    Bound(
        name="rumour",
        what="rumours to be checked",
        per_peer=(1, 20),
        per_block=None,
        total=(5, 50),
        at_once_per_peer=2,
        at_once=8,
        seconds=10,
        pays="evidence that somebody signed",
        costs="two signature checks, and a share of one call to the chain node",
        where="node/network/gossip.py",
    ),
    Bound(
        name="neighbour",
        what="hosts found by multicast",
        per_peer=(1 / 10, 3),
        per_block=None,
        total=(2, 64),
        at_once_per_peer=1,
        at_once=16,
        seconds=10,
        pays="a packet on the local network",
        costs="a dial and a request for its advert",
        where="node/network/mdns.py",
    ),
)
BOUNDS: dict[str, Bound] = {bound.name: bound for bound in _ROWS}
