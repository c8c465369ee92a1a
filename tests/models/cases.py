"""Which tiny models the sweep cuts: one of each architecture, and variants whose metadata switches the loader."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypercluster.node.engine.templates import Meta
from hypercluster.node.shards.rules import INDEXERS, PATTERN, RULES

_SMALL: Meta = {
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "swiglu_clamp_exp": None,
    "swiglu_clamp_shexp": None,
}
_YARN: Meta = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 32,
}
_HEADS: Meta = {"attention.key_length": 32, "attention.value_length": 32}


@dataclass(frozen=True)
class Case:
    """A tiny model: `changes` of its architecture's template, tensors to `drop`."""

    architecture: str
    layers: int | None = None
    experts: bool | None = None
    changes: Meta = field(default_factory=dict)
    drop: tuple[str, ...] = ()


ARCHITECTURES = {name: Case(name) for name in sorted(RULES)}

VARIANTS = {
    "baichuan-13B": Case("baichuan", 40, changes=_SMALL | {"attention.head_count_kv": 4}),
    "deci-variable-heads": Case(
        "deci",
        changes={
            "attention.head_count": [4, 0, 4, 4, 0, 4],
            "attention.head_count_kv": [2, 0, 2, 1, 0, 2],
            "feed_forward_length": [384, 0, 192, 384, 256, 384],
        },
    ),
    "deepseek2-61": Case("deepseek2", 61, changes={"swiglu_clamp_exp": None, "swiglu_clamp_shexp": None}),
    "deepseek2-lite": Case("deepseek2", 27, changes={"swiglu_clamp_exp": None, "swiglu_clamp_shexp": None}),
    "deepseek2-mtp": Case("deepseek2", 7, changes={"nextn_predict_layers": 1}),
    "deepseek4-5": Case("deepseek4", 5),
    "ernie-interleave": Case(
        "ernie4_5-moe", 8, changes={"interleave_moe_layer_step": 2, "leading_dense_block_count": 2}
    ),
    "gemma3-27B": Case("gemma3", 62, changes=_SMALL | _HEADS),
    "gemma3n-30": Case("gemma3n", 30),
    "gemma3-tied": Case("gemma3", drop=("output.weight",)),
    "gemma4-experts": Case("gemma4", experts=True),
    "gemma4-per-layer": Case("gemma4", changes={"embedding_length_per_layer_input": 32}),
    "gemma4-shared-caches": Case(
        "gemma4",
        changes={"attention.shared_kv_layers": 3, PATTERN: [layer not in (2, 6, 9) for layer in range(10)]},
    ),
    "glm-dsa-indexers": Case("glm-dsa", changes={INDEXERS: [1, 0, 1, 0, 0, 1]}),
    "glm4moe-mtp": Case("glm4moe", 7, changes={"nextn_predict_layers": 1}),
    "gpt-oss-yarn": Case("gpt-oss", changes=_YARN),
    "grok-old": Case("grok", changes={"embedding_scale": None}),
    "lfm2moe-lead2": Case("lfm2moe", changes={"leading_dense_block_count": 2}),
    "llama-yarn": Case("llama", changes=_YARN),
    "llama4-scout": Case("llama4", changes={"interleave_moe_layer_step": 1}),
    "minicpm-old": Case("minicpm", changes={"residual_scale": None, "embedding_scale": None}),
    "mixtral": Case("llama", experts=True),
    "openelm-variable": Case(
        "openelm",
        changes=_HEADS
        | {
            "attention.head_count": [4, 4, 8, 8, 4, 4],
            "attention.head_count_kv": [2, 2, 4, 2, 1, 4],
            "feed_forward_length": [128, 256, 384, 128, 256, 384],
        },
    ),
    "phi3-longrope": Case(
        "phi3", changes={"rope.scaling.original_context_length": 16, "rope.scaling.type": "longrope"}
    ),
    "qwen35moe-mtp": Case("qwen35moe", 7, changes={"nextn_predict_layers": 1}),
    "qwen3moe-tied": Case("qwen3moe", drop=("output.weight",)),
    "smollm3-10": Case("smollm3", 10),
    "llama4-10": Case("llama4", 10),
    "qwen3next-mtp": Case("qwen3next", 7, changes={"nextn_predict_layers": 1}),
}
CASES = ARCHITECTURES | VARIANTS
