"""What a provider offers, as the market sees it: no sockets, no signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["provider", "verifier"]

MAX_LAYERS = 1024
"""Layers of a model at most, wherever models are offered, sent or routed; llama.cpp has 512."""


@dataclass(frozen=True, slots=True)
class Advert:
    """One provider's offer to run layers [layer_start, layer_stop) of one model.

    This is the node N(l, l_ij, c, p) of the paper: its range, its compute cost and its price; link latency is
    measured by whoever reads the advert. Prices are wei per token, `issued` and `expires` are unix seconds (UTC).
    `sequence` rises with every advert of the same peer.
    """

    peer: str
    """libp2p peer id of the node key, base58."""
    model_id: str
    """64 hex digits, no 0x."""
    layer_start: int
    layer_stop: int
    price_wei: int
    """per generated token"""
    prompt_price_wei: int
    """per prompt token"""
    cost_ms: float
    """compute per generated token, ms"""
    prompt_ms: float
    """compute per prompt token, ms, where they come in steps of many"""
    operator: str
    """account that stakes and is paid, EIP-55"""
    capacity: int
    """sessions it holds at most"""
    free: int
    """sessions it would take now"""
    session_tokens: int
    """tokens that a session may hold at most, prompt and answer together"""
    max_top_k: int
    """candidates per row that a session may ask for at most; 0 where the range does not end in any"""
    sequence: int
    issued: int
    expires: int
    width: int
    addrs: tuple[str, ...] = ()
    """libp2p multiaddrs, without the /p2p part"""
    direct: str = ""
    """multiaddr of the dedicated TCP listener for steps, empty if there is none"""
    wire_dtypes: tuple[str, ...] = ("f32",)
    """names of node.rows.WireDtype the provider accepts, in its order of preference"""
    features: tuple[str, ...] = ()
    """names of what it can do besides; readers ignore those that they do not know"""
    reserve_wei: int = 0
    """unspent deposit that a channel must hold for each session that is open on it"""
    cached_price_wei: int = 0
    """per token that a parked session holds already, when it goes on"""
    parked_seconds: int = 0
    """for which a session may be parked between two requests, unless others need the room; 0: none is"""
    neighbours: bytes = b""
    """delays to some of those whose layers begin or end where these end or begin, packed; see node.network.nearness"""
    role: Role = "provider"
    """a verifier audits any range within its layers, at its price per audited token"""
