"""Patterns that llama.cpp counts out over all layers, written as lists with one entry per layer.

A list can be cut with the layers, a number cannot.
"""

from __future__ import annotations

from hypercluster.node.shards.blueprint import MAX_LAYERS, Blueprint, Items
from hypercluster.node.shards.rules import PATTERN, RECURRENT


def expanded(model: Blueprint) -> dict[str, int | float | bool | str | Items | None]:
    """All values of the metadata, those patterns as lists with one entry per block."""
    values = {key: model.value(key) for key in model.keys}
    return values | {key: list(flags) for key, flags in written_out(model).items()}


def written_out(model: Blueprint) -> dict[str, list[int]]:
    """The patterns that have to become lists, one entry per block, 0 or 1."""
    rule, found = model.rule, {}
    here, window = model.value(PATTERN), model.value("attention.sliding_window")
    if rule.sliding and not isinstance(here, list) and window != 0:
        default, dense_first = rule.sliding
        n = model.number(PATTERN, 0, MAX_LAYERS, default=default)
        full = 0 if dense_first else n - 1
        found[PATTERN] = [int(not (n and layer % n == full)) for layer in range(model.blocks)]
    if rule.recurrent and not isinstance(model.value(RECURRENT), list):
        n = model.number("full_attention_interval", 1, MAX_LAYERS, default=rule.recurrent)
        found[RECURRENT] = [int((layer + 1) % n != 0) for layer in range(model.blocks)]
    return found
