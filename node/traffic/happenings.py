"""What happens in a market, for pages that look on: `Market.watch` tells it as it comes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestBegun:
    """A request was taken in."""

    request_id: str
    model_id: str


@dataclass(frozen=True, slots=True)
class HopLost:
    """A session of a request ended early and another takes over."""

    request_id: str
    model_id: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request is over; `outcome` is its finish reason."""

    request_id: str
    model_id: str
    outcome: str
    cost_wei: int


@dataclass(frozen=True, slots=True)
class RequestAudited:
    """A stage of a request that ended was looked over; `finding` is pass, grey, fail or error."""

    request_id: str
    model_id: str
    peer: str
    finding: str
    doubtful: bool
    """whether anything of the request is to be doubted by now"""


@dataclass(frozen=True, slots=True)
class AdvertChanged:
    """A provider's offer is new, other than before, or gone."""

    model_id: str
    peer: str
    gone: bool


Happening = RequestBegun | HopLost | RequestEnded | RequestAudited | AdvertChanged
