"""What each architecture needs beyond the general rule of cutting: all that is known per architecture stands here.

Most need nothing: they are only named, which says that the sweep has found their shards exact. The rest is
taken from llama.cpp's own graphs and loaders (src/models), and held to them by the sweep over all architectures.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hypercluster.node.shards.errors import UnsupportedModel

PATTERN = "attention.sliding_window_pattern"
RECURRENT = "attention.recurrent_layers"
INDEXERS = "attention.indexer.types"

HEAD = re.compile(
    r"(output|output_norm|output_hc.*|output_res.*|cls.*|dense_\d.*|hc_head.*|altup_unembd.*)\..*"
)
EMBEDDING = re.compile(r"(token_embd|position_embd|token_types|per_layer_token_embd|token_embd_norm)\..*")

NOT_PER_LAYER = frozenset(
    {
        "rope.dimension_sections",
        "ple.layers",
        "ple.layer_multipliers",
        "ple.head_offsets",
        "ple.head_vocab_sizes",
        "classifier.output_labels",
        "adapters.token_ids_activate",
    }
)
"""lists that do not have one entry per layer, also where they happen to be as long"""


Corrections = Callable[[int, int, Collection[str], Collection[str]], dict[str, int | float]]


@dataclass(frozen=True)
class Rule:
    """What cutting one architecture needs; the defaults are the general rule.

    `sliding` is the default pattern of sliding windows: one in n layers attends to everything, the first of
    them (True) or the last. `recurrent` is that of recurrent layers: one in n attends, the last. `period` is
    the length of a pattern that no metadata can move, so that zero layers go in front; `period_key` is a key
    that holds one. `entry` is the tensor that enters layer 0 and `exit` the one that leaves layer {last};
    `between` is what enters layer {at} where that is not what leaves the layer before. Where the embedding is
    `scaled` or normed whatever enters, where the residual consists of several `streams` per token (a number, or
    the key that holds it), and where llama.cpp `aborts` on rows, rows enter in the callback. `tokens` are
    layers that read the token ids too, and so do those of a model in which the key `embedded` is not zero,
    whose layers compute with the tokens' embeddings: such a model keeps all its layers. `pinned` numbers of
    layers make llama.cpp compute another way, so that a model of such a number keeps all its layers, and so do
    all models of a `skeleton` architecture; no other shard may have a pinned or an `avoid`ed number. Ranges
    start only where the list `starts` is not zero, end only where `ends` is not, and layers behind the first so
    many `owners` use the caches of the last two of these. `planes` are streams that lie one behind the other,
    each with all tokens. Caches that cannot forget their last tokens do not `rewind`. `corrections` are keys
    that llama.cpp would guess from a number of layers, by the true numbers of layers and tokens and the names
    of the tensors and keys. `refused` says why an architecture cannot be cut.
    """

    sliding: tuple[int, bool] | None = None
    recurrent: int = 0
    period: int = 1
    period_key: str | None = None
    entry: str = "embd"
    exit: str = "l_out-{last}"
    between: str = ""
    scaled: bool = False
    streams: int | str = 1
    planes: bool = False
    aborts: bool = False
    tokens: bool = False
    embedded: str | None = None
    norm_is_head: bool = False  # token_embd_norm is in truth the norm of the output
    pinned: tuple[int, ...] = ()
    avoid: tuple[int, ...] = ()
    skeleton: bool = False
    starts: str | None = None
    ends: str | None = None
    owners: int | None = None
    rewinds: bool = True
    shares: bool = True
    scale: bool = False  # without embedding_scale the loader scales by a number of its own
    corrections: Corrections | None = None
    refused: str | None = None


def _minicpm(
    layers: int, _tokens: int, _tensors: Collection[str], keys: Collection[str]
) -> dict[str, int | float]:
    if "residual_scale" in keys:
        return {}
    return {"residual_scale": float32_of(float32_of(1.4) / float32_of(math.sqrt(layers)))}


def _deepseek2(
    layers: int, tokens: int, tensors: Collection[str], keys: Collection[str]
) -> dict[str, int | float]:
    found: dict[str, int | float] = {}
    if not any(".attn_q_a." in name for name in tensors):
        found["attention.q_lora_rank"] = 0
    if "expert_gating_func" not in keys:
        found["expert_gating_func"] = 2 if layers in (47, 48) and tokens == 154880 else 1
    return found


def float32_of(value: float) -> float:
    """The nearest number that a float32 can hold."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


_PLAIN = """
apertus arcee arctic bailingmoe bailingmoe2 bitnet chatglm codeshell dbrx deepseek deepseek32 dots1 dots3note
ernie4_5 exaone falcon gptneox granite granite_swa granitemoe grovemoe hunyuan-dense
hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 llama maincoder maple mimo2 minimax-m2
minimax-m3 mistral3 mistral4 nanbeige nemotron olmo olmoe openelm orion paddleocr pangu-embedded phi2 phi3
phimoe plamo plm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe refact seed_oss spark2_5 stablelm
starcoder2 xverse
"""

