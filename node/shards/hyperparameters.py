"""The numbers of a model file that decide its shapes and its computation: read, and kept within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypercluster.node.shards.architectures import (
    LLAMA_MAX_LAYERS,
    MAX_CONTEXT,
    MAX_WIDTH,
    Architecture,
    Hyperparameters,
)
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import UnsupportedModel

# Keys below the architecture's name which llama.cpp reads for these architectures, and which a shard repeats.
SCALAR_KEYS = (
    "context_length",
    "embedding_length",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
)
LAYER_KEYS = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
# Keys that change the computation in a way no shard reproduces, and the value that leaves it alone.
NEUTRAL = {
    "expert_count": 0,
    "nextn_predict_layers": 0,
    "attention.causal": True,
}


def hyperparameters(file: Container, rules: Architecture, n_vocab: int, *, start: int = 0) -> Hyperparameters:
    """Read and check the numbers of a model file or shard. Raises UnsupportedModel, MalformedFile.

    `n_vocab` is what the caller found the vocabulary to be; bounds here keep llama.cpp's assertions quiet.
    """
    reader = _Numbers(file, rules.name)
    for key, neutral in NEUTRAL.items():
        value = file.scalar(f"{rules.name}.{key}")
        if value is not None and value != neutral:
            raise UnsupportedModel(f"{file.path} sets {rules.name}.{key} to {value}, which cannot be split.")
    if file.scalar(f"{rules.name}.rope.scaling.type") not in (None, "none", "linear", "yarn"):
        raise UnsupportedModel(f"{file.path} uses a rope scaling other than none, linear and yarn.")
    layers = reader.number("block_count", 1, LLAMA_MAX_LAYERS)
    n_embd = reader.number("embedding_length", 1, MAX_WIDTH)
    context = reader.number("context_length", 1, MAX_CONTEXT)
    heads = reader.per_layer("attention.head_count", layers, MAX_WIDTH)
    kv_heads = reader.per_layer("attention.head_count_kv", layers, MAX_WIDTH, default=heads)
    feed_forward = reader.per_layer("feed_forward_length", layers, MAX_WIDTH)
    if len(set(heads)) > 1 and f"{rules.name}.attention.key_length" not in file.fields:
        raise UnsupportedModel(f"{file.path} varies its heads per layer without naming attention.key_length.")
    head_dim = reader.number("attention.key_length", 2, MAX_WIDTH, default=n_embd // heads[0])
    rotated = reader.number("rope.dimension_count", 2, MAX_WIDTH, default=head_dim)
    if reader.number("attention.value_length", 2, MAX_WIDTH, default=n_embd // heads[0]) != head_dim:
        raise UnsupportedModel(
            f"{file.path} has keys and values of different length, which is not supported."
        )
    if rotated > head_dim or rotated % 2 or (rules.full_rotation and rotated != head_dim):
        raise UnsupportedModel(
            f"{file.path} rotates {rotated} of {head_dim} elements of a head; that is invalid."
        )
    for layer, (q, kv) in enumerate(zip(heads, kv_heads, strict=True), start):
        square = q * head_dim == n_embd or not rules.square_attention
        if q % kv or not square or q * head_dim > MAX_WIDTH:
            raise UnsupportedModel(
                f"{file.path}: layer {layer} has {q} heads of {head_dim} and {kv} key-value heads on an "
                f"embedding of {n_embd}, which do not fit together."
            )
    reader.real(rules.epsilon, 0.0, 1.0)
    for key in ("rope.freq_base", "rope.scale_linear", "rope.scaling.factor", "rope.scaling.attn_factor"):
        reader.real(key, 0.0, 1e12, required=False)
    return Hyperparameters(
        rules.name, layers, n_embd, n_vocab, context, head_dim, heads, kv_heads, feed_forward
    )


@dataclass(frozen=True)
class _Numbers:
    """Reads bounded numbers below `<architecture>.`."""

    file: Container
    prefix: str

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.file.scalar(f"{self.prefix}.{key}")
        if value is None and default is not None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise UnsupportedModel(
                f"{self.file.path}: {self.prefix}.{key} is {value}; a number from {low} to {high} is needed."
            )
        return value

    def per_layer(
        self, key: str, layers: int, high: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        name = f"{self.prefix}.{key}"
        field = self.file.fields.get(name)
        if field is None and default is not None:
            return default
        if field is not None and field.item is not None:
            values = self.file.integers(name, LLAMA_MAX_LAYERS) or []
        else:
            values = [self.number(key, 1, high)] * layers
        if len(values) != layers or not all(1 <= value <= high for value in values):
            raise UnsupportedModel(
                f"{self.file.path}: {name} should hold {layers} numbers from 1 to {high}, one per layer."
            )
        return tuple(values)

    def real(self, key: str, low: float, high: float, *, required: bool = True) -> None:
        value = self.file.scalar(f"{self.prefix}.{key}")
        if value is None and not required:
            return
        if not isinstance(value, float) or not math.isfinite(value) or not low <= value <= high:
            raise UnsupportedModel(
                f"{self.file.path}: {self.prefix}.{key} is {value}; a number from {low} to {high} is needed."
            )
