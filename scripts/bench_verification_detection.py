"""How often cheats are found: providers that cheat in one way, judged by an auditor that was calibrated before."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from bench_verification_served import MODELS, Stage, described, opened, shortened, started, texts
from rich.console import Console
from rich.table import Table

from hypercluster.market.trust import Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend
from hypercluster.node.replay.calibration import calibrate, steps
from hypercluster.node.replay.measuring import PROMPT
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.replay.variations import Variation
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.cheats import (
    IN_OUTPUTS,
    IN_WEIGHTS,
    Cheat,
    TamperedEngine,
    Tampering,
    doctored,
)

HONEST = "honest"
CHEATS = (*IN_WEIGHTS, *IN_OUTPUTS)
LENGTHS = (8, 32, 128)
CALIBRATION_SEED = 0
TEXT_SEEDS = 1000
SAME, FOREIGN = "same", "foreign"
PROVIDERS = {
    SAME: Variation(SAME),
    FOREIGN: Variation(FOREIGN, Backend(flash_attention=True)),
}
Advance = Callable[[str, int], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", action="append", choices=MODELS, help="may be given several times")
    parser.add_argument("--cheat", action="append", choices=(HONEST, *CHEATS), help="likewise; default: all")
    parser.add_argument(
        "--tokens",
        type=int,
        action="append",
        help="served behind the prompt; likewise; default: 8, 32 and 128",
    )
    parser.add_argument("--trials", type=int, default=20, help="texts for each cheat, model and profile")
    parser.add_argument("--wire", choices=["f32", "f16", "q8"], default="f32", help="how activations travel")
    parser.add_argument("--seed", type=int, default=1, help="of the texts, from 1: another one, other texts")
    parser.add_argument("--quick", action="store_true", help="8 tokens, the demo model, short calibration")


def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
    """All cells of the table. The texts of a longer audit begin like those of a shorter one."""
    lengths = tuple(options.tokens or (LENGTHS[:1] if options.quick else LENGTHS))
    names = options.model or (MODELS[:1] if options.quick else MODELS)
    cheats = options.cheat or (HONEST, *CHEATS)
    wire = WireDtype.named(options.wire)
    rows: list[dict[str, Any]] = []
    for name in names:
        stored = opened(name, home / name)
        advance(f"Calibrating {name}", 0)
        size: dict[str, Any] = {"texts": 2, "tokens": 40} if options.quick else {}
        bounds = calibrate(stored, seed=CALIBRATION_SEED, progress=lambda done: advance("", done), **size)
        written = texts(stored, options.trials, max(lengths), TEXT_SEEDS * options.seed)
        layers = stored.manifest.layers
        stages = [
            Stage.of(stored, start, stop, written)
            for start, stop in ((layers // 3, 2 * layers // 3), (2 * layers // 3, layers))
        ]
        replayer = Replayer(stored, bounds, threads=1)
        try:
            for cheat in cheats:
                if changes_nothing(cheat, stored):
                    advance("", len(stages) * len(PROVIDERS))
                    continue
                for stage in stages:
                    for profile, provider in PROVIDERS.items():
                        advance(f"{name}, {cheat}", 0)
                        found = judged(replayer, stage, cheat, provider, lengths, wire)
                        for length in lengths:
                            rows.append(
                                {
                                    "model": described(name, stored),
                                    "cheat": cheat,
                                    "stage": "tail" if stage.is_tail else "body",
                                    "profile": profile,
                                    "tokens": length,
                                    "trials": options.trials,
                                    **{each.name.lower(): found[length][each] for each in Finding},
                                }
                            )
                        advance("", 1)
        finally:
            replayer.close()
    return {"wire": options.wire, "prompt": PROMPT, "seed": options.seed, "rows": rows}


def work(options: argparse.Namespace) -> int:
    """How often `run` reports progress, at most."""
    models = len(options.model or (MODELS[:1] if options.quick else MODELS))
    cheats = len(options.cheat or (HONEST, *CHEATS))
    return models * (steps(1) + cheats * 2 * len(PROVIDERS))


def changes_nothing(cheat: str, stored: StoredModel) -> bool:
    """Whether a cheat leaves this model as it is: one of 4 bits cannot be cut to 4 bits."""
    return cheat == "quantised" and stored.manifest.quantisation.lower() == "q4_0"


def judged(
    replayer: Replayer,
    stage: Stage,
    cheat: str,
    provider: Variation,
    lengths: tuple[int, ...],
    wire: WireDtype,
) -> dict[int, Counter[Finding]]:
    """What is found in each text, by tokens audited."""
    found: dict[int, Counter[Finding]] = {length: Counter() for length in lengths}
    with serving(stage, cheat, provider) as engine:
        for number in range(len(stage.inputs)):
            (transcript,) = stage.serve(engine, [number], provider, wire)
            for length in lengths:
                found[length][replayer.judge(shortened(transcript, length)).finding] += 1
    return found


@contextmanager
def serving(stage: Stage, cheat: str, provider: Variation) -> Iterator[Engine]:
    """The engine of an honest provider, or of one that cheats."""
    shard = stage.stored.shard(stage.start, stage.stop)
    kind: Callable[..., Engine] = Engine
    if cheat in IN_WEIGHTS:
        shard = doctored(shard, cast("Cheat", cheat))
    elif cheat in IN_OUTPUTS:
        kind = partial(TamperedEngine, Tampering(cast("Cheat", cheat)))
    tokens = len(stage.inputs[0])
    with started(stage.stored, stage.start, stage.stop, tokens, provider, shard=shard, kind=kind) as engine:
        yield engine


def show(result: dict[str, Any], out: Console) -> None:
    """One table for each model and stage: per cent found, and per cent grey if there are any."""
    rows = result["rows"]
    lengths = sorted({row["tokens"] for row in rows})
    for model, stage in dict.fromkeys((row["model"], row["stage"]) for row in rows):
        here = [row for row in rows if (row["model"], row["stage"]) == (model, stage)]
        table = Table(
            "",
            *(f"{profile} {length}" for profile in PROVIDERS for length in lengths),
            title=f"{model}: {stage}",
            caption=f"% found (+ % grey) of {here[0]['trials']} audits, by profile and tokens",
        )
        for cheat in dict.fromkeys(row["cheat"] for row in here):
            cells = {(row["profile"], row["tokens"]): row for row in here if row["cheat"] == cheat}
            table.add_row(
                cheat, *(_cell(cells[profile, length]) for profile in PROVIDERS for length in lengths)
            )
        out.print(table)


def _cell(row: dict[str, Any]) -> str:
    share = 100 / row["trials"]
    grey = f" +{share * row['grey']:.0f}" if row["grey"] else ""
    return f"{share * row['fail']:.0f}{grey}"
