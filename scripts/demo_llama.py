"""The demo model: a small Llama in PyTorch, and its way into a GGUF file and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

END_OF_TEXT = "<|endoftext|>"
CONTROL, NORMAL = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
QUANTISATIONS = {
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
}


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Llama; widths are multiples of 32 so that every matrix can be stored as Q8_0."""

    vocabulary: int = 1024
    context: int = 512
    layers: int = 8
    width: int = 192
    heads: int = 6
    kv_heads: int = 2
    hidden: int = 512
    rope_base: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding over neighbouring pairs, as llama.cpp does it for `llama` (RoFormer, eq. 34).

    `x` is [batch, heads, tokens, head_width]; `cos` and `sin` are [tokens, head_width / 2].
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


class Block(nn.Module):
    """One transformer block; its parameters bear the tensor names of llama.cpp."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        kv_width = shape.kv_heads * shape.head_width
        self.shape = shape
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.ffn_down = nn.Linear(shape.hidden, shape.width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map the residual stream [batch, tokens, width] to the next one."""
        return self.feed_forward(self.attend(x, cos, sin))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Add causal grouped-query attention to the residual stream."""
        normed = self.attn_norm(x)
        q, k, v = (
            projection(normed).unflatten(-1, (-1, self.shape.head_width)).transpose(1, 2)
            for projection in (self.attn_q, self.attn_k, self.attn_v)
        )
        group = self.shape.heads // self.shape.kv_heads
        k, v = rotate(k, cos, sin).repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        return x + self.dropout(self.attn_output(mixed.transpose(1, 2).flatten(-2)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Add the SwiGLU network to the residual stream."""
        normed = self.ffn_norm(x)
        return x + self.dropout(self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed)))


class Llama(nn.Module):
    """A Llama with tied embeddings. `state_dict()` keys are llama.cpp's tensor names."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.dropout = nn.Dropout(dropout)
        frequencies = shape.rope_base ** (-torch.arange(0, shape.head_width, 2) / shape.head_width)
        angles = torch.outer(torch.arange(shape.context), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # what writes to the residual stream starts smaller (GPT-2, section 2.3)
                writes = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if writes else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids [batch, tokens] to logits [batch, tokens, vocabulary]."""
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        x = self.dropout(self.token_embd(tokens))
        for block in self.blk:
            x = block(x, cos, sin)
        return F.linear(self.output_norm(x), self.token_embd.weight)


def byte_level(model: models.BPE) -> Tokenizer:
    """A tokenizer that cuts text as GPT-2 does, which llama.cpp calls pre-tokenizer `gpt-2`."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def export(model: Llama, tokenizer: Tokenizer, path: Path, quantisation: str) -> None:
    """Write `model` as GGUF architecture `llama`: matrices in `quantisation`, norms in F32."""
    matrix_type, file_type = QUANTISATIONS[quantisation]
    shape = model.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("HyperCluster demo")
    writer.add_description("A toy Llama trained on Shakespeare; writes verse, knows nothing.")
    writer.add_license("mit")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    end = tokenizer.token_to_id(END_OF_TEXT)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([CONTROL if token == END_OF_TEXT else NORMAL for token in vocabulary])
    writer.add_token_merges(merges(tokenizer))
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    for name, tensor in model.state_dict().items():
        values = tensor.float().cpu().numpy()
        kind = matrix_type if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merges(tokenizer: Tokenizer) -> list[str]:
    """The BPE merges in order, each as two tokens with a space between."""
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def load(path: Path) -> tuple[Llama, Tokenizer]:
    """Read back a file written by `export`, with its matrices dequantised."""
    reader = gguf.GGUFReader(path)

    def field(key: str) -> Any:
        return reader.fields[key].contents()

    vocabulary = {token: i for i, token in enumerate(field("tokenizer.ggml.tokens"))}
    pairs = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    model = Llama(Shape())
    model.load_state_dict(
        {
            t.name: torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type)))
            for t in reader.tensors
        }
    )
    return model, byte_level(models.BPE(vocab=vocabulary, merges=pairs))
