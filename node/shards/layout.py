"""Which layers stand in the file of a shard: those of its range, and layers of zeros where llama.cpp needs company.

Zero layers change nothing that passes them. They stand
- in front, where a pattern by the layer's number cannot be moved by metadata, up to a period of it;
- behind the range, where nothing is computed any more, because llama.cpp's caches insist on a layer of each kind that
  the model has (or in front, if the range is the model's last);
- wherever the number of layers would make llama.cpp take the shard for another model.
A skeleton has all layers of the model, zeros outside the range.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hypercluster.node.shards.blueprint import MAX_LAYERS, Blueprint, Items
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.patterns import expanded
from hypercluster.node.shards.rules import PATTERN, RECURRENT
from hypercluster.node.shards.traits import reads_embedding

LEADING = ("leading_dense_block_count", "hash_layer_count")
"""keys that say how many layers in front are of another kind"""
_KV_HEADS, _WIDTHS = "attention.head_count_kv", "feed_forward_length"


class Place(NamedTuple):
    """A layer of a shard's file: the layer of the model that it is like, and whether it has its weights."""

    layer: int
    real: bool


Kind = tuple[object, ...]


def is_skeleton(model: Blueprint) -> bool:
    """Whether shards of the model keep all its layers."""
    return model.rule.skeleton or model.layers in model.rule.pinned or reads_embedding(model)


def layout(model: Blueprint, start: int, stop: int) -> tuple[Place, ...]:
    """The layers of the shard of layers [start, stop), in the order of its file. Raises UnsupportedModel."""
    if is_skeleton(model):
        return tuple(Place(layer, start <= layer < stop) for layer in range(model.layers))
    places = _laid_out(model, start, stop)
    if len(places) > MAX_LAYERS:
        raise UnsupportedModel(
            f"A shard of layers {start}:{stop} would need {len(places)} layers to be exact."
        )
    return tuple(places)


def _laid_out(model: Blueprint, start: int, stop: int) -> list[Place]:
    period, last = _period(model), stop == model.layers
    places = [Place(layer, True) for layer in range(start, stop)]
    front = _zeros(range(start - start % period, start))
    near = _company(model, start, stop)
    if near and model.rule.period > 1:  # in the pattern's order: the next layers, or a whole period in front
        what, first = kinds(model), start - len(front)
        ends = (end for end in range(stop, model.layers) if set(what) <= set(what[first : end + 1]))
        end = next(ends, None)
        if end is None:
            front = _zeros(range(model.rule.period)) + front
        else:
            places += _zeros(range(stop, end + 1))
        near = []
    lead = _leading(model)
    company = sorted(_zeros(near), key=lambda place: place.layer >= lead)  # those that have to lead, first
    if last:
        if front and len(near) % period:
            company = [(company + front)[0]] * (-len(near) % period) + company
        places = company + front + places
    else:
        ahead = [place for place in company if place.layer < lead < stop]
        places = ahead + front + places + company[len(ahead) :]
    may_lead = model.flags(model.rule.starts) if model.rule.starts else None
    if (
        may_lead is not None and not may_lead[places[0].layer]
    ):  # of the first layer llama.cpp takes sizes of all
        places = [Place(0, False), *places]
    return _of_another_number(model, places, start, stop)


def _of_another_number(model: Blueprint, places: list[Place], start: int, stop: int) -> list[Place]:
    """Lengthened while its number of layers means something else to llama.cpp than the model's own."""
    period, shunned = _period(model), {*model.rule.avoid, *model.rule.pinned}
    while len(places) in shunned and len(places) != model.layers:
        if stop < model.layers:
            places = [*places, Place(stop, False)]
        elif period > 1:
            places = _zeros(range(period)) + places
        else:
            places = [Place(start, False), *places]
    return places


def _company(model: Blueprint, start: int, stop: int) -> list[int]:
    """The nearest layer of every kind that the range lacks, if possible one that does not have to lead."""
    what, lead = kinds(model), _leading(model)
    missing = sorted(set(what) - set(what[start:stop]), key=repr)
    return [
        min(
            (layer for layer in range(model.layers) if what[layer] == kind),
            key=lambda i: (i < lead < stop, abs(i - start), i),
        )
        for kind in missing
    ]


def _leading(model: Blueprint) -> int:
    """Layers in front that llama.cpp counts, because they are of another kind."""
    return max(model.number(key, 0, MAX_LAYERS, default=0) for key in LEADING)


def kinds(model: Blueprint) -> list[Kind]:
    """Of each layer, what kind of cache it needs; a shard must hold one of every kind that the model has."""
    keys = expanded(model)
    lists: dict[str, Items | None] = {
        key: _list(model, keys.get(key)) for key in (PATTERN, RECURRENT, _KV_HEADS, "attention.rope_pattern")
    }
    lists[_WIDTHS] = _list(model, keys.get(_WIDTHS)) if lists[_KV_HEADS] is not None else None
    ratios, period = model.per_layer("attention.compress_ratios"), model.rule.period
    return [
        (
            *(None if items is None else bool(items[layer]) for items in lists.values()),
            None if ratios is None else ratios[layer],
            period > 1 and (layer + 1) % period == 0,
        )
        for layer in range(model.layers)
    ]


def _list(model: Blueprint, value: object) -> Items | None:
    return value if isinstance(value, list) and len(value) >= model.layers else None


def _period(model: Blueprint) -> int:
    """Ranges may start at multiples of this without layers in front."""
    key = model.rule.period_key
    step = model.number(key, 0, MAX_LAYERS, default=1) if key else 1
    return math.lcm(model.rule.period, step or 1)


def _zeros(layers: range | list[int]) -> list[Place]:
    return [Place(layer, False) for layer in layers]
