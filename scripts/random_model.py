"""A model of the size of a real one with random weights, for benchmarks: no download, written in seconds.

Q4_0 blocks are drawn directly as random nibbles under one scale, so the weights are uniform with the spread of
a fresh layer; the arithmetic and the memory traffic are those of a trained model of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import LlamaFileType

from hypercluster.node.shards.writing import Part, Value, float32, int32s, text, texts, uint32, write_gguf

BLOCK = 32  # weights of a Q4_0 block: a float16 scale and 16 bytes of nibbles
NIBBLE_SPREAD = (16**2 / 12) ** 0.5  # standard deviation of a random nibble
CHUNK_BLOCKS = 1 << 18


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a Llama; the default is a model of one billion weights (that of TinyLlama and Llama 3.2 1B)."""

    layers: int = 16
    n_embd: int = 2048
    heads: int = 32
    kv_heads: int = 8
    n_ff: int = 8192
    n_vocab: int = 32_000
    context: int = 2048

    @property
    def weights(self) -> int:
        """Number of weights in all matrices."""
        return sum(columns * rows for _, columns, rows in _matrices(self))


def write_random_llama(path: Path, shape: LlamaShape, progress: Callable[[int], None] | None = None) -> Path:
    """Write the model as Q4_0 and return `path`; `progress` is told the bytes just written."""
    draw = np.random.default_rng(0)
    parts = [_matrix(draw, *matrix) for matrix in _matrices(shape)]
    norms = ["output_norm.weight"]
    norms += [f"blk.{i}.{name}_norm.weight" for i in range(shape.layers) for name in ("attn", "ffn")]
    ones = np.ones(shape.n_embd, "<f4").tobytes()
    parts += [Part(name, Type.F32, (shape.n_embd,), lambda: (ones,)) for name in norms]
    return write_gguf(path, _metadata(shape), parts, progress)


def _matrices(s: LlamaShape) -> Iterator[tuple[str, int, int]]:
    """Name, columns and rows of each."""
    key = s.n_embd * s.kv_heads // s.heads
    yield "token_embd.weight", s.n_embd, s.n_vocab
    for layer in range(s.layers):
        for name, columns, rows in (
            ("attn_q", s.n_embd, s.n_embd),
            ("attn_k", s.n_embd, key),
            ("attn_v", s.n_embd, key),
            ("attn_output", s.n_embd, s.n_embd),
            ("ffn_gate", s.n_embd, s.n_ff),
            ("ffn_up", s.n_embd, s.n_ff),
            ("ffn_down", s.n_ff, s.n_embd),
        ):
            yield f"blk.{layer}.{name}.weight", columns, rows
    yield "output.weight", s.n_embd, s.n_vocab


def _matrix(draw: np.random.Generator, name: str, columns: int, rows: int) -> Part:
    seed = int(draw.integers(1 << 62))
    scale = np.float16(columns**-0.5 / NIBBLE_SPREAD)

    def chunks() -> Iterable[bytes]:
        source = np.random.default_rng(seed)
        left = rows * columns // BLOCK
        while left:
            blocks = np.empty(min(left, CHUNK_BLOCKS), np.dtype([("scale", "<f2"), ("nibbles", "V16")]))
            blocks["scale"] = scale
            blocks["nibbles"] = np.frombuffer(source.bytes(16 * len(blocks)), "V16")
            left -= len(blocks)
            yield blocks.tobytes()

    return Part(name, Type.Q4_0, (columns, rows), chunks)


def _metadata(s: LlamaShape) -> dict[str, Value]:
    tokens = [f"[{i}]" for i in range(s.n_vocab - 1)] + ["<|end|>"]
    return {
        "general.architecture": text("llama"),
        "general.name": text("Random Llama"),
        "general.file_type": uint32(LlamaFileType.MOSTLY_Q4_0),
        "llama.context_length": uint32(s.context),
        "llama.embedding_length": uint32(s.n_embd),
        "llama.block_count": uint32(s.layers),
        "llama.feed_forward_length": uint32(s.n_ff),
        "llama.attention.head_count": uint32(s.heads),
        "llama.attention.head_count_kv": uint32(s.kv_heads),
        "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
        "llama.rope.freq_base": float32(10_000.0),
        "llama.vocab_size": uint32(s.n_vocab),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("default"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": int32s([1] * (s.n_vocab - 1) + [3]),
        "tokenizer.ggml.merges": texts(["[ 1"]),
        "tokenizer.ggml.bos_token_id": uint32(s.n_vocab - 1),
        "tokenizer.ggml.eos_token_id": uint32(s.n_vocab - 1),
    }
