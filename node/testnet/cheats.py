"""Ways to cheat in numbers: in the weights that are loaded, or in the outputs before they are signed.

For demonstrations, tests and benchmarks of what audits find.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gguf import quants
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import Outputs, StepOutput
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import Payload, TopK
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.writing import Part, Value, write_gguf

Cheat = Literal[
    "quantised", "skip-layer", "noise", "stale", "other-model", "truncate", "equivocate", "lazy-verifier"
]
CHEATS: tuple[Cheat, ...] = get_args(Cheat)
LinkCheat = Literal["forward-wrong", "withhold-rows", "replay-old-rows", "stall"]
"""on the link to the next provider: other rows than those signed for, none, those of the step before, or none until the
client asks for them
"""
LINK_CHEATS: tuple[LinkCheat, ...] = get_args(LinkCheat)
IN_WEIGHTS = ("quantised", "skip-layer", "other-model")
IN_OUTPUTS = ("noise", "stale", "truncate")
NOISE = 0.01
"""relative to the length of each row"""

Float32s = npt.NDArray[np.float32]


class UnknownCheat(NodeError):
    """There is no cheat of this name."""


# --- in the weights ------------------------------------------------------------------------------------------


def doctored(shard: Path, cheat: Cheat) -> Path:
    """Write a shard beside `shard` that does less or other work than it says, and return it; UnknownCheat."""
    changes: dict[str, Callable[[str, Float32s], Float32s | None]] = {
        "quantised": lambda name, weights: weights,
        "skip-layer": _without_last_layer(shard),
        "other-model": _other_weights,
    }
    if cheat not in changes:
        raise UnknownCheat(f"{cheat} is not done in the weights.")
    file = read_container(shard)
    metadata = {key: Value(field.type, file.raw(key)) for key, field in file.fields.items()}
    parts = []
    for tensor in file.tensors.values():
        raw = b"".join(file.chunks(tensor))
        type_ = tensor.type
        if len(tensor.shape) == 2 and tensor.name.startswith("blk.") and tensor.shape[0] % 32 == 0:
            table = np.frombuffer(raw, np.uint8).reshape(tensor.shape[1], -1)
            weights = quants.dequantize(table, type_).reshape(tensor.shape[1], tensor.shape[0])
            changed = changes[cheat](tensor.name, weights.astype(np.float32))
            if changed is not None:
                type_ = Type.Q4_0 if cheat == "quantised" else type_
                raw = quants.quantize(changed, type_).tobytes()
        parts.append(Part(tensor.name, type_, tensor.shape, lambda raw=raw: (raw,)))  # type: ignore[misc]
    return write_gguf(shard.with_suffix(f".{cheat}.gguf"), metadata, parts)


def _without_last_layer(shard: Path) -> Callable[[str, Float32s], Float32s | None]:
    """What the last layer adds to the residual becomes nothing: the work of a machine that skips it."""
    layers = {name.split(".")[1] for name in read_container(shard).tensors if name.startswith("blk.")}
    last = f"blk.{max(int(layer) for layer in layers)}."

    def change(name: str, weights: Float32s) -> Float32s | None:
        ends = name.startswith(last) and ("attn_output" in name or "ffn_down" in name)
        return np.zeros_like(weights) if ends else None

    return change


def _other_weights(name: str, weights: Float32s) -> Float32s:
    """Other weights of the same spread: a model of the same shape that learned something else."""
    draw = np.random.default_rng(sum(name.encode()))
    other: Float32s = (draw.standard_normal(weights.shape) * weights.std()).astype(np.float32)
    return other


# --- in the outputs ------------------------------------------------------------------------------------------


class Tampering:
    """Changes outputs in the way of one cheat; keeps what it needs to know from one step to the next."""

    def __init__(self, cheat: Cheat) -> None:
        if cheat not in IN_OUTPUTS:
            raise UnknownCheat(f"{cheat} is not done in the outputs.")
        self._cheat = cheat
        self._draw = np.random.default_rng(1)
        self._before: dict[int, StepOutput] = {}

    def __call__(self, slot: int, output: StepOutput) -> StepOutput:
        """What is answered instead of `output`."""
        if self._cheat == "stale":
            before = self._before.get(slot)
            self._before[slot] = output
            same = before is not None and _rows(before) == _rows(output)
            return before if same and before is not None else output
        change = self._noisy if self._cheat == "noise" else _truncated
        if output.activations is not None:
            return replace(output, activations=change(output.activations))
        assert output.topk is not None
        return replace(output, topk=_on_logits(output.topk, change))

    def _noisy(self, rows: Float32s) -> Float32s:
        noise = self._draw.standard_normal(rows.shape) / np.sqrt(rows.shape[1])
        noise *= NOISE * np.linalg.norm(rows, axis=1, keepdims=True)
        noisy: Float32s = (rows + noise).astype(np.float32)
        return noisy


def _truncated(rows: Float32s) -> Float32s:
    """The half of the values that is nearest to zero becomes zero."""
    size = np.abs(rows)
    kept: Float32s = np.where(size >= np.median(size, axis=1, keepdims=True), rows, 0).astype(np.float32)
    return kept


def _on_logits(topk: TopK, change: Callable[[Float32s], Float32s]) -> TopK:
    """The change on log-probabilities, made to look like candidates: best first, no more than all there is."""
    lse = topk.logsumexp[:, None]
    changed = change((topk.logits - lse).astype(np.float32)).astype(np.float64)
    changed -= np.maximum(np.log(np.exp(changed).sum(axis=1, keepdims=True)), 0)
    logits = -np.sort(-changed, axis=1) + lse
    return TopK(topk.ids, logits.astype(np.float32), topk.logsumexp)


def _rows(output: StepOutput) -> int:
    return len(output.activations) if output.activations is not None else len(output.topk.ids)  # type: ignore[union-attr]


class TamperedEngine(Engine):
    """An engine whose outputs are changed before anybody sees them."""

    def __init__(self, tampering: Tampering, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.tampering = tampering

    def submit(
        self,
        slot: int,
        position: int,
        payload: Payload,
        outputs: Outputs = "last",
        top_k: int = 40,
    ) -> Future[StepOutput]:
        """As Engine.submit."""
        honest = super().submit(slot, position, payload, outputs, top_k)
        return changed(honest, lambda output: self.tampering(slot, output))

    def begin(self, *step: Any, **named: Any) -> None:
        """Every step is submitted."""


def changed(honest: Future[StepOutput], change: Callable[[StepOutput], StepOutput]) -> Future[StepOutput]:
    """What `change` makes of an engine's answer once it is there."""
    told: Future[StepOutput] = Future()

    def tell(done: Future[StepOutput]) -> None:
        error = done.exception()
        if error is None:
            told.set_result(change(done.result()))
        else:
            told.set_exception(error)

    honest.add_done_callback(tell)
    return told
