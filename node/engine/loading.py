"""How a shard is loaded, what is known of it then, and the memory through which its rows go in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hypercluster.node.engine.steps import TooLong
from hypercluster.node.rows import Float32s, Tokens

_ALIGNED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """All that a process has to know to compute with a shard: see Engine. Raises TooLong for sizes that are none."""

    shard: Path
    first: bool
    last: bool
    n_ctx_total: int
    max_sessions: int
    threads: int
    chunk: int
    gpu_layers: int
    flash_attention: bool
    kv_type: str
    repack: bool
    main_gpu: int
    tensor_split: tuple[float, ...]

    def __post_init__(self) -> None:
        if (
            self.max_sessions < 1
            or self.threads < 1
            or self.chunk < 1
            or self.n_ctx_total < self.max_sessions
        ):
            raise TooLong("An engine needs at least one session, thread, row and one token for each session.")

    @property
    def rows(self) -> int:
        """Rows of one llama_decode at most."""
        return max(self.chunk, self.max_sessions)

    def fields(self) -> dict[str, Any]:
        """The same as JSON knows it."""
        return asdict(self) | {"shard": str(self.shard)}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """From what `fields` gave."""
        return cls(**fields | {"shard": Path(fields["shard"]), "tensor_split": tuple(fields["tensor_split"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a shard once it is loaded.

    Attributes:
        width: float32 numbers of one token that cross a boundary of layers.
        reads_tokens: a later stage takes the token ids beside the residual.
        capacity: tokens of each session at most.
        rewinds: the last tokens of a session can be forgotten.
        shares: steps of several sessions may go into one llama_decode.
    """

    width: int
    reads_tokens: bool
    n_vocab: int
    n_layer: int
    capacity: int
    rewinds: bool
    shares: bool


@dataclass(frozen=True, slots=True)
class Area:
    """Rows of one llama_decode: what goes in, and behind it what came out. All arrays are views of one memory.

    The first five are written by the engine: token ids, positions, sequences (int32 [rows]), how many of the best
    candidates are wanted of each row (int32 [rows], 0 for none), the residual that enters (float32 [rows, width]).
    The others are llama.cpp's: the residual that leaves, or of each row with candidates one after the other ids and
    logits, and its logsumexp (float64 [rows], nan where the logits are not finite).
    """

    tokens: Tokens
    positions: Tokens
    sequences: Tokens
    candidates: Tokens
    entering: Float32s
    leaving: Float32s
    ids: Tokens
    logits: Float32s
    logsumexp: npt.NDArray[np.float64]

    @classmethod
    def over(cls, memory: Any, loading: Loading, facts: Facts) -> Self:
        """The arrays over a writable buffer of `area_bytes`."""
        return cls(
            *(
                np.frombuffer(memory, kind, int(np.prod(shape)), at).reshape(shape)
                for at, kind, shape in _layout(loading, facts)
            )
        )


def area_bytes(loading: Loading, facts: Facts) -> int:
    """Size of the memory under an area. Most of it is never touched where few candidates are asked for."""
    at, kind, shape = list(_layout(loading, facts))[-1]
    return at + int(np.prod(shape)) * np.dtype(kind).itemsize


def _layout(loading: Loading, facts: Facts) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    rows = loading.rows
    ranked = rows * facts.n_vocab if loading.last else 0
    at = 0
    for kind, shape in (
        *[("i4", (rows,))] * 4,
        ("f4", (0 if loading.first else rows, facts.width)),
        ("f4", (0 if loading.last else rows, facts.width)),
        ("i4", (ranked,)),
        ("f4", (ranked,)),
        ("f8", (rows,)),
    ):
        yield at, kind, shape
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        at += -(-size // _ALIGNED) * _ALIGNED
