"""The metadata of a tiny model of each architecture: more keys than any loader reads, and they ignore the rest.

It follows llama.cpp's own tests (tests/test-llama-archs.cpp), with more layers, grouped query attention, a sliding
window shorter than a prompt, and patterns by layer as the converters write them.
"""

from __future__ import annotations

from typing import Any

from hypercluster.node.shards.rules import INDEXERS, PATTERN

VOCABULARY, CONTEXT, WINDOW = 128, 256, 8
Meta = dict[str, Any]
"""keys without `<architecture>.`: whole numbers, floats, flags, texts, or lists of the first three"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WITHOUT_HEADS = _names(
    """jamba granitehybrid lfm2 lfm2moe kimi-linear kimi-k3 nemotron_h nemotron_h_moe bailingmoe3 glm5-next plamo2"""
)
"""a layer without key-value heads is recurrent"""
MLA = _names(
    """deepseek2 deepseek32 glm-dsa dots3note kimi-linear bailingmoe3 kimi-k3 glm5-next hy_v4 mistral4"""
)
"""keys and values of a layer are compressed into one vector"""
_WINDOWS = _names(
    """cohere2moe mimo2 step35 spark2_5 muse-glimmer granite_swa dots3note maple gemma4 exaone4 exaone-moe mellum laguna
    olmo2"""
)
_EXPERTS = _names(
    """llama4 cohere2moe grok qwen2moe qwen3moe qwen3next qwen3vlmoe qwen35moe qwen4exp phimoe dbrx olmoe arctic
    deepseek
    deepseek2 deepseek32 dots3note deepseek4 glm4moe glm-dsa exaone-moe bailingmoe bailingmoe2 bailingmoe3 dots1 afmoe
    ernie4_5-moe hunyuan-moe hy_v3 hy_v4 gpt-oss lfm2moe smallthinker grovemoe minimax-01 minimax-m2 minimax-m3 mimo2
    kimi-linear kimi-k3 glm5-next step35 mistral4 mellum laguna maple granitemoe nemotron_h_moe"""
)
_UNGROUPED = _names(
    """gpt2 starcoder bloom mpt gptneox phi2 olmo codeshell bitnet refact jais plamo qwen orion baichuan xverse plamo2
    kimi-linear kimi-k3 bailingmoe3 minimax-m3 talkie olmoe dots1 minicpm3 plm"""
)
_LAYERS = {
    "afmoe": 8,
    "cohere2": 8,
    "gemma3": 8,
    "gemma3n": 22,
    "gemma4": 10,
    "llama4": 8,
    "plamo3": 10,
    "smollm3": 8,
}
_SIZES = {"deepseek4": (512, 8, 1024), "gemma3n": (64, 2, 96), "gemma4": (128, 2, 192)}


def template(
    architecture: str, *, layers: int | None = None, experts: bool | None = None, changes: Meta | None = None
) -> Meta:
    """The metadata of a tiny model; `changes` replace keys, None removes one."""
    n = layers or _LAYERS.get(architecture, 6)
    width, heads, inner = _SIZES.get(architecture, (128, 2, 192) if architecture in MLA else (256, 4, 384))
    kv = 1 if architecture == "deepseek4" else heads if architecture in _UNGROUPED else heads // 2
    meta = _common(n, width, heads, kv, inner)
    for choose in (_recurrent, _attention, _windows, _streams, _oddities):
        meta |= choose(architecture, n, width, heads, kv, inner)
    if architecture in _EXPERTS if experts is None else experts:
        meta |= _experts(architecture, inner)
    meta |= changes or {}
    return {key: value for key, value in meta.items() if value is not None}


def _common(n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    head = width // heads
    return {
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
        "embedding_length": width,
        "features_length": width,
        "block_count": n,
        "leading_dense_block_count": 1,
        "feed_forward_length": inner,
        "use_parallel_residual": False,
        "logit_scale": 1.5,
        "full_attention_interval": 3,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.max_alibi_bias": 8.0,
        "attention.clamp_kqv": 8.0,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.group_norm_epsilon": 1e-5,
        "attention.group_norm_groups": 8,
        "attention.q_lora_rank": 64,
        "attention.kv_lora_rank": 64,
        "attention.relative_buckets_count": 8,
        "attention.sliding_window": WINDOW,
        "attention.indexer.head_count": 64,
        "attention.indexer.key_length": 128,
        "attention.indexer.top_k": 131072,
        "attention.indexer.block_size": 4,
        "attention.indexer.kpool": 4,
        "attention.indexer.kpool_select_tail": True,
        "attention.indexer.local_blocks": 1,
        "rope.freq_base": 10000.0,
        "rope.freq_base_swa": 5000.0,
        "rope.dimension_sections": [head // 8] * 4,
        "ssm.inner_size": 2 * width,
        "ssm.conv_kernel": 4,
        "ssm.state_size": 32,
        "ssm.time_step_rank": heads,
        "ssm.group_count": 2,
        "kda.head_dim": 64,
        "kda.safe_gate": True,
        "kda.gate_lower_bound": -5.0,
        "shortconv.l_cache": 3,
        "residual_scale": 0.8,
        "embedding_scale": 3.0,
        "attn_res.block_size": 2,
        "activation.situ_beta": 4.0,
        "activation.situ_linear_beta": 25.0,
        "swiglu_clamp_exp": [7.0] * n,
        "swiglu_clamp_shexp": [7.0] * n,
    }


def _experts(architecture: str, inner: int) -> Meta:
    return {
        "expert_feed_forward_length": inner,
        "expert_shared_feed_forward_length": inner // 2,
        "expert_latent_length": inner,
        "interleave_moe_layer_step": 2,
        "expert_count": 4,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_gating_func": 4 if architecture == "deepseek4" else 2,
        "expert_group_scale": 1.0,
        "experts_per_group": 1,
    }


def _recurrent(architecture: str, n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    if architecture in ("qwen3next", "qwen35", "qwen35moe", "qwen4exp"):
        return {"ssm.inner_size": 128, "ssm.time_step_rank": 4}
    meta: Meta = {"ssm.group_count": 0} if architecture == "plamo2" else {}
    if architecture in WITHOUT_HEADS:
        meta["attention.head_count_kv"] = [kv if layer % 3 == 1 else 0 for layer in range(n)]
    if architecture.startswith(
        "nemotron_h"
    ):  # attention, recurrence and feed-forward are layers of their own
        meta["feed_forward_length"] = [inner if layer % 3 == 2 else 0 for layer in range(n)]
    return meta


def _attention(architecture: str, n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    if architecture in ("minicpm3", "plm"):
        return {"attention.key_length": 96, "attention.value_length": 64, "rope.dimension_count": 32}
    if architecture == "minimax-m3":
        return {
            "rope.dimension_count": 32,
            "attention.indexer.head_count": heads,
            "attention.indexer.key_length": 64,
        }
    if architecture not in MLA:
        return {}
    rotated = 0 if architecture == "glm5-next" else 32
    some = architecture in ("kimi-linear", "kimi-k3", "bailingmoe3", "glm5-next")
    return {
        "attention.key_length": 64 + rotated,
        "attention.value_length": 64,
        "rope.dimension_count": rotated,
        "attention.key_length_mla": 64 + rotated,
        "attention.value_length_mla": 64,
        "attention.head_count_kv": [int(layer % 3 == 1) for layer in range(n)] if some else 1,
    }


def _windows(architecture: str, n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    meta: Meta = {}
    if architecture in _WINDOWS:
        meta[PATTERN] = [layer % 3 != 2 for layer in range(n)]
    if architecture == "dots3note":
        meta[PATTERN] = [layer % 2 == 1 for layer in range(n)]
        meta |= {f"attention.{key}_swa": 64 for key in ("kv_lora_rank", "value_length", "value_length_mla")}
        meta |= {f"attention.{key}_swa": 96 for key in ("key_length", "key_length_mla")}
    if architecture in ("dots3note", "hy_v4"):
        meta[INDEXERS] = [1 - layer % 2 for layer in range(n)]
    if architecture == "granite_swa":
        meta["attention.rope_pattern"] = [layer % 2 == 1 for layer in range(n)]
    if architecture == "gemma3n":
        meta[PATTERN] = 5
    if architecture == "gemma4":
        head = width // heads
        meta |= {
            PATTERN: [layer % 5 != 4 for layer in range(n)],
            "embedding_length_per_layer_input": 0,
            "attention.shared_kv_layers": 0,
            "attention.key_length_swa": head,
            "attention.value_length_swa": head,
            "rope.dimension_count_swa": head,
        }
    return meta


def _streams(architecture: str, n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    """Several residuals beside each other, and tables of embeddings by n-grams of tokens."""
    meta: Meta = {}
    if architecture in ("qwen4exp", "glm5-next", "hy_v4", "deepseek4"):
        meta |= {
            "hyper_connection.count": 4,
            "hyper_connection.sinkhorn_iterations": 2,
            "hyper_connection.epsilon": 1e-6,
            "hyper_connection.low_rank": 8,
            "hyper_connection.magnitude": 2.0,
            "expert_weights_scale": 1.0,
            "expert_weights_norm": True,
        }
    if architecture in ("qwen4exp", "glm5-next"):
        tables = 4
        meta |= {
            "attention.compress_ratios": [4] * n,
            "ple.layers": [0],
            "ple.ngram_size": 3,
            "ple.heads_per_ngram": 2,
            "ple.conv_kernel": 4,
            "ple.eos_token_id": 0,
            "embedding_length_per_layer_input": width // tables,
            "ple.layer_multipliers": [1, 3, 5],
            "ple.head_offsets": [VOCABULARY * table for table in range(tables)],
            "ple.head_vocab_sizes": [VOCABULARY] * tables,
        }
    if architecture == "qwen4exp":
        meta["attention.indexer.key_length"] = width // heads
    if architecture == "deepseek4":
        head = width // heads
        meta |= {
            "attention.key_length": head,
            "attention.value_length": head,
            "rope.dimension_count": head // 2,
            "attention.output_group_count": 8,
            "attention.output_lora_rank": 32,
            "attention.compress_ratios": ([0, 0, 4, 128] * n)[:n],
            "attention.compress_rope_freq_base": 160000.0,
            "hash_layer_count": 2,
            "leading_dense_block_count": 0,
        }
    return meta


def _oddities(architecture: str, n: int, width: int, heads: int, kv: int, inner: int) -> Meta:
    if architecture == "apertus":
        starts = {"alpha_n": 0.8, "alpha_p": 0.9, "beta": 0.5, "eps": -1e-6}
        return {f"xielu.{key}": [value + 0.1 * layer for layer in range(n)] for key, value in starts.items()}
    if architecture in ("glm4", "glm4moe"):
        return {"rope.dimension_sections": None}
    if architecture == "hrm_text":
        return {"hrm.layers_per_stack": 1, "hrm.h_cycles": 2, "hrm.l_cycles": 2}
    return {"num_loops": 1} if architecture == "nanbeige" else {}
