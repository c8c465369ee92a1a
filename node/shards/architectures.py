"""What each supported architecture consists of: the tensors of its parts (its numbers: hyperparameters.py).

The tables follow llama.cpp's own loaders (src/models/<architecture>.cpp, llama_model_base::load_hparams):
what they require is required here, what they would ignore or abort on is refused here. A model has four
parts: `shared` (tensors that every layer uses), `embedding`, one part per layer, and `head`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import UnsupportedModel

LLAMA_MAX_LAYERS = 512  # as llama.cpp has it
MAX_WIDTH = 1 << 17  # of embeddings, feed-forward rows and attention
MAX_VOCABULARY = 1 << 21
MAX_CONTEXT = 1 << 24

# What ggml can multiply with activations on a CPU (type_traits_cpu with a vec_dot) and also read rows of.
MATRIX_TYPES = frozenset(
    {Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.MXFP4}
    | {Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.TQ1_0, Type.TQ2_0}
    | {Type.IQ1_S, Type.IQ1_M, Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S}
    | {Type.IQ4_NL, Type.IQ4_XS}
)
VECTOR_TYPES = frozenset({Type.F32})  # norms, biases and scales enter element-wise operations with f32


@dataclass(frozen=True)
class Hyperparameters:
    """The numbers that decide the shapes. `heads`, `kv_heads` and `feed_forward` have one entry per layer."""

    architecture: str
    layers: int
    n_embd: int
    n_vocab: int
    context: int
    head_dim: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    feed_forward: tuple[int, ...]


class Kind(Enum):
    """How llama.cpp uses a tensor, which decides the types it may have."""

    MATRIX = MATRIX_TYPES
    VECTOR = VECTOR_TYPES


@dataclass(frozen=True)
class Spec:
    """What a tensor must look like; shape in ggml order (row length first)."""

    shape: tuple[int, ...]
    kind: Kind = Kind.VECTOR
    required: bool = True


Specs = dict[str, Spec]


@dataclass(frozen=True)
class Architecture:
    """The rules of one architecture. Tensor names inside a layer leave out `blk.N.`."""

    name: str
    layer: Callable[[Hyperparameters, int, frozenset[str]], Specs]
    epsilon: str
    learned_positions: bool = False
    bias_in_norms: bool = False
    bias_in_head: bool = False
    always_tied: bool = False
    rope_factors: bool = False  # Llama 3's rope_freqs, shared by all layers
    full_rotation: bool = False  # llama.cpp asserts that rotation covers the whole head
    square_attention: bool = True  # heads * head_dim == n_embd

    def embedding(self, h: Hyperparameters) -> Specs:
        """Tensors of the embedding part."""
        specs = {"token_embd.weight": Spec((h.n_embd, h.n_vocab), Kind.MATRIX)}
        if self.learned_positions:
            specs["position_embd.weight"] = Spec((h.n_embd, h.context), Kind.MATRIX)
        return specs

    def head(self, h: Hyperparameters) -> Specs:
        """Tensors of the head. Without `output.weight` the model is tied to token_embd."""
        specs = {"output_norm.weight": Spec((h.n_embd,))}
        if self.bias_in_norms:
            specs["output_norm.bias"] = Spec((h.n_embd,))
        if not self.always_tied:
            specs["output.weight"] = Spec((h.n_embd, h.n_vocab), Kind.MATRIX, required=False)
        if self.bias_in_head:
            specs["output.bias"] = Spec((h.n_vocab,), required=False)
        return specs

    def shared(self, h: Hyperparameters) -> Specs:
        """Tensors that every layer uses."""
        return {"rope_freqs.weight": Spec((h.head_dim // 2,), required=False)} if self.rope_factors else {}


def _matrices(shapes: dict[str, tuple[int, int]], *, biases: bool) -> Specs:
    """Matrices with the per-tensor scale, and the bias where the graph adds one, that llama.cpp looks for."""
    specs: Specs = {}
    for name, shape in shapes.items():
        specs[f"{name}.weight"] = Spec(shape, Kind.MATRIX)
        specs[f"{name}.scale"] = Spec((1,), required=False)
        if biases:
            specs[f"{name}.bias"] = Spec((shape[1],), required=False)
    return specs


def _vectors(names: str, width: int) -> Specs:
    return {name: Spec((width,)) for name in names.split()}


def _attention(h: Hyperparameters, layer: int, present: frozenset[str], *, biases: bool) -> Specs:
    query, key = h.heads[layer] * h.head_dim, h.kv_heads[layer] * h.head_dim
    if "attn_qkv.weight" in present:
        return _matrices({"attn_qkv": (h.n_embd, query + 2 * key)}, biases=biases)
    return _matrices(
        {"attn_q": (h.n_embd, query), "attn_k": (h.n_embd, key), "attn_v": (h.n_embd, key)}, biases=biases
    )


def _attention_output(h: Hyperparameters, layer: int, *, biases: bool) -> Specs:
    return _matrices({"attn_output": (h.heads[layer] * h.head_dim, h.n_embd)}, biases=biases)


def _gated(h: Hyperparameters, layer: int, *, biases: bool = False) -> Specs:
    width = h.feed_forward[layer]
    shapes = {"ffn_gate": (h.n_embd, width), "ffn_up": (h.n_embd, width), "ffn_down": (width, h.n_embd)}
    return _matrices(shapes, biases=biases)


def _llama(h: Hyperparameters, layer: int, present: frozenset[str]) -> Specs:
    return (
        _vectors("attn_norm.weight ffn_norm.weight", h.n_embd)
        | _attention(h, layer, present, biases=True)
        | _attention_output(h, layer, biases=True)
        | _gated(h, layer, biases=True)
    )


def _qwen2(h: Hyperparameters, layer: int, present: frozenset[str]) -> Specs:
    return (
        _vectors("attn_norm.weight ffn_norm.weight", h.n_embd)
        | _attention(h, layer, present, biases=True)
        | _attention_output(h, layer, biases=False)
        | _gated(h, layer)
    )


def _qwen3(h: Hyperparameters, layer: int, present: frozenset[str]) -> Specs:
    return _qwen2(h, layer, present) | _vectors("attn_q_norm.weight attn_k_norm.weight", h.head_dim)


def _gpt2(h: Hyperparameters, layer: int, present: frozenset[str]) -> Specs:
    width = h.feed_forward[layer]
    shapes = {
        "attn_qkv": (h.n_embd, h.n_embd + 2 * h.kv_heads[layer] * h.head_dim),
        "attn_output": (h.n_embd, h.n_embd),
        "ffn_up": (h.n_embd, width),
        "ffn_down": (width, h.n_embd),
    }
    biases = {f"{name}.bias": Spec((shape[1],)) for name, shape in shapes.items()}
    norms = _vectors("attn_norm.weight attn_norm.bias ffn_norm.weight ffn_norm.bias", h.n_embd)
    return norms | _matrices(shapes, biases=False) | biases


def _bitnet(h: Hyperparameters, layer: int, present: frozenset[str]) -> Specs:
    return (
        _vectors("attn_norm.weight attn_sub_norm.weight ffn_norm.weight", h.n_embd)
        | _vectors("ffn_sub_norm.weight", h.feed_forward[layer])
        | _attention(h, layer, frozenset(), biases=False)
        | _attention_output(h, layer, biases=False)
        | _gated(h, layer)
    )


_RMS, _LAYER_NORM = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
ARCHITECTURES = {
    rules.name: rules
    for rules in (
        Architecture("llama", _llama, _RMS, rope_factors=True, full_rotation=True, square_attention=False),
        Architecture("qwen2", _qwen2, _RMS, bias_in_head=True, full_rotation=True),
        Architecture("qwen3", _qwen3, _RMS, full_rotation=True, square_attention=False),
        Architecture("gpt2", _gpt2, _LAYER_NORM, learned_positions=True, bias_in_norms=True),
        Architecture("bitnet", _bitnet, _RMS, always_tied=True),
    )
}


def architecture_of(file: Container) -> Architecture:
    """The rules for a file's architecture. Raises UnsupportedModel, MalformedFile."""
    name = file.scalar("general.architecture")
    if not isinstance(name, str):
        raise UnsupportedModel(f"{file.path} names no architecture, so it is no model file.")
    rules = ARCHITECTURES.get(name)
    if rules is None:
        known = ", ".join(ARCHITECTURES)
        raise UnsupportedModel(f"{file.path} has the architecture {name!r}; supported are {known}.")
    return rules
