"""What an audit costs next to the generation that it checks."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_verification_served import Stage, opened, started
from random_model import LlamaShape, write_random_llama
from rich.console import Console
from rich.table import Table

from hypercluster.market.trust import Bounds, Thresholds
from hypercluster.node.engine.engine import Engine
from hypercluster.node.replay.measuring import PROMPT
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.replay.variations import Variation
from hypercluster.node.rows import Payload, WireDtype
from hypercluster.node.shards.store import StoredModel, open_model

TOKENS = (64, 256, 512)
MODELS = ("demo", "1b")
LAYERS_1B = 6
"""of the file; the stage has all but the first and the last"""
NEVER = Thresholds(1e-12, 1e-12, 1.0, 1e-12, 1e-12, 1.0)
"""bounds that nothing but the same bits meets"""
ANY = Thresholds(0.1, 0.1, 0.0, 1e9, 1e9, 0.0)
"""bounds that every honest prefill meets"""
PROVIDER = Variation("provider")
Advance = Callable[[str, int], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", action="append", choices=MODELS, help="may be given several times")
    parser.add_argument("--rounds", type=int, default=5, help="generations, each with its audit")
    parser.add_argument("--tokens", type=int, action="append", help="generated; may be given several times")


def work(options: argparse.Namespace) -> int:
    """How often `run` reports progress."""
    return int(len(options.model or MODELS) * len(options.tokens or TOKENS) * (1 + options.rounds))


def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken round by round. The first round of each is dropped."""
    rows = []
    for name in options.model or MODELS:
        advance(f"Making {name}", 0)
        stored = _opened(name, home)
        start, stop = 1, stored.manifest.layers - 1
        doubting, passing = (
            Replayer(stored, _bounds(stored, prefill), threads=PROVIDER.threads) for prefill in (NEVER, ANY)
        )
        try:
            for tokens in options.tokens or TOKENS:
                tokens = min(tokens, stored.manifest.context - PROMPT)
                draw = np.random.default_rng(tokens)
                text = [int(token) for token in draw.integers(0, stored.manifest.n_vocab, PROMPT + tokens)]
                stage = Stage.of(stored, start, stop, [text])
                rounds = []
                with started(stored, start, stop, PROMPT + tokens, PROVIDER) as engine:
                    for _ in range(1 + options.rounds):
                        advance(f"{name}, {tokens} tokens", 0)
                        rounds.append(_round(stage, engine, passing, doubting))
                        advance("", 1)
                rows.append(
                    {
                        "model": name,
                        "layers": stop - start,
                        "n_embd": stored.manifest.n_embd,
                        "tokens": tokens,
                        **{key: statistics.median(each[key] for each in rounds[1:]) for key in rounds[0]},
                    }
                )
        finally:
            passing.close()
            doubting.close()
    return {"rounds": options.rounds, "prompt": PROMPT, "threads": PROVIDER.threads, "rows": rows}


def _opened(name: str, home: Path) -> StoredModel:
    if name != "1b":
        return opened(name, home / name)
    path = home / "1b.gguf"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        write_random_llama(path, LlamaShape(layers=LAYERS_1B))
    return open_model(path, home / name)


def _bounds(stored: StoredModel, prefill: Thresholds) -> Bounds:
    """Bounds of which those for the prefill are given and all others are exact."""
    return Bounds(stored.manifest.model_id, {"body": {"prefill": prefill, "replay": NEVER, "foreign": NEVER}})


def _round(stage: Stage, engine: Engine, passing: Replayer, doubting: Replayer) -> dict[str, float]:
    """Generate, then audit with a prefill that passes and with one that leaves a doubt: ms, and shares."""
    generation = _generate(engine, stage.inputs[0])
    (transcript,) = stage.serve(engine, [0], PROVIDER, WireDtype.F32)
    usual, worst = passing.judge(transcript), doubting.judge(transcript)
    return {
        "generation_ms": generation,
        "prefill_ms": usual.prefill_ms,
        "spot_ms": usual.replay_ms,
        "replay_ms": worst.replay_ms,
        "prefill_share": usual.prefill_ms / generation,
        "usual_share": (usual.prefill_ms + usual.replay_ms) / generation,
        "worst_share": (worst.prefill_ms + worst.replay_ms) / generation,
    }


def _generate(engine: Engine, payload: Payload) -> float:
    """Milliseconds for the prompt and then each row by itself, as a provider computes them."""
    slot, position = engine.open(len(payload)), 0
    begin = time.perf_counter()
    for stop in range(PROMPT, len(payload) + 1):
        engine.submit(slot, position, payload[position:stop]).result()
        position = stop
    took = 1e3 * (time.perf_counter() - begin)
    engine.close(slot)
    return took


def show(result: dict[str, Any], out: Console) -> None:
    """Milliseconds, and shares of the generation."""
    table = Table(
        "model",
        "tokens",
        "generation ms",
        "prefill ms",
        "first steps ms",
        "all steps ms",
        "prefill",
        "and first steps",
        "and all steps",
        title=f"An audit of a middle stage, {result['threads']} thread",
        caption=f"medians of {result['rounds']} rounds; prompt {result['prompt']}; then shares of the generation",
    )
    for row in result["rows"]:
        times = (row[key] for key in ("generation_ms", "prefill_ms", "spot_ms", "replay_ms"))
        shares = (row[key] for key in ("prefill_share", "usual_share", "worst_share"))
        table.add_row(
            f"{row['model']}, {row['layers']} layers x {row['n_embd']}",
            str(row["tokens"]),
            *(f"{value:.0f}" for value in times),
            *(f"{value:.2f}" for value in shares),
        )
    out.print(table)
