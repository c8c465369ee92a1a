"""The twin of a model: as many layers, the same patterns, flags and kinds, but small widths.

Whether shards compute the same as the whole depends on what a twin shares with its model, not on widths and weights. So
it is found out on the twin, on any machine, without the weights.
"""

from __future__ import annotations

import re
from typing import Any

from hypercluster.node.engine.templates import CONTEXT, MLA, VOCABULARY, WINDOW, Meta, template
from hypercluster.node.shards.blueprint import Blueprint

_WIDTHS = re.compile(
    r"vocab_size|context_length|embedding_length.*|features_length|feed_forward_length|expert.*feed_forward_length"
    r"|expert_latent_length|rope\.dimension_.*|rope\.scaling\.original_context_length"
    r"|attention\.(head_count|head_count_kv|key_length.*|value_length.*|q_lora_rank|kv_lora_rank.*|sliding_window"
    r"|output_lora_rank|output_group_count)|attention\.indexer\.(?!types|top_k).*"
    r"|ssm\..*|kda\.head_dim|shortconv.*|ple\..*"
)
"""keys whose numbers are sizes, in which a twin differs from its model"""
_OWN = ("vocab_size", "features_length")  # which files leave out
_HEADS = ("attention.key_length", "attention.value_length", "rope.dimension_count")
_FORWARD = ("feed_forward_length", "expert_feed_forward_length", "expert_shared_feed_forward_length")
_FEW = 16  # experts


def twin_of(model: Blueprint) -> Meta:
    """The metadata of the model's twin. Raises UnsupportedModel for numbers beyond their bounds."""
    real = {key: value for key in model.keys if (value := model.value(key)) not in (None, [])}
    experts = bool(real.get("expert_count"))
    base = template(model.architecture, layers=model.blocks, experts=experts, changes=_narrow(model, experts))
    meta = {key: value for key, value in base.items() if key in real or key in _OWN}
    for key, value in real.items():
        if not _WIDTHS.fullmatch(key):
            meta[key] = value
        elif (size := _size(key, value, base, model.blocks)) is not None:
            meta[key] = size
    if experts:
        meta |= _few_experts(real)
    return meta | _odd_heads(model, real, base, meta) | {"vocab_size": VOCABULARY, "context_length": CONTEXT}


def _narrow(model: Blueprint, experts: bool) -> Meta:
    """Smaller widths than a template's where there are many layers of many experts."""
    if not experts or model.blocks <= 12:
        return {}
    small: Meta = dict.fromkeys(_FORWARD, 64)
    usual = template(model.architecture)
    if model.architecture not in MLA and usual["embedding_length"] == 256:
        small |= {"embedding_length": 128, "features_length": 128}
    return {key: size for key, size in small.items() if not isinstance(usual.get(key), list)}


def _size(key: str, value: Any, base: Meta, blocks: int) -> Any:
    """A twin's number for one of the model's sizes: nothing stays nothing, and what differs by layer does here."""
    usual = base.get(key)
    if isinstance(value, list) and len(value) == blocks:
        first = next((item for item in usual if item), 1) if isinstance(usual, list) else usual or 1
        kinds = list(dict.fromkeys(item for item in value if item))
        return [0 if not item else first * (1 if item == kinds[0] else 2) for item in value]
    if value == 0:
        return 0
    if key == "attention.sliding_window":
        return WINDOW
    if key == "rope.scaling.original_context_length":
        return CONTEXT // 8
    if key.startswith("attention.head_count") and isinstance(usual, list):
        return max(usual)
    if usual is None and key in _HEADS:
        return base["embedding_length"] // base["attention.head_count"]
    return usual


def _few_experts(real: Meta) -> Meta:
    """Fewer experts, as many groups of them, and no more at work than half of them."""
    count, groups = int(real["expert_count"]), int(real.get("expert_group_count") or 1)
    fewer = min(count, max(_FEW, 2 * groups))
    return {
        "expert_count": fewer,
        "expert_used_count": max(1, min(int(real.get("expert_used_count") or 1), fewer // 2)),
    }


def _odd_heads(model: Blueprint, real: Meta, base: Meta, meta: Meta) -> Meta:
    """Heads that together are no row of the embedding, where the model's are not: loaders compare these two."""
    heads, length = real.get("attention.head_count"), real.get("attention.key_length")
    if model.architecture in MLA or not isinstance(heads, int) or not isinstance(length, int):
        return {}
    usual = base["embedding_length"] // base["attention.head_count"]
    head = usual if length * heads == model.n_embd else usual // 2
    return {key: head for key in _HEADS if key in meta}
