"""Probabilities of tokens, as chat completions and as completions write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypercluster.node.client.events import Candidate, Token

LEAST = -9999.0
"""what OpenAI says of a token that was not among the likely ones"""


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    """The object "logprobs" of a choice of a chat."""
    return {
        "content": [
            {**_entry(token), "top_logprobs": [_entry(other) for other in token.top]} for token in tokens
        ],
        "refusal": None,
    }


def completion_logprobs(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """The object "logprobs" of a choice of a completion, whose text so far has `offset` characters."""
    texts = [_text(token.piece) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [_logprob(token) for token in tokens],
        "top_logprobs": [{_text(other.piece): other.logprob for other in token.top} for token in tokens],
        "text_offset": offsets,
    }


def _entry(token: Token | Candidate) -> dict[str, Any]:
    return {"token": _text(token.piece), "logprob": _logprob(token), "bytes": list(token.piece)}


def _logprob(token: Token | Candidate) -> float:
    return LEAST if token.logprob is None else token.logprob


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
