"""What every client's script is given by the test, and how it answers: one JSON object of facts on stdout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

URL = os.environ["SDK_URL"]
"""where the gateway is, without a path"""
KEY = os.environ["SDK_KEY"]
POOR_KEY = os.environ["SDK_POOR_KEY"]
"""a key whose budget does not even pay for a prompt"""
REVOKED_KEY = os.environ["SDK_REVOKED_KEY"]
MODEL = os.environ["SDK_MODEL"]
QUESTION = "What is the capital of France?"
COUNT = "Count from one to a hundred in words."
"""an answer that is longer than a test wants to wait for"""
FACTS: dict[str, Any] = {}


def fact(name: str) -> Callable[[Callable[[], Any]], None]:
    """Run what follows now and keep what it returns, or what it raised, under a name."""

    def run(look: Callable[[], Any]) -> None:
        try:
            FACTS[name] = look()
        except Exception as error:
            FACTS[name] = {"raised": f"{type(error).__module__}.{type(error).__name__}: {error}"[:2000]}

    return run


def tell() -> None:
    """Print the facts."""
    print(json.dumps(FACTS))
