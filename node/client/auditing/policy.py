"""How much a client looks into, and what an audit reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.trust.audit import Difference
    from hypercluster.node.client.auditing.reporter import Ruling


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much a client looks into.

    Attributes:
        rate: probability that a stage is audited, 0 to 1.
        traps: probability that an audit is done by a verifier that gets the same with a planted fault as well.
        disputes: whether faults are taken to the chain, which takes a bond from the wallet until it is decided.
        trusted: operators, as lower-case addresses, whose stages are not audited.
    """

    rate: float = 0.0
    traps: float = 0.0
    disputes: bool = False
    trusted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Served:
    """A stage that is to be looked over: the hash of it (32 bytes), who operates its provider, and what that offers;
    of whom nobody knows where it is now is asked nothing.
    """

    stage_hash: bytes
    operator: str
    advert: Advert | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One audit and what came of it.

    Attributes:
        finding: pass, grey or fail; "error" where nobody could tell.
        tokens, generated: rows that were looked at, and steps of a single token among them.
        auditor: peer id or "own"; empty where none was found. `cost_wei` is what it was paid.
        fault: who is at fault and is avoided from now on: the provider, the auditor, or nobody.
    """

    peer: str
    operator: str
    layer_start: int
    layer_stop: int
    tokens: int
    generated: int
    finding: str
    auditor: str
    cost_wei: int
    note: str
    fault: str = ""
    difference: Difference | None = None
    ruling: Ruling | None = None
