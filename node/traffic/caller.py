"""Who asks: a key, an app, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.market.money.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a request runs; requests of one key take turns with those of the others."""

    key_id: str | None = None
    """of the API key; None for whoever owns the wallet"""
    name: str = ""
    """of the key, for people"""
    app: str = ""
    """the program that asked, as it calls itself"""
    endpoint: str = "python"
    """through which door: "chat", "completions", "responses", "messages", "ollama", "python", "cli" or "page" """
    budgets: tuple[Budget, ...] = ()
    """each of them has to hold what the request costs"""
