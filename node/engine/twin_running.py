"""Running a twin, whole and in shards: belongs into a process of its own, since llama.cpp may end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.engine import reference
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.templates import VOCABULARY
from hypercluster.node.engine.tiny import shapes_of, write_tiny
from hypercluster.node.engine.twin import twin_of
from hypercluster.node.rows import Float32s, Payload, input_dtype
from hypercluster.node.shards.blueprint import Blueprint, blueprint_of
from hypercluster.node.shards.crossing import crossing_keys
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import Piece, plan
from hypercluster.node.shards.slicing import filling
from hypercluster.node.shards.writing import Part, write_parts

PREFILL, DECODE = 40, 10  # tokens; longer than a twin's sliding window


class Runner:
    """The twin of the model of `file`, written into `folder`; `tell` hears what is being done."""

    def __init__(self, file: Path, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder, self.tell = folder, tell
        real = blueprint_of(read_container(file))
        tell("making its twin")
        meta = twin_of(real)
        there = shapes_of(real.architecture, meta, folder)
        unknown = real.tensors.keys() - there.keys()
        if unknown:
            raise UnsupportedModel(f"llama.cpp knows no tensor {min(unknown)!r} of such a model.")
        self.whole = write_tiny(
            folder / "twin.gguf",
            real.architecture,
            meta,
            drop=tuple(there.keys() - real.tensors.keys()) if real.tensors else (),
            type_of=lambda name, shape: _type(real, name, shape),
        )
        self.source = read_container(self.whole)
        self.model = blueprint_of(self.source)
        tell("running its whole twin")
        drawn = np.random.default_rng(7).integers(0, VOCABULARY, PREFILL).tolist()
        unsplit = reference.generate(self.whole, drawn, DECODE, 1, gpu_layers=0)
        self.wanted = unsplit.logits
        self.tokens = np.array([*drawn, *unsplit.ids[:-1]], np.int32)
        self.steps = [(0, PREFILL), *((at, at + 1) for at in range(PREFILL, len(self.tokens)))]

    def difference(self, edges: Sequence[int]) -> float:
        """The largest difference of a logit between a path of shards and the whole twin; 0.0 where it is exact."""
        rows: list[Payload] = [self.tokens[a:b] for a, b in self.steps]
        for start, stop in pairwise(edges):
            self.tell(f"running layers {start}:{stop}")
            rows = self._through(start, stop, rows)
        got = np.concatenate(rows)
        worst = float(np.abs(got - self.wanted).max())
        return worst if np.array_equal(got, self.wanted) else worst if worst == worst and worst else 1e30

    def _through(self, start: int, stop: int, rows: list[Payload]) -> list[Payload]:
        """What a shard makes of all steps: rows for the next one, or the logits of each step's last row."""
        last = stop == self.model.layers
        shard = self._shard(start, stop)
        found: list[Payload] = []
        with Engine(shard, start == 0, last, len(self.tokens), 1, 1, gpu_layers=0, apart=False) as engine:
            slot = engine.open(len(self.tokens))
            for (a, b), row in zip(self.steps, rows, strict=True):
                payload = row
                if start and engine.reads_tokens:
                    payload = np.empty(b - a, input_dtype(engine.width))
                    payload["residual"], payload["token"] = row, self.tokens[a:b]
                output = engine.submit(slot, a, payload, top_k=VOCABULARY).result()
                if output.activations is not None:
                    found.append(output.activations.copy())
                    continue
                assert output.topk is not None
                logits: Float32s = np.empty((1, VOCABULARY), np.float32)
                logits[0, output.topk.ids[-1]] = output.topk.logits[-1]
                found.append(logits)
        shard.unlink()
        return found

    def _shard(self, start: int, stop: int) -> Path:
        planned = plan(self.model, start, stop)
        path = self.folder / "shard.gguf"
        with path.open("wb") as file:
            parts = [self._part(piece) for piece in planned.pieces]
            write_parts(file, planned.metadata | crossing_keys(planned.crossing), parts)
        return path

    def _part(self, piece: Piece) -> Part:
        def chunks() -> Iterable[bytes]:
            if piece.source is not None:
                return self.source.chunks(self.source.tensors[piece.source])
            return filling(piece)

        return Part(piece.name, piece.row.type, piece.row.shape, chunks)


def _type(real: Blueprint, name: str, shape: tuple[int, ...]) -> Type:
    """The type of the model's tensor, or one of blocks that a row of the twin is whole ones of."""
    row = real.tensors.get(name)
    for type_ in (Type.F32 if row is None else row.type, Type.Q8_0):
        if shape[0] % GGML_QUANT_SIZES[type_][0] == 0:
            return type_
    return Type.F32
