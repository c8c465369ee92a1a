"""One item of a response's output, as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Item:
    """A message, what was thought before it, or a call of a tool."""

    kind: str
    """message, reasoning or function_call"""
    id: str
    call: int = -1
    call_id: str = ""
    name: str = ""
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def document(self, status: str) -> dict[str, Any]:
        """The item as it stands."""
        if self.kind == "function_call":
            return {
                "type": "function_call",
                "id": self.id,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": self.text,
                "status": status,
            }
        if self.kind == "reasoning":
            return {"type": "reasoning", "id": self.id, "summary": [self.part()] if self.text else []}
        content = [self.part()] if status != "in_progress" else []
        return {"type": "message", "id": self.id, "status": status, "role": "assistant", "content": content}

    def part(self) -> dict[str, Any]:
        """Its one part."""
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}
