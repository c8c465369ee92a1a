"""Writes GGUF models with random weights, for tests and benchmarks; any size, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import quants
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.container import CHUNK
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.writing import Part, Value, float32, int32s, text, texts, uint32, write_gguf

# Byte-level BPE: GPT-2's printable stand-ins for the 256 bytes.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_ALIAS = {byte: byte for byte in _PRINTABLE}
_ALIAS |= {byte: 256 + i for i, byte in enumerate(b for b in range(256) if b not in _ALIAS)}
BYTE_TOKENS = [chr(_ALIAS[byte]) for byte in range(256)]
MERGES = ["t h", "h e", "th e", "i n", "e r", "a n", "o u"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a random model; `rope_freqs` adds Llama 3's factors, `tied` drops the output matrix."""

    architecture: str = "llama"
    layers: int = 4
    n_embd: int = 64
    heads: int = 4
    kv_heads: int = 2
    n_ff: int = 128
    n_vocab: int = 320
    context: int = 256
    head_dim: int | None = None
    quantisation: Type = Type.F32
    tied: bool = False
    rope_freqs: bool = False
    rope_base: float = 10000.0
    vocabulary: bool = True
    seed: int = 0


def write_random_model(path: Path, shape: Shape | None = None) -> Path:
    """Write a random model of the given shape and return `path`."""
    shape = shape or Shape()
    return write_gguf(path, _metadata(shape), list(_parts(shape)))


def rewritten(
    source: Path,
    dest: Path,
    *,
    metadata: dict[str, Value | None] | None = None,
    parts: Callable[[list[Part]], list[Part]] = lambda parts: parts,
) -> Path:
    """A copy of `source` with metadata replaced (None removes) and its tensors passed through `parts`."""
    file = read_container(source)
    values: dict[str, Value | None] = {
        key: Value(field.type, file.raw(key)) for key, field in file.fields.items()
    }
    values |= metadata or {}
    tensors = [
        Part(t.name, t.type, t.shape, lambda t=t: file.chunks(t))  # type: ignore[misc]
        for t in file.tensors.values()
    ]
    return write_gguf(dest, {k: v for k, v in values.items() if v is not None}, parts(tensors))


