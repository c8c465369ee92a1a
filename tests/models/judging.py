"""Judges the tiny model of one case: are its shards exact, can its caches forget, may sequences share a batch?

    python -m tests.models.judging CASE

writes a line of JSON after each question, so that what was found out stays known where llama.cpp ends the process.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hypercluster.node.engine import reference
from hypercluster.node.engine.equality import Shard, through
from hypercluster.node.engine.llama import Batch, Context, LlamaError, LoadedModel
from hypercluster.node.engine.templates import template
from hypercluster.node.engine.tiny import TypeOf, write_tiny
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import Float32s
from hypercluster.node.shards import build_manifest, check_source, split
from hypercluster.node.shards.crossing import crossing_of
from hypercluster.node.shards.traits import traits_of
from tests.models.cases import CASES, Case

PROMPT, TOKENS = 40, 8
ROUNDING = 0.3  # of logits near 1, through caches of f16


def write_case(path: Path, case: Case, type_of: TypeOf | None = None) -> Path:
    """Write the model of a case."""
    meta = template(case.architecture, layers=case.layers, experts=case.experts, changes=case.changes)
    types = {} if type_of is None else {"type_of": type_of}
    return write_tiny(path, case.architecture, meta, drop=case.drop, **types)


def paths(layers: int, starts: tuple[int, ...] | None) -> list[list[int]]:
    """Edges of up to three paths, with ranges of one layer and odd ones, as near as ranges may begin."""
    wanted = [[1, layers // 2], [layers // 3, layers - 1], [layers // 2, layers // 2 + 1]]
    allowed = range(layers) if starts is None else starts
    found: list[list[int]] = []
    for inner in wanted:
        near = {max(start for start in allowed if start <= layer) for layer in inner}
        edges = [*sorted({0} | near), layers]
        if edges not in found:
            found.append(edges)
    return found


def exact(source: Path) -> dict[str, Any]:
    """How its shards compute, and the largest difference of any logit from the unsplit model's, 0.0 if none."""
    model, prompt = check_source(source), [(7 * i + 3) % 101 for i in range(PROMPT)]
    traits, manifest, hows = traits_of(model), build_manifest(source), set()
    unsplit = reference.generate(source, prompt, TOKENS, 1)
    worst = 0.0
    for edges in paths(model.blueprint.layers, traits.starts):
        stages = []
        for start, stop in itertools.pairwise(edges):
            file = source.with_name(f"{start}-{stop}.gguf")
            if not file.exists():
                split(source, start, stop, file, manifest=manifest)
            hows.add(crossing_of(file).how)
            stages.append(Shard(file, start == 0, stop == model.blueprint.layers))
        _, logits = through(stages, prompt, TOKENS, 1, apart=False)
        worst = max(worst, _difference(unsplit.logits, logits))
    told = {"layers": model.blueprint.layers, "n_embd": model.blueprint.n_embd}
    told |= {"how": max(hows), "difference": worst}
    return told | {"traits": asdict(traits)}


def _difference(one: Float32s, other: Float32s) -> float:
    found = float(np.abs(one - other).max())
    return found if found == found else float("inf")


def rewinds(source: Path) -> bool:
    """Whether 20 of 40 tokens can be forgotten without a trace."""
    tokens = [(5 * i + 1) % 97 for i in range(60)]
    with LoadedModel(source, gpu_layers=0) as model:
        straight, back = (Context(model, 64, 1, 1, 64, 64) for _ in range(2))
        try:
            _feed(straight, tokens[:20], 0)
            _feed(back, tokens[:20], 0)
            _feed(back, tokens[40:], 20)
            if not back.truncate(0, 20):
                return False
            wanted = _feed(straight, tokens[20:40], 20)
            return bool(np.array_equal(wanted, _feed(back, tokens[20:40], 20)))
        except LlamaError:
            return False
        finally:
            straight.close()
            back.close()


def shares(source: Path) -> bool:
    """Whether three sequences in one batch compute what each computes alone, but for the rounding of sums."""
    tokens = [[(5 * i + 7 * s) % 97 for i in range(24)] for s in range(3)]
    with LoadedModel(source, gpu_layers=0) as model:
        together, alone = Context(model, 64, 3, 1, 64, 64), Context(model, 64, 3, 1, 64, 64)
        try:
            for context in (together, alone):
                for sequence in range(3):
                    _feed(context, tokens[sequence][: 20 - sequence], 0, sequence)
            for step in range(4):
                wanted = [_feed(alone, [tokens[s][20 - s + step]], 20 - s + step, s).copy() for s in range(3)]
                batch = Batch(3)
                for s in range(3):
                    batch.tokens[s], batch.positions[s] = tokens[s][20 - s + step], 20 - s + step
                    batch.slots[s], batch.wanted[s] = s, 1
                together.decode(batch, 3)
                if not all(_difference(together.logits(s), wanted[s]) < ROUNDING for s in range(3)):
                    return False
            return True
        except LlamaError:
            return False
        finally:
            together.close()
            alone.close()


def _feed(context: Context, tokens: Sequence[int], position: int, sequence: int = 0) -> Float32s:
    n = len(tokens)
    batch = Batch(n)
    batch.tokens[:], batch.positions[:] = tokens, np.arange(position, position + n)
    batch.slots[:], batch.wanted[n - 1] = sequence, 1
    context.decode(batch, n)
    return context.logits(n - 1).copy()


def judged(case: Case, folder: Path) -> Iterator[dict[str, Any]]:
    """What is found out about a case, piece by piece."""
    source = write_case(folder / "model.gguf", case)
    try:
        yield exact(source)
    except NodeError as error:
        yield {"refused": str(error)}
        return
    yield {"rewinds": False}  # unless it says otherwise before it ends the process
    yield {"rewinds": rewinds(source), "shares": False}
    yield {"shares": shares(source)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for found in judged(CASES[sys.argv[1]], Path(folder)):
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
