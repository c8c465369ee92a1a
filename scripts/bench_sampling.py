"""What it costs a client to draw a token: plain, with filters, with penalties, and within a format.

    python scripts/bench_sampling.py [--model FILE.gguf] [--tokens 400] [--json]

Rows of random logits over the vocabulary of a model (by default the demo model's) go through a client's own drawing, as
the last provider of a path sends them: 64 candidates, or 1,024 with a format. Figures are medians and 99th percentiles
in microseconds a token, and the time that the vocabulary takes to be known to the grammar, once, in milliseconds.
Random logits are hard for a grammar: real ones mostly have an allowed token among the best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hypercluster.node.client.completion import Completion
from hypercluster.node.client.drawing import Drawing
from hypercluster.node.client.model import Model
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.engine.grammar import JsonObject, JsonSchema
from hypercluster.node.engine.ranking import best
from hypercluster.node.shards.store import demo_model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FILTERS = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=1)
PENALTIES = Sampling(temperature=0.8, top_p=0.95, seed=1, presence_penalty=0.5, frequency_penalty=0.5)
CASES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "top-k, top-p, min-p": {"sampling": FILTERS},
    "penalties and top-p": {"sampling": PENALTIES},
    "greedy, 5 log probabilities": {"logprobs": 5},
    "any JSON object": {"format": JsonObject(), "sampling": FILTERS},
    "JSON by a schema": {"format": JsonSchema(SCHEMA), "sampling": FILTERS},
}


def measured(model: Model, tokens: int, case: dict[str, Any]) -> dict[str, float]:
    """Microseconds a token, beginning again where an answer ends."""
    request = Request(prompt=(1,), allowance=Allowance(tokens=tokens), **case)
    k = min(request.wanted_top_k, model.n_vocab)
    rng = np.random.default_rng(0)
    rows = [best([rng.normal(0, 3, model.n_vocab).astype(np.float32)], k) for _ in range(min(tokens, 64))]
    times: list[float] = []
    forced = 0
    while len(times) < tokens:
        done = Completion("bench", prompt=(1,))
        with Drawing(model, request, done) as drawing:
            while len(times) < tokens:
                began = time.perf_counter()
                drawn = drawing.draw(rows[len(times) % len(rows)])
                times.append(1e6 * (time.perf_counter() - began))
                if drawn.ends or drawn.last:
                    break
        forced += done.grammar_forced
    return {
        "candidates": k,
        "median_us": statistics.median(times),
        "p99_us": float(np.percentile(times, 99)),
        "forced_share": forced / tokens,
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=None, help="GGUF file whose vocabulary is taken")
    parser.add_argument("--tokens", type=int, default=400, help="for each case")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = options.model or demo_model()
    known = Model(model_id="", layers=0, n_vocab=0, vocabulary=lambda: path)
    model = Model(model_id="", layers=0, n_vocab=known.tokenizer.n_vocab, vocabulary=lambda: path)
    began = time.perf_counter()
    _ = model.tokenizer.guide
    found = {
        "n_vocab": model.n_vocab,
        "guide_ms": 1e3 * (time.perf_counter() - began),
        "cases": {name: measured(model, options.tokens, case) for name, case in CASES.items()},
    }
    model.close()
    known.close()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    table = Table(title=f"{model.n_vocab} tokens, known to the grammar in {found['guide_ms']:.0f} ms")
    for column in ("", "candidates", "median µs", "99 % µs", "picked by the format"):
        table.add_column(column, justify="left" if not column else "right")
    for name, case in found["cases"].items():  # type: ignore[attr-defined]
        table.add_row(
            name,
            f"{case['candidates']:.0f}",
            f"{case['median_us']:.0f}",
            f"{case['p99_us']:.0f}",
            f"{case['forced_share']:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
