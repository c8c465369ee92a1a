"""How a peer is asked for a model: its manifest, its vocabulary, and the blocks of its tensors.

One stream, one question after the other. A question is a frame of JSON, an answer a frame of JSON that says how many
bytes follow or why none do, and then these bytes in frames of at most MOST_PIECE. Nothing of it is believed: whoever
asks has the model id, and everything else is compared with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from hypercluster.node.errors import WireError

BLOCKS_PROTOCOL = "/hypercluster/blocks/1.0.0"
MOST_ASKED = 2048
"""bytes of a question, and of the frame before an answer"""
MOST_PIECE = 1 << 20
"""bytes of a frame of an answer: one block"""
MOST_BLOCKS = 16
"""in one answer"""
MOST_BYTES = 1 << 30
"""of any answer"""
_ID = re.compile(r"[0-9a-f]{64}")

What = Literal["manifest", "vocabulary", "held", "hashes", "blocks"]


@dataclass(frozen=True, slots=True)
class BlocksAsked:
    """A question about a model: `hashes` are those of a tensor's blocks, `blocks` are `count` of them from `first` on.

    `held` asks for the ranges of layers and the tensors outside of them that the peer has.
    """

    model: str
    what: What
    tensor: str = ""
    first: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class BlocksAnswer:
    """What comes before an answer: bytes that follow, or why none do and after how many seconds to ask again."""

    size: int = 0
    refused: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a peer has of a model: half-open ranges of layers, and names of tensors that lie in no layer."""

    layers: tuple[tuple[int, int], ...]
    outside: tuple[str, ...]


def encode_blocks(message: BlocksAsked | BlocksAnswer | Held) -> bytes:
    """A question, the head of an answer, or what is held, as JSON."""
    return json.dumps(asdict(message)).encode()


def decode_asked(raw: bytes) -> BlocksAsked:
    """A question as it came. Raises WireError."""
    model, what, tensor, first, count = _fields(raw, "model", "what", "tensor", "first", "count")
    if not (isinstance(model, str) and _ID.fullmatch(model) and what in get_args(What)):
        raise WireError("blocks", "names no model, or asks for something else")
    if not (
        isinstance(tensor, str)
        and len(tensor) <= 64
        and _whole(first, 1 << 40)
        and _whole(count, MOST_BLOCKS)
    ):
        raise WireError("blocks", "names no tensor, or more blocks than are given at once")
    if what == "blocks" and count < 1:
        raise WireError("blocks", "asks for no block")
    return BlocksAsked(model, what, tensor, first, count)


def decode_answer(raw: bytes) -> BlocksAnswer:
    """The head of an answer as it came. Raises WireError."""
    size, refused, wait = _fields(raw, "size", "refused", "wait")
    if not (_whole(size, MOST_BYTES) and isinstance(refused, str)):
        raise WireError("blocks", "has no size")
    if type(wait) not in (int, float) or not 0 <= wait <= 3600:  # not a number is in no range
        raise WireError("blocks", "names no time to wait")
    return BlocksAnswer(size, "".join(c for c in refused if c.isprintable())[:300], float(wait))


def decode_held(raw: bytes) -> Held:
    """What a peer says that it has. Raises WireError."""
    layers, outside = _fields(raw, "layers", "outside")
    if (
        not isinstance(layers, list)
        or len(layers) > 64
        or not isinstance(outside, list)
        or len(outside) > 256
    ):
        raise WireError("blocks", "lists nothing that a model has")
    for each in layers:
        if not (isinstance(each, list) and len(each) == 2 and all(_whole(layer, 1 << 16) for layer in each)):
            raise WireError("blocks", "has a range that is none")
    if not all(isinstance(name, str) and len(name) <= 64 for name in outside):
        raise WireError("blocks", "names a tensor that none is called")
    return Held(tuple((first, stop) for first, stop in layers), tuple(outside))


def _fields(raw: bytes, *names: str) -> list[Any]:
    try:
        document = json.loads(raw)
        if isinstance(document, dict) and document.keys() == set(names):
            return [document[name] for name in names]
    except (ValueError, RecursionError):
        pass
    raise WireError("blocks", "is no message about blocks")


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
