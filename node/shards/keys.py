"""The metadata of a shard: the model's, with everything fitted that says how many layers there are, or which."""

from __future__ import annotations

import struct

from gguf.constants import GGUFValueType

from hypercluster.node.shards.blueprint import FOREIGN_KEYS, MAX_LAYERS, Blueprint, item_type
from hypercluster.node.shards.container import FORMATS
from hypercluster.node.shards.layout import LEADING, Place
from hypercluster.node.shards.patterns import written_out
from hypercluster.node.shards.rules import NOT_PER_LAYER
from hypercluster.node.shards.writing import Value, array, float32, text, uint32, uint32s

_SHARED_KV, _PLE = "attention.shared_kv_layers", "ple.layers"


def shard_keys(model: Blueprint, start: int, places: tuple[Place, ...], n_vocab: int) -> dict[str, Value]:
    """By their full names, in order; `n_vocab` is how many tokens the shard is to have. Raises UnsupportedModel."""
    keys = _of_the_model(model)
    for key in LEADING:
        if key in keys:
            count = model.number(key, 0, MAX_LAYERS)
            beyond = (at for at, place in enumerate(places) if place.layer >= count)
            keys[key] = uint32(next(beyond, len(places)))
    if _SHARED_KV in keys:
        borrowing = model.number(_SHARED_KV, 0, model.layers)
        keys[_SHARED_KV] = uint32(sum(place.layer >= model.layers - borrowing for place in places))
    keys = _tables_by_token(model, keys, places)
    if start > 0 and ("embedding_scale" in keys or model.rule.scale):
        keys["embedding_scale"] = float32(1.0)  # what enters was scaled where it was an embedding
    fitted = {key: _fitted(model, key, value, places) for key, value in keys.items()}
    fitted |= {"block_count": uint32(len(places)), "vocab_size": uint32(n_vocab)}
    named = {
        key if key.startswith(FOREIGN_KEYS) else f"{model.architecture}.{key}": value
        for key, value in sorted(fitted.items())
    }
    return {
        "general.architecture": text(model.architecture),
        "tokenizer.ggml.model": text("no_vocab"),
        **named,
    }


def _of_the_model(model: Blueprint) -> dict[str, Value]:
    """Its keys with all patterns as lists and all guesses of the loader spelled out."""
    keys = dict(model.keys) | {key: uint32s(flags) for key, flags in written_out(model).items()}
    keys.pop("nextn_predict_layers", None)
    if model.rule.corrections is not None:
        corrected = model.rule.corrections(model.layers, model.n_vocab, model.tensors.keys(), keys.keys())
        keys |= {
            key: uint32(value) if isinstance(value, int) else float32(value)
            for key, value in corrected.items()
        }
    return keys


def _fitted(model: Blueprint, key: str, value: Value, places: tuple[Place, ...]) -> Value:
    """A list with one entry per layer, as the file has layers; anything else as it is."""
    if value.type is not GGUFValueType.ARRAY or key in NOT_PER_LAYER:
        return value
    item, count = item_type(value), struct.unpack_from("<Q", value.raw, 4)[0]
    if item is GGUFValueType.STRING or count not in (model.blocks, model.layers):
        return value
    size, items = struct.calcsize(FORMATS[item]), value.raw[12:]
    return array(item, [items[size * place.layer : size * (place.layer + 1)] for place in places])


def _tables_by_token(model: Blueprint, keys: dict[str, Value], places: tuple[Place, ...]) -> dict[str, Value]:
    """With the layers that use tables by token renumbered, or without such tables."""
    users = model.value(_PLE)
    if not isinstance(users, list):
        return keys
    inside = [at for at, place in enumerate(places) if place.real and place.layer in users]
    if inside:
        return keys | {_PLE: uint32s(inside)}
    return {
        key: value
        for key, value in keys.items()
        if not key.startswith("ple.") and "per_layer_input" not in key
    }
