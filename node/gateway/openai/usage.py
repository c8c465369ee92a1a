"""What a call took, as OpenAI counts it and OpenRouter prices it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypercluster.market.money.units import one

if TYPE_CHECKING:
    from hypercluster.node.gateway.chunks import Usage


def usage_document(usage: Usage) -> dict[str, Any]:
    """The object "usage" of completions; "cost" is in HCT, and exact in "cost_wei"."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
        **cost(usage),
    }


def cost(usage: Usage) -> dict[str, Any]:
    """What it cost: HCT as a number, and wei as a text, which no reader rounds."""
    return {"cost": usage.cost_wei / one(), "cost_wei": str(usage.cost_wei)}
