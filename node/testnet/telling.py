"""What a run of a whole network tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(_text: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Three voices; each says nothing unless it is given."""

    status: Callable[[str], None] = _nothing
    """what is being done now; empty while the text runs"""
    news: Callable[[str], None] = _nothing
    """one line on what has happened"""
    text: Callable[[str], None] = _nothing
    """the next piece of a completion"""