RULES: dict[str, Rule] = dict.fromkeys(_PLAIN.split(), Rule()) | {
    "afmoe": Rule(sliding=(4, False), period=4, entry="inp_embd_scaled", scaled=True),
    "baichuan": Rule(pinned=(32, 40)),
    "bailingmoe3": Rule(entry="model.input_embed", rewinds=False),
    "bloom": Rule(entry="inp_norm-0", scaled=True),
    "cogvlm": Rule(scaled=True),
    "cohere2": Rule(sliding=(4, False)),
    "cohere2moe": Rule(sliding=(4, True)),
    "command-r": Rule(pinned=tuple(range(64, 513))),
    "deci": Rule(starts="attention.head_count", ends="feed_forward_length"),
    "deepseek2": Rule(avoid=(26, 27), corrections=_deepseek2),
    "deepseek4": Rule(
        entry="hc_init", exit="l_last-{last}", streams="hyper_connection.count", tokens=True, rewinds=False
    ),
    "ernie4_5-moe": Rule(period_key="interleave_moe_layer_step"),
    "exaone-moe": Rule(sliding=(4, False)),
    "exaone4": Rule(sliding=(4, False), pinned=(64,)),
    "falcon-h1": Rule(rewinds=False),
    "gemma": Rule(entry="inp_scaled", scaled=True),
    "gemma2": Rule(sliding=(2, False), entry="inp_scaled", scaled=True, pinned=(46,)),
    "gemma3": Rule(sliding=(6, False), entry="inp_scaled", pinned=(62,)),
    "gemma3n": Rule(
        sliding=(5, False),
        entry="inp_stacked",
        streams=4,
        planes=True,
        embedded="embedding_length",
        skeleton=True,
        owners=20,
    ),
    "gemma4": Rule(entry="inp_scaled", embedded="embedding_length_per_layer_input"),
    "glm-dsa": Rule(starts=INDEXERS),
    "glm4": Rule(aborts=True),
    "glm4moe": Rule(aborts=True),
    "glm5-next": Rule(entry="hc_init", streams="hyper_connection.count", starts=INDEXERS, rewinds=False),
    "gpt-oss": Rule(sliding=(2, False)),
    "gpt2": Rule(entry="inpL"),
    "granitehybrid": Rule(rewinds=False),
    "grok": Rule(scale=True),
    "hrm_text": Rule(refused="its layers run in loops"),
    "hy_v4": Rule(entry="hc_init", streams="hyper_connection.count", starts=INDEXERS),
    "jamba": Rule(rewinds=False),
    "kimi-k3": Rule(refused="its layers read the inputs of many layers before them"),
    "kimi-linear": Rule(entry="model.embed_tokens", rewinds=False, shares=False),
    "laguna": Rule(sliding=(4, True)),
    "lfm2": Rule(norm_is_head=True, entry="model.embed_tokens", rewinds=False),
    "lfm2moe": Rule(norm_is_head=True, entry="model.embed_tokens", rewinds=False),
    "llama4": Rule(sliding=(4, False), period=4, period_key="interleave_moe_layer_step"),
    "mamba": Rule(rewinds=False),
    "mamba2": Rule(rewinds=False),
    "mellum": Rule(sliding=(4, False)),
    "minicpm": Rule(scale=True, corrections=_minicpm),
    "minicpm3": Rule(entry="inp_scaled", skeleton=True),
    "minimax-01": Rule(recurrent=8, skeleton=True, rewinds=False, shares=False),
    "mpt": Rule(entry="inpL"),
    "muse-glimmer": Rule(sliding=(4, False), entry="embd_norm", scaled=True),
    "nemotron_h": Rule(exit="nemotron_h_block_out-{last}", rewinds=False),
    "nemotron_h_moe": Rule(exit="nemotron_h_block_out-{last}", rewinds=False),
    "olmo2": Rule(sliding=(4, False)),
    "plamo2": Rule(entry="embedding_output", exit="ffn_residual-{last}", rewinds=False),
    "plamo3": Rule(sliding=(8, False)),
    "qwen35": Rule(recurrent=4, entry="model.input_embed", rewinds=False),
    "qwen35moe": Rule(recurrent=4, entry="model.input_embed", rewinds=False),
    "qwen3next": Rule(recurrent=4, entry="model.embed_tokens", rewinds=False),
    "qwen4exp": Rule(
        recurrent=4,
        entry="hc_init",
        exit="l_last-{last}",
        streams="hyper_connection.count",
        tokens=True,
        rewinds=False,
    ),
    "smallthinker": Rule(sliding=(4, True), period=4, avoid=(4,)),
    "smollm3": Rule(period=4),
    "starcoder": Rule(entry="inpL"),
    "step35": Rule(entry="attn_norm_in-0", exit="h_nextn", between="attn_norm_in-{at}"),
    "talkie": Rule(refused="all its layers read the embedding of the tokens"),
}


def rule_of(architecture: str) -> Rule:
    """The rule of an architecture. Raises UnsupportedModel where shards of it would not be exact."""
    rule = RULES.get(architecture)
    if rule is None:
        raise UnsupportedModel(
            f"The architecture {architecture!r} is none of the {len(RULES)} that are known to be exact when cut; "
            "docs/models.md lists them."
        )
    if rule.refused is not None:
        raise UnsupportedModel(f"The architecture {architecture!r} cannot be cut exactly: {rule.refused}.")
    return rule
