"""How often honest providers are accused: every way to serve that calibration knows, on texts that it did not see."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_verification_served import GROUP, MODELS, Stage, described, opened, started, texts
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv

from hypercluster.market.trust.audit import Bounds, Kind, Thresholds
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.calibration import steps as calibration_steps
from hypercluster.node.replay.measuring import PROMPT
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.replay.variations import Variation, variations
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel

LENGTHS = (128, 32, 8)
"""tokens served behind the prompt, by turns"""
STAGES = 4
CALIBRATION_SEED = 0
TEXT_SEEDS = 1_000_000
KEYS = ("variation", "profile", "kind", "wire")
Advance = Callable[[str, int], None]


@dataclass(slots=True)
class Tally:
    """What audits of one kind found.

    Attributes:
        steps: tokens that were served one by one.
        spots: audits in which the prefill was within its bounds, and the first steps were run again as well.
        replays: audits that were decided by running the steps again.
        spared: audits beyond the calibrated bounds, in which other honest computations of the same inputs were
            found to be as far apart.
        nearest: largest error seen, as a share of what calibration calls a fault.
    """

    audits: int = 0
    steps: int = 0
    passed: int = 0
    grey: int = 0
    failed: int = 0
    spots: int = 0
    replays: int = 0
    spared: int = 0
    nearest: float = 0.0

    def add(self, judgement: Judgement, limits: Thresholds, steps: int) -> None:
        """Count one audit, which `limits` decided."""
        off, finding = judgement.difference, judgement.finding
        self.audits += 1
        self.steps += steps
        self.passed += finding is Finding.PASS
        self.grey += finding is Finding.GREY
        self.failed += finding is Finding.FAIL
        self.spots += judgement.replay_ms > 0 and judgement.tier != "replay"
        self.replays += judgement.tier == "replay"
        self.spared += finding is not Finding.FAIL and limits.judge(off) is Finding.FAIL
        missing, allowed = 1 - off.agreement, 1 - limits.reject_agreement
        self.nearest = max(
            self.nearest,
            off.median / limits.reject_median,
            off.maximum / limits.reject_maximum,
            missing / allowed if missing else 0.0,
        )

    def merged(self, other: Tally) -> Tally:
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Tally(**sums, nearest=max(self.nearest, other.nearest))


WIRES = tuple(WireDtype)
COUNTS = ("audits", "steps", "passed", "grey", "failed", "spots", "replays", "spared")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", action="append", choices=MODELS, help="may be given several times")
    parser.add_argument("--steps", type=int, default=100_000, help="to serve and judge, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the texts, from 1: another one, other texts")
    parser.add_argument("--threads", type=int, default=1, help="of the auditor")


def ways(threads: int) -> list[Variation]:
    """The calibration grid without its row for f16: here every way is judged with all types on the wire."""
    return [variation for variation in variations(threads) if not variation.f16]


def plan(options: argparse.Namespace) -> list[int]:
    """Lengths of the groups of texts that each way serves on each stage."""
    cells = len(options.model or MODELS) * STAGES * len(ways(options.threads))
    lengths: list[int] = []
    while (missing := options.steps / (GROUP * cells) - sum(lengths)) > 0:
        following = LENGTHS[len(lengths) % len(LENGTHS)]
        lengths.append(following if following <= missing else min(n for n in LENGTHS if n >= missing))
    return lengths


def work(options: argparse.Namespace) -> int:
    """Steps that will be served, and those of the calibration, which count as a hundred each."""
    models = len(options.model or MODELS)
    served = GROUP * sum(plan(options)) * models * STAGES * len(ways(options.threads))
    return served + 100 * models * calibration_steps(options.threads)


def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
    """Serve and judge; rows by model, way, kind of output and type on the wire."""
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    for number, name in enumerate(options.model or MODELS):
        stored = opened(name, home / name)
        advance(f"Calibrating {name}", 0)
        bounds = calibrate(
            stored,
            threads=options.threads,
            seed=CALIBRATION_SEED,
            progress=lambda done: advance("", 100 * done),
        )
        replayer = Replayer(stored, bounds, threads=options.threads)
        tallies: dict[tuple[str, ...], Tally] = defaultdict(Tally)
        try:
            for at, variation in enumerate(ways(options.threads)):
                advance(f"{name}, {variation.name}", 0)
                seed = TEXT_SEEDS * options.seed + 1000 * number + 10 * at
                for turn, (stage, length) in enumerate(_stages(stored, plan(options), seed)):
                    _judge(replayer, bounds, stage, variation, turn + turn // STAGES, tallies, faults)
                    advance("", GROUP * length)
        finally:
            replayer.close()
        for key, tally in tallies.items():
            where = dict(zip(KEYS, key, strict=True))
            rows.append({"model": described(name, stored), **where, **asdict(tally)})
    total = _sum(rows)
    return {
        "prompt": PROMPT,
        "seed": options.seed,
        "seconds": time.monotonic() - began,
        "total": {**asdict(total), "fault_rate_below": upper_bound(total.failed, total.audits)},
        "faults": faults,
        "rows": rows,
    }


def upper_bound(failed: int, audits: int, level: float = 0.95) -> float:
    """The rate of faults that is not exceeded with this confidence (Clopper and Pearson, one-sided)."""
    return float(betaincinv(failed + 1, audits - failed, level)) if failed < audits else 1.0


def _stages(stored: StoredModel, lengths: list[int], seed: int) -> Iterator[tuple[Stage, int]]:
    """The longest stages of each sort, with and without the embedding, each with every group of texts."""
    layers = stored.manifest.layers
    for at, length in enumerate(lengths):
        written = texts(stored, GROUP, length, seed + at)
        for start, stop in ((0, layers - 1), (1, layers - 1), (0, layers), (1, layers)):
            yield Stage.of(stored, start, stop, written), length


def _judge(
    replayer: Replayer,
    bounds: Bounds,
    stage: Stage,
    variation: Variation,
    turn: int,
    tallies: dict[tuple[str, ...], Tally],
    faults: list[dict[str, Any]],
) -> None:
    """Serve a group, judge it, and count what is found; each type is on the wire in its turn."""
    kind: Kind = "tail" if stage.is_tail else "body"
    profile = "same" if variation.is_own(replayer.profile) else "foreign"
    numbers = range(len(stage.inputs))
    together = len(numbers) if variation.company else 1
    try:
        engine = started(
            stage.stored, stage.start, stage.stop, len(stage.inputs[0]), variation, sessions=together
        )
    except LlamaError:  # a setting that this machine does not offer
        return
    with engine:
        for first in range(0, len(numbers), together):
            group = numbers[first : first + together]
            wire = WIRES[(turn + first // together) % len(WIRES)]
            for transcript in stage.serve(engine, group, variation, wire):
                judgement = replayer.judge(transcript)
                limits = bounds.of(kind, judgement.tier)
                key = (variation.name, profile, kind, wire.name.lower())
                tallies[key].add(judgement, limits, transcript.generated)
                if judgement.finding is Finding.FAIL:
                    where = dict(zip(KEYS, key, strict=True))
                    faults.append({**where, "tokens": transcript.generated, **asdict(judgement.difference)})


def _sum(rows: list[dict[str, Any]]) -> Tally:
    total = Tally()
    for row in rows:
        total = total.merged(Tally(**{name: row[name] for name in (*COUNTS, "nearest")}))
    return total


def show(result: dict[str, Any], out: Console) -> None:
    """Models, and types on the wire, together; then by wire and by model."""
    rows, total = result["rows"], result["total"]
    headings = ("audits", "steps", "pass", "grey", "fail", "spot", "replayed", "spared", "nearest")
    table = Table(
        "profile",
        "way to serve",
        "output",
        *headings,
        title=f"{total['steps']} honest steps in {total['audits']} audits, {result['seconds'] / 60:.0f} minutes",
        caption=f"fault rate below {total['fault_rate_below']:.2%} with 95 % confidence; nearest: largest error "
        "as a share of what calibration calls a fault",
    )
    _table(table, rows, ("profile", "variation", "kind"))
    out.print(table)
    for title, key in (("wire", "wire"), ("model", "model")):
        _table(table := Table(title, *headings), rows, (key,))
        out.print(table)


def _table(table: Table, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    for key in sorted({tuple(row[name] for name in keys) for row in rows}, reverse=True):
        tally = _sum([row for row in rows if tuple(row[name] for name in keys) == key])
        counts = (str(getattr(tally, name)) for name in COUNTS)
        table.add_row(*key, *counts, f"{tally.nearest:.2f}")
