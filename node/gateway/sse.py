"""Server-sent events, as the SDKs of OpenAI and Anthropic read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"


def compact(document: Any) -> bytes:
    """JSON without spaces, in UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )


def event(document: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event; with `name` it has a line that says of what kind it is."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + compact(document) + b"\n\n"


def comment(text: str) -> bytes:
    """A line that every client skips; it keeps the connection alive and tells a person what is waited for."""
    return f": {' '.join(text.split())}\n\n".encode("utf-8", "replace")
