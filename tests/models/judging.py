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
from hypercluster.node.engine.tiny import TypeOf, of_float32, write_tiny
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import Float32s
from hypercluster.node.shards import build_manifest, check_source, split
from hypercluster.node.shards.crossing import crossing_of
from hypercluster.node.shards.traits import traits_of
from tests.models.cases import CASES, Case

PROMPT, TOKENS = 40, 8


def write_case(path: Path, case: Case, type_of: TypeOf = of_float32) -> Path:
    """Write the model of a case."""
    meta = template(case.architecture, layers=case.layers, experts=case.experts, changes=case.changes)
    return write_tiny(path, case.architecture, meta, drop=case.drop, type_of=type_of)


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
    return {
        "layers": model.blueprint.layers,
        "n_embd": model.blueprint.n_embd,
        "how": max(hows),
        "difference": worst,
        "traits": asdict(traits),
    }


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


def branches(source: Path) -> bool:
    """Whether a sequence can go on from a copy of the first 20 of another's 30 tokens as if they were its own."""
    tokens = [(5 * i + 1) % 97 for i in range(60)]
    with LoadedModel(source, gpu_layers=0) as model:
        straight, copied = (Context(model, 64, 2, 1, 64, 64) for _ in range(2))
        try:
            _feed(straight, tokens[:20], 0, 1)
            _feed(copied, tokens[:20], 0)
            _feed(copied, tokens[40:50], 20)
            copied.copy(0, 1)
            if not copied.truncate(1, 20):
                return False
            # The other one goes on in the meantime.
            _feed(copied, tokens[50:60], 30)
            wanted = _feed(straight, tokens[20:40], 20, 1)
            return bool(np.array_equal(wanted, _feed(copied, tokens[20:40], 20, 1)))
        except LlamaError:
            return False
        finally:
            straight.close()
            copied.close()


def shares(source: Path) -> bool:
    """Whether what a sequence computes in batches with two others does not depend on what those are."""
    with LoadedModel(source, gpu_layers=0) as model:
        try:
            return bool(np.array_equal(_in_company(model, 7), _in_company(model, 11)))
        except LlamaError:
            return False


def _in_company(model: LoadedModel, company: int) -> Float32s:
    """Logits float32 [4, n_vocab] of the first of three sequences in batches of a row of each."""
    tokens = [[(5 * i + company * s) % 97 for i in range(24)] for s in range(3)]
    context, batch, found = Context(model, 64, 3, 1, 64, 64), Batch(3), []
    try:
        for s in range(3):
            _feed(context, tokens[s][: 20 - s], 0, s)
        for step in range(4):
            for s in range(3):
                at = 20 - s + step
                batch.tokens[s], batch.positions[s], batch.slots[s], batch.wanted[s] = tokens[s][at], at, s, 1
            context.decode(batch, 3)
            found.append(context.logits(0).copy())
        return np.stack(found)
    finally:
        context.close()


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
    yield {"rewinds": rewinds(source), "branches": False}
    yield {"branches": branches(source), "shares": False}
    yield {"shares": shares(source)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for found in judged(CASES[sys.argv[1]], Path(folder)):
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
