"""How a provider runs: all that is its operator's to choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.placement import Machine, ModelSize
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.provider.readying import STEP_TOKENS, Loader
from hypercluster.node.rows import WireDtype
from hypercluster.node.serving.terms import NodeTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """How a provider looks for better layers: what it could serve, and how seldom it moves (seconds)."""

    machine: Machine
    model: ModelSize
    every_seconds: float = 300.0
    dwell_seconds: float = 1800.0
    beside: tuple[tuple[int, int], ...] = ()
    """layers of the model that the same provider serves as well, and would only take clients from"""
    prompt_tokens: float | None = None
    """that clients have computed for each token of an answer; None: as was seen"""
    drain_seconds: float = 300.0
    """how long sessions under way may take to end before it moves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTerms(NodeTerms):
    """How a provider serves layers [start, stop). Times in seconds, sizes in tokens."""

    start: int
    stop: int
    price: PriceRule
    direct: str = "/ip4/0.0.0.0/tcp/0"
    """where steps arrive without a muxer; empty for libp2p streams alone"""
    direct_announce: str = ""
    sessions: int = 4
    session_tokens: int = 2048
    step_tokens: int = STEP_TOKENS
    threads: int = 1
    slowest_ms: float | None = None
    """that a token may take by present load for another session to be taken; None: as many as there are places for"""
    throttle_ms: float = 0.0
    """rest before each step, which clients see as cost"""
    wire_dtypes: tuple[WireDtype, ...] = (WireDtype.F32, WireDtype.F16, WireDtype.Q8)
    """in its order of preference; q8 is offered only for models that it was found harmless for"""
    idle_seconds: float = 120.0
    """at most, before a step; see node.provider.seats"""
    first_step_seconds: float = 15.0
    """for the first paid step of a session, where nothing comes before these layers"""
    park_seconds: float = 600.0
    """for which a session that was paid for may stay between two requests of its client; 0 for none"""
    cached_percent: int = 5
    """of the price of a prompt token, for each token that such a session holds when it goes on; 0 to 100"""
    reserve_tokens: int = 256
    """whose price a channel must still hold for each session open on it"""
    frame_seconds: float = 30.0
    """from the first byte of a message to its last"""
    give_bytes: float = 16 * 2**20
    """a second, for all who fetch blocks of the model together; 0 to give none"""
    price_seconds: float = 30.0
    market: MarketParameters = field(default_factory=MarketParameters)
    move: Moving | None = None
    """set where the provider may move to other layers by itself"""
    backend: Backend = field(default_factory=Backend)

    def loader(self, engine: Callable[..., Engine] = Engine) -> Loader:
        """How the shard is loaded."""
        return Loader(
            start=self.start,
            stop=self.stop,
            sessions=self.sessions,
            session_tokens=self.session_tokens,
            threads=self.threads,
            backend=self.backend,
            step_tokens=self.step_tokens,
            throttle_ms=self.throttle_ms,
            engine=engine,
        )
