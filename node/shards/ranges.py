"""Layer ranges, half-open [start, stop), as people write them: `0:3` or `0:3,3:6,6:8`."""

from __future__ import annotations

import itertools
import re

from hypercluster.node.shards.errors import InvalidRange

_RANGE = re.compile(r"\s*(\d{1,4})\s*:\s*(\d{1,4})\s*")


def check_range(layers: int, start: int, stop: int, starts: tuple[int, ...] | None = None) -> None:
    """Raise InvalidRange unless 0 <= start < stop <= layers and, where there are `starts`, `start` is among them."""
    if not 0 <= start < stop <= layers:
        raise InvalidRange(
            f"Layers {start}:{stop} do not exist: the model has {layers} layers, "
            f"so ranges lie within 0:{layers} and hold at least one layer."
        )
    if starts is not None and start not in starts:
        near = min(starts, key=lambda layer: (abs(layer - start), layer))
        raise InvalidRange(
            f"No range of this model can begin at layer {start}; the nearest layer where one can is {near}."
        )


def parse_range(text: str, layers: int, starts: tuple[int, ...] | None = None) -> tuple[int, int]:
    """Read `start:stop`. Raises InvalidRange where it is none or the model cannot be cut there."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidRange(f"{text!r} is no layer range; write start:stop, as in 0:{layers}.")
    start, stop = int(match[1]), int(match[2])
    check_range(layers, start, stop, starts)
    return start, stop


def parse_path(text: str, layers: int, starts: tuple[int, ...] | None = None) -> list[tuple[int, int]]:
    """Read `0:3,3:6,6:8`: ranges that abut and cover all layers. Raises InvalidRange."""
    ranges = [parse_range(piece, layers, starts) for piece in text.split(",")]
    reached = 0
    for start, stop in ranges:
        if start != reached:
            raise InvalidRange(f"{text!r} leaves a gap or overlaps: a range should start at layer {reached}.")
        reached = stop
    if reached != layers:
        raise InvalidRange(f"{text!r} ends at layer {reached}, but the model has {layers} layers.")
    return ranges


def partition(layers: int, parts: int, starts: tuple[int, ...] | None = None) -> list[tuple[int, int]]:
    """Cut [0, layers) into `parts` ranges of about the same length, beginning at `starts` only (None: anywhere).

    Raises InvalidRange where there are not as many.
    """
    if starts is not None:
        return _partition_at(layers, parts, starts)
    if not 1 <= parts <= layers:
        raise InvalidRange(f"{layers} layers cannot be cut into {parts} parts of at least one layer each.")
    edges = [layers * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def _partition_at(layers: int, parts: int, starts: tuple[int, ...]) -> list[tuple[int, int]]:
    if not 1 <= parts <= len(starts):
        raise InvalidRange(
            f"This model cannot be cut into {parts} parts: its layers may be cut in {len(starts)}."
        )
    edges, left = [0], [layer for layer in starts if layer > 0]
    for part in range(1, parts):
        spare = len(left) - (parts - part)  # so many may be passed over and leave enough for the rest
        at = min(range(spare + 1), key=lambda i: abs(left[i] - layers * part / parts))
        edges.append(left[at])
        left = left[at + 1 :]
    return list(itertools.pairwise([*edges, layers]))
