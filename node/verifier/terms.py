"""How a verifier runs: all that is its operator's to choose."""

from __future__ import annotations

from dataclasses import dataclass

from hypercluster.node.serving.terms import NodeTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierTerms(NodeTerms):
    """How a verifier audits and judges."""

    price_wei: int
    """per audited token"""
    jobs: int = 4
    """audits under way at once; they are run one after the other"""
    committees: bool = True
    """whether to enlist for committees"""
