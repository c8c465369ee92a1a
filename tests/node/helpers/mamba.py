"""A random model that remembers in a state and not in cells: its last tokens cannot be forgotten again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.writing import Part, float32, text, uint32, write_gguf
from tests.node.helpers.random_models import vocabulary

WIDTH, INNER, STATE, RANK, N_VOCAB = 64, 128, 16, 4, 320


def write_random_mamba(path: Path, layers: int = 2) -> Path:
    """Write it whole and return `path`."""
    draw = np.random.default_rng(0)
    metadata = {
        "general.architecture": text("mamba"),
        "mamba.context_length": uint32(256),
        "mamba.embedding_length": uint32(WIDTH),
        "mamba.feed_forward_length": uint32(0),
        "mamba.attention.head_count": uint32(0),
        "mamba.block_count": uint32(layers),
        "mamba.ssm.conv_kernel": uint32(4),
        "mamba.ssm.inner_size": uint32(INNER),
        "mamba.ssm.state_size": uint32(STATE),
        "mamba.ssm.time_step_rank": uint32(RANK),
        "mamba.attention.layer_norm_rms_epsilon": float32(1e-5),
    }
    shapes = {"token_embd.weight": (WIDTH, N_VOCAB), "output_norm.weight": (WIDTH,)}
    for layer in range(layers):
        prefix = f"blk.{layer}."
        shapes |= {
            f"{prefix}attn_norm.weight": (WIDTH,),
            f"{prefix}ssm_in.weight": (WIDTH, 2 * INNER),
            f"{prefix}ssm_conv1d.weight": (4, INNER),
            f"{prefix}ssm_conv1d.bias": (INNER,),
            f"{prefix}ssm_x.weight": (INNER, RANK + 2 * STATE),
            f"{prefix}ssm_dt.weight": (RANK, INNER),
            f"{prefix}ssm_dt.bias": (INNER,),
            f"{prefix}ssm_a": (STATE, INNER),
            f"{prefix}ssm_d": (INNER,),
            f"{prefix}ssm_out.weight": (INNER, WIDTH),
        }
    parts = []
    for name, shape in shapes.items():
        values = draw.standard_normal(np.prod(shape)) * 0.1
        if name.endswith("ssm_a"):
            values = -np.abs(values) - 0.1
        raw = values.astype("<f4").tobytes()
        parts.append(Part(name, Type.F32, shape, lambda raw=raw: (raw,)))  # type: ignore[misc]
    return write_gguf(path, metadata | vocabulary(N_VOCAB), parts)
