"""What two nodes tell each other first: their clocks, and which models are served.

Neither needs a signature. A node believes no single clock and only compares; and a model that somebody says is
served is a hint for a message, never an advert.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import trio

from hypercluster.node.errors import NodeError, WireError
from hypercluster.node.network.host import Host
from hypercluster.node.network.stream import Stream
from hypercluster.node.wire.framing import Frames

log = logging.getLogger(__name__)

PROTOCOL = "/hypercluster/hello/1.0.0"
SECONDS = 3.0
KEEP_SECONDS = 900.0
"""how long a model counts as served after somebody named it"""
_MOST_BYTES = 8192
_MOST_MODELS = 16
_MOST_PEERS = 256
_NAME = 64


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that somebody serves: its id, what it is called, and how many layers it has."""

    model_id: str
    name: str
    layers: int


class Hello:
    """Greets peers and answers their greetings; `served` is what this node would name, None for nothing.

    What others serve is passed on for `KEEP_SECONDS`, and only what they said of themselves: so whoever joins
    through a node hears what those serve that joined through it before.
    """

    def __init__(
        self,
        host: Host,
        served: Callable[[], ServedModel | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._served = served
        self._clock = clock
        self._offsets: dict[str, float] = {}
        self._first_hand: dict[str, tuple[float, ServedModel]] = {}
        self._heard: dict[str, tuple[float, ServedModel]] = {}
        host.serve(PROTOCOL, self._answer, bound="hello")

    @property
    def offset(self) -> float | None:
        """By how many seconds the clocks of the peers asked are ahead of this one (median), None without any."""
        return statistics.median(self._offsets.values()) if self._offsets else None

    @property
    def clocks(self) -> int:
        """How many peers said what time it is."""
        return len(self._offsets)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The models that peers named lately, by name."""
        found = {**_current(self._heard), **_current(self._first_hand)}
        return tuple(sorted(found.values(), key=lambda model: (model.name, model.model_id)))

    async def greet(self, peer: str, addrs: Sequence[str] = ()) -> None:
        """Ask a peer for its time and its models. Raises NodeError."""
        stream = await self._host.open_stream(peer, PROTOCOL, addrs, SECONDS)
        try:
            frames = Frames(stream, max_frame=_MOST_BYTES, frame_seconds=SECONDS)
            sent = self._clock()
            await frames.send(self._greeting(), SECONDS)
            at, own, known = _decode(await frames.receive(SECONDS))
            came = self._clock()
        finally:
            await stream.close()
        # Only clocks that this node chose to ask count: nobody can vote with a flood of greetings.
        if len(self._offsets) < _MOST_PEERS or peer in self._offsets:
            self._offsets[peer] = at - (sent + came) / 2
        self._note(own, known)

    async def _answer(self, stream: Stream) -> None:
        frames = Frames(stream, max_frame=_MOST_BYTES, frame_seconds=SECONDS)
        _, own, known = _decode(await frames.receive(SECONDS))
        self._note(own, known)
        await frames.send(self._greeting(), SECONDS)

    def _greeting(self) -> bytes:
        own = self._served()
        known = list(_current(self._first_hand).values())[:_MOST_MODELS]
        document = {
            "time": self._clock(),
            "serves": asdict(own) if own else None,
            "knows": [asdict(model) for model in known],
        }
        return json.dumps(document).encode()

    def _note(self, own: ServedModel | None, known: list[ServedModel]) -> None:
        for store, models in ((self._first_hand, [own] if own else []), (self._heard, known)):
            for model in models:
                if len(store) >= _MOST_MODELS and model.model_id not in store:
                    stale = min(store, key=lambda each: store[each][0])
                    del store[stale]
                store[model.model_id] = (trio.current_time(), model)


def _current(store: dict[str, tuple[float, ServedModel]]) -> dict[str, ServedModel]:
    since = trio.current_time() - KEEP_SECONDS
    return {model_id: model for model_id, (at, model) in store.items() if at > since}


def _decode(data: bytes) -> tuple[float, ServedModel | None, list[ServedModel]]:
    """Time, own model and those known of a greeting. Raises WireError for anything else."""
    try:
        document = json.loads(data)
        at, own = float(document["time"]), document["serves"]
        if not math.isfinite(at):
            raise ValueError
        known = [_model(each) for each in document["knows"][:_MOST_MODELS]]
        return at, _model(own) if own is not None else None, known
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise WireError("hello", "is no greeting") from None


def _model(each: Any) -> ServedModel:
    model_id, name, layers = each["model_id"], each["name"], each["layers"]
    if not isinstance(model_id, str) or len(bytes.fromhex(model_id)) != 32:
        raise ValueError
    if not isinstance(layers, int) or not 0 < layers <= 4096 or not isinstance(name, str):
        raise ValueError
    plain = "".join(letter for letter in name if letter.isprintable())[:_NAME]
    return ServedModel(model_id.lower(), plain, layers)


async def try_to_greet(hello: Hello, peer: str, addrs: Sequence[str] = ()) -> None:
    """Greet a peer; one that does not answer is logged and left."""
    try:
        await hello.greet(peer, addrs)
    except NodeError as error:
        log.debug("no greeting from %s: %s", peer, error)
