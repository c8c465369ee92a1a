"""Bytes made wrong: anywhere, or at the places that matter for their kind."""

from __future__ import annotations

import enum
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from hypercluster.node.wire import wire_pb2 as pb

EDGES = [
    0, 1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**16, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
    2**40, 2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip
FLOATS = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, -0.0, 1e9, -1.0]
TEXTS = [
    "", "x", "\0", "x" * 128, "x" * 257, "x" * 1025, "é" * 128, "\U0001f600" * 100, "\u202e", "9" * 5000, "-1",
    "0x" + "f" * 40, "NaN", "1e999", "none", "\ud800", "../../x", "%s{0}", "[[", "\r\n\x1b[31m",
]  # fmt: skip
KINDS: list[Any] = [None, True, -1, 0, 2**70, 0.5, 1e308, "", "x", [], [[]], [None], ["x"], {}, {"x": []}]
SIZES = [0, 1, 4, 12, 15, 16, 17, 20, 31, 32, 33, 63, 64, 65, 256, 3000, 20_000]
DEEP = 3000
"""lists within each other: more than any recursion holds"""


class Shape(enum.Enum):
    """What is known of the bytes of a decoder."""

    BYTES = enum.auto()
    TEXT = enum.auto()
    JSON = enum.auto()
    FRAME = enum.auto()
    """protobuf, one Frame"""
    ADVERT = enum.auto()
    """protobuf, one Advert"""


def mutated(seeds: Sequence[bytes], shape: Shape, draw: random.Random) -> bytes:
    """One of the seeds made wrong, by its kind or as any bytes; seldom something made up altogether."""
    if draw.random() < 0.02:
        return draw.choice([b"", b"\x00", draw.randbytes(draw.choice(SIZES)), b"[" * DEEP, b'{"a":' * DEEP])
    seed = draw.choice(seeds)
    if shape is not Shape.BYTES and draw.random() < 0.7:
        found = _BY_SHAPE[shape](seed, draw)
        if found is not None:
            return found
    return _bytes(seed, seeds, draw)


def _bytes(seed: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        at = draw.randrange(len(data) + 1)
        # What stands in front decides what the rest is.
        at = min(at, draw.choice([8, 64, 512, len(data)]))
        match draw.randrange(9):
            case 0:
                data[at : at + 1] = draw.randbytes(1)
            case 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << draw.randrange(8)
            case 2:
                del data[at : at + draw.choice([1, 2, 16, 200])]
            case 3:
                data[at:at] = draw.randbytes(draw.choice([1, 2, 16, 300]))
            case 4:
                del data[at:]
            case 5:
                data += draw.choice(seeds)[: draw.choice([8, 100, 10_000])]
            case 6:
                width = draw.choice([1, 2, 4, 8])
                value = draw.choice(EDGES) % 256**width
                data[at : at + width] = value.to_bytes(width, draw.choice(["little", "big"]))
            case 7:
                data[at:at] = _varint(draw.choice(EDGES))
            case _:
                data[at : at + 4] = data[at : at + 4] * draw.choice([2, 50])
    return bytes(data)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(128 | number & 127)
        number >>= 7
    return bytes([*out, number])


# --- text ----------------------------------------------------------------------------------------------------------


def _text(seed: bytes, draw: random.Random) -> bytes | None:
    lines = seed.split(b"\n")
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.randrange(len(lines))
        match draw.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, draw.choice(lines))
            case 2:
                name, mark, _ = lines[at].partition(b"=")
                lines[at] = name + mark + _odd_text(draw)
            case 3:
                _, mark, rest = lines[at].partition(b"=")
                lines[at] = _odd_text(draw) + mark + rest
            case 4:
                parts = lines[at].split(b"/")
                parts[draw.randrange(len(parts))] = _odd_text(draw)
                lines[at] = b"/".join(parts)
            case _:
                lines[at] = b"[" * draw.choice([1, DEEP])
        if not lines:
            return b""
    return b"\n".join(lines)


def _odd_text(draw: random.Random) -> bytes:
    text = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
    return draw.choice(
        [text, b'"' + text + b'"', str(draw.choice(EDGES)).encode(), b"'" + text, b"[]", b"{}"]
    )


# --- JSON ----------------------------------------------------------------------------------------------------------


def replaced(seeds: Sequence[bytes]) -> Iterator[bytes]:
    """JSON seeds with each value in turn, one of each place, replaced by each kind of value."""
    for seed in seeds:
        if (read := _read(seed)) is None:
            continue
        document, rest = read
        seen: set[tuple[str, ...]] = set()
        for place, make in _places(document):
            if place not in seen:
                seen.add(place)
                yield from (json.dumps(make(kind)).encode() + rest for kind in KINDS)