def vocabulary(n_vocab: int) -> dict[str, Value]:
    """A byte-level BPE tokenizer of `n_vocab` (at least 264) tokens; the last is the end-of-text token."""
    merged = [merge.replace(" ", "") for merge in MERGES]
    fill = [f"[{i}]" for i in range(n_vocab - 257 - len(merged))]
    tokens = [*BYTE_TOKENS, *merged, *fill, "<|end|>"]
    return {
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("default"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": int32s([1] * (n_vocab - 1) + [3]),
        "tokenizer.ggml.merges": texts(MERGES),
        "tokenizer.ggml.bos_token_id": uint32(n_vocab - 1),
        "tokenizer.ggml.eos_token_id": uint32(n_vocab - 1),
    }


def _metadata(s: Shape) -> dict[str, Value]:
    name = s.architecture
    epsilon = "layer_norm_epsilon" if name == "gpt2" else "layer_norm_rms_epsilon"
    metadata = {
        "general.architecture": text(name),
        "general.name": text(f"Random {name}"),
        f"{name}.context_length": uint32(s.context),
        f"{name}.embedding_length": uint32(s.n_embd),
        f"{name}.block_count": uint32(s.layers),
        f"{name}.feed_forward_length": uint32(s.n_ff),
        f"{name}.attention.head_count": uint32(s.heads),
        f"{name}.attention.head_count_kv": uint32(_kv_heads(s)),
        f"{name}.attention.{epsilon}": float32(1e-5),
        f"{name}.rope.freq_base": float32(s.rope_base),
    }
    if s.head_dim is not None:
        metadata[f"{name}.attention.key_length"] = uint32(s.head_dim)
        metadata[f"{name}.attention.value_length"] = uint32(s.head_dim)
    if s.vocabulary:
        return metadata | vocabulary(s.n_vocab)
    return metadata | {"tokenizer.ggml.model": text("no_vocab"), f"{name}.vocab_size": uint32(s.n_vocab)}


def _kv_heads(s: Shape) -> int:
    return s.heads if s.architecture == "gpt2" else s.kv_heads


def _parts(s: Shape) -> Iterator[Part]:
    rng = np.random.default_rng(s.seed)
    # ternary types hold the layers of a BitNet; its embedding stays in f16
    outer = Type.F16 if s.quantisation in (Type.TQ1_0, Type.TQ2_0) else s.quantisation
    yield _matrix(rng, "token_embd.weight", s.n_embd, s.n_vocab, outer, scale=0.1)
    if s.architecture == "gpt2":
        yield _matrix(rng, "position_embd.weight", s.n_embd, s.context, Type.F32, scale=0.1)
    if s.rope_freqs:
        yield _vector("rope_freqs.weight", rng.uniform(1.0, 8.0, (s.head_dim or s.n_embd // s.heads) // 2))
    for layer in range(s.layers):
        yield from _layer(s, rng, f"blk.{layer}.")
    yield _vector("output_norm.weight", rng.normal(1, 0.1, s.n_embd))
    if s.architecture == "gpt2":
        yield _vector("output_norm.bias", rng.normal(0, 0.1, s.n_embd))
    if not s.tied and s.architecture != "bitnet":
        yield _matrix(rng, "output.weight", s.n_embd, s.n_vocab, outer)


def _layer(s: Shape, rng: np.random.Generator, prefix: str) -> Iterator[Part]:
    head_dim = s.head_dim or s.n_embd // s.heads
    query, key = s.heads * head_dim, _kv_heads(s) * head_dim
    if s.architecture == "gpt2":
        shapes = {"attn_qkv": (s.n_embd, query + 2 * key)}
    else:
        shapes = {"attn_q": (s.n_embd, query), "attn_k": (s.n_embd, key), "attn_v": (s.n_embd, key)}
        shapes["ffn_gate"] = (s.n_embd, s.n_ff)
    shapes |= {"attn_output": (query, s.n_embd), "ffn_up": (s.n_embd, s.n_ff), "ffn_down": (s.n_ff, s.n_embd)}
    norms = {"attn_norm": s.n_embd, "ffn_norm": s.n_embd}
    if s.architecture == "qwen3":
        norms |= {"attn_q_norm": head_dim, "attn_k_norm": head_dim}
    if s.architecture == "bitnet":
        norms |= {"attn_sub_norm": s.n_embd, "ffn_sub_norm": s.n_ff}
    biased = {"gpt2": tuple(shapes), "qwen2": ("attn_q", "attn_k", "attn_v")}.get(s.architecture, ())

    for name, width in norms.items():
        yield _vector(f"{prefix}{name}.weight", rng.normal(1, 0.1, width))
        if s.architecture == "gpt2":
            yield _vector(f"{prefix}{name}.bias", rng.normal(0, 0.1, width))
    for name, (columns, rows) in shapes.items():
        yield _matrix(rng, f"{prefix}{name}.weight", columns, rows, s.quantisation)
        if s.architecture == "bitnet":
            yield _vector(f"{prefix}{name}.scale", rng.uniform(0.5, 1.5, 1))
        if name in biased:
            yield _vector(f"{prefix}{name}.bias", rng.normal(0, 0.1, rows))


def _vector(name: str, values: np.ndarray) -> Part:
    raw = values.astype("<f4").tobytes()
    return Part(name, Type.F32, (values.size,), lambda: (raw,))


def _matrix(
    rng: np.random.Generator, name: str, columns: int, rows: int, type_: Type, scale: float | None = None
) -> Part:
    """Normal weights that keep activations near one; drawn when they are written, row block by row block."""
    seed = int(rng.integers(1 << 62))
    deviation = columns**-0.5 if scale is None else scale

    def chunks() -> Iterable[bytes]:
        source = np.random.default_rng(seed)
        step = max(1, CHUNK // (4 * columns))
        for start in range(0, rows, step):
            block = source.standard_normal((min(step, rows - start), columns), dtype=np.float32) * deviation
            yield quants.quantize(block.astype(np.float32), type_).tobytes()

    return Part(name, type_, (columns, rows), chunks)
