"""What an audit costs next to the generation that it checks."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_verification_served import PROMPT, Stage, opened, started
from random_model import LlamaShape, write_random_llama
from rich.console import Console
from rich.table import Table

from market.audit import Bounds, Limits
from node.calibration import Variation
from node.engine import Engine
from node.model_store import StoredModel, open_model
from node.replay import Replayer
from node.steps import Payload
from node.wire import WireDtype

TOKENS = (64, 256, 512)
MODELS = ("demo", "1b")
LAYERS_1B = 6
"""of the file; the stage has all but the first and the last"""
NEVER = Limits(1e-12, 1e-12, 1.0, 1e-12, 1e-12, 1.0)
"""bounds that nothing but the same bits meets, so that every audit replays"""
PROVIDER = Variation("provider")
Advance = Callable[[str, int], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", action="append", choices=MODELS, help="may be given several times")
    parser.add_argument("--rounds", type=int, default=5, help="generations, each with its audit")
    parser.add_argument("--tokens", type=int, action="append", help="generated; may be given several times")


def work(options: argparse.Namespace) -> int:
    """How often `run` reports progress."""
    return len(options.model or MODELS) * len(options.tokens or TOKENS) * (1 + options.rounds)


def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
    """Medians over the rounds; ratios are taken round by round. The first round of each is dropped."""
    rows = []
    for name in options.model or MODELS:
        advance(f"Making {name}", 0)
        stored = _opened(name, home)
        start, stop = 1, stored.manifest.layers - 1
        bounds = Bounds(
            stored.manifest.model_id, {"body": dict.fromkeys(("prefill", "replay", "foreign"), NEVER)}
        )
        replayer = Replayer(stored, bounds, threads=PROVIDER.threads)
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
                        rounds.append(_round(stage, engine, replayer))
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
            replayer.close()
    return {"rounds": options.rounds, "prompt": PROMPT, "threads": PROVIDER.threads, "rows": rows}


def _opened(name: str, home: Path) -> StoredModel:
    if name != "1b":
        return opened(name, home / name)
    path = home / "1b.gguf"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        write_random_llama(path, LlamaShape(layers=LAYERS_1B))
    return open_model(path, home / name)


def _round(stage: Stage, engine: Engine, replayer: Replayer) -> dict[str, float]:
    """Generate, then audit: ms of both, and the audit's as a share."""
    generation = _generate(engine, stage.inputs[0])
    (transcript,) = stage.serve(engine, [0], PROVIDER, WireDtype.F32)
    judgement = replayer.judge(transcript)
    return {
        "generation_ms": generation,
        "prefill_ms": judgement.prefill_ms,
        "replay_ms": judgement.replay_ms,
        "prefill_share": judgement.prefill_ms / generation,
        "replay_share": judgement.replay_ms / generation,
    }


def _generate(engine: Engine, payload: Payload) -> float:
    """Milliseconds for the prompt and then each row by itself, as a provider computes them."""
    slot, position = engine.open(len(payload)), 0
    begin = time.perf_counter()
    for stop in range(PROMPT, len(payload) + 1):
        engine.run(slot, position, payload[position:stop])
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
        "prefill / generation",
        "replay ms",
        "replay / generation",
        title=f"An audit of a middle stage, {result['threads']} thread",
        caption=f"medians of {result['rounds']} rounds; prompt {result['prompt']}",
    )
    for row in result["rows"]:
        table.add_row(
            f"{row['model']}, {row['layers']} layers x {row['n_embd']}",
            str(row["tokens"]),
            f"{row['generation_ms']:.0f}",
            f"{row['prefill_ms']:.1f}",
            f"{row['prefill_share']:.3f}",
            f"{row['replay_ms']:.0f}",
            f"{row['replay_share']:.2f}",
        )
    out.print(table)