def _places(value: Any) -> Iterator[tuple[tuple[str, ...], Callable[[Any], Any]]]:
    """Where there is a value, all items of a list being one place, and the whole with another one there."""
    yield (), lambda other: other
    if isinstance(value, dict):
        for name, inner in value.items():
            for place, make in _places(inner):
                yield (name, *place), partial(_with_value, value, name, make)
    elif isinstance(value, list) and value:
        for place, make in _places(value[0]):
            yield ("[]", *place), partial(_with_item, value, make)


def _with_value(whole: dict[str, Any], name: str, make: Callable[[Any], Any], other: Any) -> Any:
    return {**whole, name: make(other)}


def _with_item(whole: list[Any], make: Callable[[Any], Any], other: Any) -> Any:
    return [make(other), *whole[1:]]


def _read(seed: bytes) -> tuple[Any, bytes] | None:
    """The document, or the first of several, one a line, and what is behind it; None where it is no JSON."""
    first, newline, rest = seed.partition(b"\n") if seed[:1] == b"{" and b"\n{" in seed else (seed, b"", b"")
    try:
        return json.loads(first), newline + rest
    except (ValueError, RecursionError):
        return None


def _json(seed: bytes, draw: random.Random) -> bytes | None:
    if (read := _read(seed)) is None:
        return None
    document, rest = read
    for _ in range(draw.choice([1, 1, 2, 4])):
        document = _changed(document, draw)
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.1:
        text = text.replace('"', '"\\ud800', 1)
    return text.encode("utf-8", "surrogatepass") + rest


def _changed(value: Any, draw: random.Random) -> Any:
    """The same with one place in it changed: the deeper, the likelier to go on."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        name = draw.choice(list(value))
        match draw.randrange(8):
            case 0:
                return {each: inner for each, inner in value.items() if each != name}
            case 1:
                return {**value, draw.choice(TEXTS): draw.choice(list(value.values()))}
            case 2:
                return {draw.choice(TEXTS) if each == name else each: inner for each, inner in value.items()}
            case _:
                return {**value, name: _changed(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        at = draw.randrange(len(value))
        match draw.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value * draw.choice([2, 20])
            case 2:
                return [*value, draw.choice(value)]
            case _:
                return [*value[:at], _changed(value[at], draw), *value[at + 1 :]]
    return _odd_value(value, draw)


def _odd_value(value: Any, draw: random.Random) -> Any:
    if isinstance(value, str) and value and draw.random() < 0.4:
        at = draw.randrange(len(value))
        return value[:at] + draw.choice(["", "\0", "z", "/", " ", value]) + value[at + draw.randrange(2) :]
    if isinstance(value, int | float) and not isinstance(value, bool) and draw.random() < 0.4:
        return draw.choice([-value, value + 1, value - 1, f"{value}", value * 10**6])
    odd: list[Any] = [
        None, True, False, [], {}, [None], {"": None}, [[]], -1, 10**30, 10**400, *FLOATS, *EDGES, *TEXTS,
        "9" * 4000,
    ]  # fmt: skip
    return draw.choice(odd)


# --- protobuf ------------------------------------------------------------------------------------------------------


def _protobuf(kind: type[Message]) -> Callable[[bytes, random.Random], bytes | None]:
    def change(seed: bytes, draw: random.Random) -> bytes | None:
        message = kind()
        try:
            message.MergeFromString(seed)
        except DecodeError:
            return None
        for _ in range(draw.choice([1, 1, 2, 4])):
            _change_field(message, draw)
        return message.SerializeToString()

    return change


def _change_field(message: Any, draw: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    there = [field for field, _ in message.ListFields()]
    if not fields:
        return
    # A Frame is what it holds: another kind of message in it would be another seed.
    field = draw.choice(there if there and (draw.random() < 0.7 or len(fields) > 12) else fields)
    repeated = getattr(message, field.name) if field.is_repeated else None
    try:
        if field.message_type is not None:
            if draw.random() < 0.1:
                message.ClearField(field.name)
            else:
                _change_field(getattr(message, field.name), draw)
        elif repeated is not None:
            repeated.extend([_scalar(field, draw)] * draw.choice([1, 8, 9, 64, 2000]))
        else:
            setattr(message, field.name, _scalar(field, draw))
    except (ValueError, OverflowError):
        pass  # it does not fit into its field, so nobody can send it


def _scalar(field: Any, draw: random.Random) -> Any:
    if field.type == field.TYPE_BYTES:
        return draw.randbytes(draw.choice(SIZES))
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            return draw.choice(TEXTS)
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return draw.choice(FLOATS)
        case field.CPPTYPE_BOOL:
            return draw.random() < 0.5
        case field.CPPTYPE_ENUM:
            return draw.choice([0, 1, 2, 3, 20, 2**31 - 1, -1])
    return draw.choice(EDGES)


_BY_SHAPE: dict[Shape, Callable[[bytes, random.Random], bytes | None]] = {
    Shape.TEXT: _text,
    Shape.JSON: _json,
    Shape.FRAME: _protobuf(pb.Frame),
    Shape.ADVERT: _protobuf(pb.Advert),
}
