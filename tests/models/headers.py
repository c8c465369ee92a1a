"""Headers of models too big for any test: metadata as the converters write it, from the figures that are public.

No weights. What matters here are counts, patterns, flags and kinds; vocabularies are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypercluster.node.engine.tiny import metadata
from hypercluster.node.shards.writing import write_gguf

_DEEPSEEK: dict[str, Any] = {
    "block_count": 61,
    "embedding_length": 7168,
    "feed_forward_length": 18432,
    "attention.head_count_kv": 1,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.q_lora_rank": 1536,
    "attention.kv_lora_rank": 512,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "expert_used_count": 8,
    "expert_feed_forward_length": 2048,
    "expert_shared_count": 1,
    "expert_weights_norm": True,
    "expert_gating_func": 2,
    "rope.dimension_count": 64,
    "rope.scaling.type": "yarn",
    "rope.scaling.original_context_length": 4096,
    "rope.scaling.yarn_log_multiplier": 0.1,
    "vocab_size": 129280,
}
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DeepSeek-V3": (
        "deepseek2",
        _DEEPSEEK
        | {
            "context_length": 163840,
            "attention.head_count": 128,
            "rope.freq_base": 10000.0,
            "leading_dense_block_count": 3,
            "expert_count": 256,
            "expert_weights_scale": 2.5,
            "expert_group_count": 8,
            "expert_group_used_count": 4,
            "rope.scaling.factor": 40.0,
        },
    ),
    "Kimi-K2": (
        "deepseek2",
        _DEEPSEEK
        | {
            "context_length": 131072,
            "attention.head_count": 64,
            "rope.freq_base": 50000.0,
            "leading_dense_block_count": 1,
            "expert_count": 384,
            "expert_weights_scale": 2.827,
            "rope.scaling.factor": 32.0,
            "vocab_size": 163840,
        },
    ),
    "gpt-oss-120b": (
        "gpt-oss",
        {
            "block_count": 36,
            "context_length": 131072,
            "embedding_length": 2880,
            "feed_forward_length": 2880,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 64,
            "attention.value_length": 64,
            "attention.sliding_window": 128,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "expert_count": 128,
            "expert_used_count": 4,
            "expert_feed_forward_length": 2880,
            "rope.freq_base": 150000.0,
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 32.0,
            "rope.scaling.original_context_length": 4096,
            "vocab_size": 201088,
        },
    ),
    "Qwen3-235B-A22B": (
        "qwen3moe",
        {
            "block_count": 94,
            "context_length": 40960,
            "embedding_length": 4096,
            "feed_forward_length": 12288,
            "attention.head_count": 64,
            "attention.head_count_kv": 4,
            "attention.key_length": 128,
            "attention.value_length": 128,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "expert_count": 128,
            "expert_used_count": 8,
            "expert_feed_forward_length": 1536,
            "rope.freq_base": 1e6,
            "vocab_size": 151936,
        },
    ),
    "GLM-4.5": (
        "glm4moe",
        {
            "block_count": 93,
            "context_length": 131072,
            "embedding_length": 5120,
            "feed_forward_length": 12288,
            "attention.head_count": 96,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "attention.value_length": 128,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "leading_dense_block_count": 3,
            "expert_count": 160,
            "expert_used_count": 8,
            "expert_feed_forward_length": 1536,
            "expert_shared_count": 1,
            "expert_gating_func": 2,
            "expert_weights_scale": 2.5,
            "expert_weights_norm": True,
            "nextn_predict_layers": 1,
            "rope.dimension_count": 64,
            "rope.freq_base": 1e6,
            "vocab_size": 151552,
        },
    ),
}


def write_header(path: Path, name: str, **changes: Any) -> Path:
    """Write the header of a model of HEADERS as a GGUF file without tensors, some keys changed (`__` for a dot)."""
    architecture, meta = HEADERS[name]
    changed = meta | {key.replace("__", "."): value for key, value in changes.items()}
    return write_gguf(path, metadata(architecture, {k: v for k, v in changed.items() if v is not None}), ())
