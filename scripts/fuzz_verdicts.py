"""Try to convict an honest verifier: adversarial pairs of transcripts of the same rows, judged as any verifier does.

    python scripts/fuzz_verdicts.py [--pairs 100000] [--seed 1] [--weights F32 ...] [--json]

Whoever pays chooses all that a verifier sees: inputs, among them such as make outputs nearly cancel, so that rounding
is all that is left (a search by Gauss-Newton steps, and a walk around what it finds); the steps in which rows came,
those that went back included; the profile and the type on the wire; and the outputs, served honestly in some way or
other, or moved to the edge of what passes. Each set of inputs gives about twenty transcripts. Of any two of them it
is asked what the contract asks: are both passed, are their questions one, and is a row of one too far from that of
the other? None may be. Nor may an honest answer under the verifier's own profile fail.

The models are small, of random weights, in F32, Q8_0 and Q4_0, with bounds from calibration and with the wide ones of a
model that never was calibrated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.market.trust.audit import Bounds, contradicts
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.engine.engine import Engine
from hypercluster.node.errors import NodeError
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.verdicts import input_root
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.rows import Float32s, WireDtype, pack_activations, unpack_activations
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.wire.records import AuditStep

# The writer of random models belongs to the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.node.helpers.random_models import Shape, write_random_model
from tests.node.helpers.stages import stage_record

WEIGHTS = {"F32": Type.F32, "Q8_0": Type.Q8_0, "Q4_0": Type.Q4_0}
CONTEXT = 256
FOREIGN = "another machine"
FOUND = Path(__file__).resolve().parents[1] / "tests/node/replay/near_cancelling.npy"
"""rows of a longer search in the F32 model, whose honest outputs are as far apart as the contract convicts for"""
Floats = npt.NDArray[np.float64]
Steps = tuple[tuple[int, int], ...]
"""position and rows of each step"""


@dataclass(frozen=True, slots=True)
class Passed:
    """A transcript that was passed: what it was asked, its rows, and the tolerance that the verdict names."""

    question: bytes
    rows: Float32s
    tolerance: int


class Bench:
    """One model: an engine that serves a stage in any steps, and the verifier that is to be convicted."""

    def __init__(self, stored: StoredModel, bounds: Bounds, start: int, stop: int) -> None:
        self.stored, self.start, self.stop = stored, start, stop
        self.width = stored.manifest.width
        self.engine = Engine(
            stored.shard(start, stop), first=False, last=False, n_ctx_total=CONTEXT, max_sessions=1, threads=1
        )
        self.replayer = Replayer(stored, bounds, threads=1)

    def serve(self, rows: Float32s, steps: Steps) -> Float32s:
        """The outputs, float32 [n, width], to rows that come in these steps."""
        slot, at, found = self.engine.open(CONTEXT), 0, []
        try:
            for position, count in steps:
                step = self.engine.submit(slot, position, rows[at : at + count], "all", 1)
                activations = step.result().activations
                assert activations is not None
                found.append(activations)
                at += count
        finally:
            self.engine.close(slot)
        return np.concatenate(found)

    def transcript(
        self, rows: Float32s, outputs: Float32s, steps: Steps, profile: str, wire: WireDtype
    ) -> Transcript:
        """Rows and outputs as a client would hand them to a verifier."""
        served, at = [], 0
        for seq, (position, count) in enumerate(steps):
            given, gave = (pack_activations(each[at : at + count], wire) for each in (rows, outputs))
            served.append(AuditStep(seq, position, count, count, given, gave))
            at += count
        record = replace(stage_record(self.stored, self.start, self.stop), profile=profile, wire_dtype=wire)
        return Transcript(record, tuple(served))

    def close(self) -> None:
        """Free both engines."""
        self.engine.stop()
        self.replayer.close()


# --- inputs ------------------------------------------------------------------------------------------------------


def cancelling(bench: Bench, rows: int, draw: np.random.Generator, seconds: float) -> Float32s | None:
    """Rows whose last output nearly cancels: Gauss-Newton steps of the last rows towards an output of zero."""
    width, whole = bench.width, ((0, rows),)
    free = range(max(0, rows - 2), rows)
    until = time.process_time() + seconds

    def last(x: Floats) -> Floats:
        return np.asarray(bench.serve(x.astype(np.float32), whole)[-1], np.float64)

    x = draw.standard_normal((rows, width)) * np.exp(draw.uniform(-3, 1))
    out, damping = last(x), 1e-2
    while time.process_time() < until and np.linalg.norm(out) > 3e-3 * np.linalg.norm(x[-1]):
        jacobian = np.empty((width, len(free) * width))
        for column, (row, index) in enumerate(itertools.product(free, range(width))):
            step = 1e-2 * np.linalg.norm(x[row]) / np.sqrt(width)
            ahead, behind = x.copy(), x.copy()
            ahead[row, index] += step
            behind[row, index] -= step
            jacobian[:, column] = (last(ahead) - last(behind)) / (2 * step)
        square = jacobian @ jacobian.T
        for _ in range(5):
            damped = square + damping * np.trace(square) / width * np.eye(width)
            moved = x.copy()
            moved[-len(free) :] += (jacobian.T @ np.linalg.solve(damped, -out)).reshape(len(free), width)
            new = last(moved)
            if np.linalg.norm(new) / np.linalg.norm(moved[-1]) < np.linalg.norm(out) / np.linalg.norm(x[-1]):
                x, out, damping = moved, new, damping * 0.2
                break
            damping *= 5
        else:
            break
    return x.astype(np.float32) if np.linalg.norm(out) < 0.3 * np.linalg.norm(x[-1]) else None


def inputs(bench: Bench, starts: Sequence[Float32s], draw: np.random.Generator) -> Iterator[Float32s]:
    """Rows without end: around those that nearly cancel, drawn at random, of one direction, huge or tiny."""
    while True:
        if starts:
            found = starts[int(draw.integers(len(starts)))]
            noise = draw.standard_normal(found.shape) * draw.choice([0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
            yield (found * (1 + noise)).astype(np.float32)
        rows = int(draw.integers(2, 11))
        plain = draw.standard_normal((rows, bench.width)) * np.exp(draw.uniform(-8, 5))
        if draw.random() < 0.3:
            plain[1:] = plain[0] * (1 + 1e-3 * plain[1:])
        if draw.random() < 0.3:
            plain[:, draw.integers(bench.width)] *= 1e3
        yield plain.astype(np.float32)


def partitions(rows: int, draw: np.random.Generator) -> list[Steps]:
    """Ways in which the rows may come: at once, one by one, cut at random, and going back."""
    whole, single = ((0, rows),), tuple((at, 1) for at in range(rows))
    cuts = sorted({0, rows, *draw.integers(1, rows, 3).tolist()})
    cut = tuple((start, stop - start) for start, stop in itertools.pairwise(cuts))
    back = int(draw.integers(0, rows // 2 + 1))
    half = rows // 2
    rewound = ((0, half), (min(back, half), rows - half)) if half else whole
    other = ((0, half), (half // 2, rows - half)) if half else whole
    return [whole, single, cut, rewound, other]


# --- transcripts and what they prove -----------------------------------------------------------------------------


def transcripts(bench: Bench, rows: Float32s, draw: np.random.Generator) -> Iterator[tuple[Transcript, bool]]:
    """What a client may show of one set of rows, and whether it is an honest answer under the verifier's profile."""
    small = np.abs(rows).max() < 1e3  # so that the outputs fit into f16 as well
    wire = WireDtype(draw.choice([WireDtype.F32, WireDtype.F16, WireDtype.Q8])) if small else WireDtype.F32
    given = unpack_activations(pack_activations(rows, wire), len(rows), bench.width, wire)
    own = bench.replayer.profile
    ways = partitions(len(rows), draw)
    served = [bench.serve(given, steps) for steps in ways]
    for steps, outputs in zip(ways, served, strict=True):
        for profile in (own, FOREIGN):
            yield bench.transcript(given, outputs, steps, profile, wire), profile == own
    whole = served[0].astype(np.float64)
    size = np.linalg.norm(whole, axis=1, keepdims=True)
    apart = draw.standard_normal(whole.shape)
    apart *= size / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-30)
    tolerance = bench.replayer.bounds.tolerance("body", own=draw.random() < 0.3, rounding=wire.rounding) / 1e6
    edges = [whole + sign * 0.999 * tolerance * each for sign in (-1, 1) for each in (whole, apart)]
    edges += [whole + sign * 1.01 * tolerance * apart for sign in (-1, 1)]
    edges += [np.vstack([whole[:-1], served[1][-1:].astype(np.float64)]), (whole + served[1]) / 2]
    for edge in edges:
        steps = ways[draw.integers(3)]
        profile = FOREIGN if draw.random() < 0.8 else own
        yield bench.transcript(given, edge.astype(np.float32), steps, profile, wire), False


def judged(bench: Bench, transcript: Transcript) -> Judgement | None:
    """What the verifier finds; nothing where it refuses the rows."""
    try:
        return bench.replayer.judge(transcript)
    except NodeError:
        return None


def attack(bench: Bench, rows: Float32s, draw: np.random.Generator, tally: Counter[str]) -> None:
    """Judge all transcripts of one set of rows, and count what any two of them prove."""
    passed: list[Passed] = []
    digests: dict[bytes, bytes] = {}
    shown = 0
    for transcript, honest in transcripts(bench, rows, draw):
        found = judged(bench, transcript)
        if found is None:
            tally["refused"] += 1
            continue
        shown += 1
        tally[found.finding.name.lower()] += 1
        tally["honest failed"] += honest and found.finding is Finding.FAIL
        question = input_root(transcript) + bytes([transcript.record.wire_dtype])
        tally["computed otherwise"] += digests.setdefault(question, found.own_digest) != found.own_digest
        if found.finding is Finding.PASS:
            wire = transcript.record.wire_dtype
            gave = unpack_activations(transcript.output, transcript.outputs, bench.width, wire)
            passed.append(Passed(question, gave, found.tolerance))
    tally["pairs"] += shown * (shown - 1) // 2
    for first, second in itertools.combinations(passed, 2):
        if first.question != second.question:
            continue
        tally["both passed"] += 1
        tolerance = max(first.tolerance, second.tolerance)
        pairs = zip(first.rows, second.rows, strict=True)
        tally["convicted"] += any(contradicts(x, y, tolerance) for x, y in pairs)
    whole, single = (
        bench.serve(rows, steps)[-1] for steps in (((0, len(rows)),), tuple((i, 1) for i in range(len(rows))))
    )
    tally["torn apart"] += contradicts(whole, single, 100_000)


def fuzz(weights: str, pairs: int, seed: int, seconds: float, folder: Path) -> Counter[str]:
    """Attack verifiers of one kind of weights with so many pairs; `seconds` for each search of rows that cancel."""
    path = write_random_model(
        folder / f"{weights}.gguf", Shape(quantisation=WEIGHTS[weights], context=CONTEXT)
    )
    stored = open_model(path, folder / weights)
    draw = np.random.default_rng(seed)
    calibrated = calibrate(stored, texts=2, tokens=48)
    tally: Counter[str] = Counter()
    kinds = [
        (bounds, *stage)
        for bounds in (calibrated, Bounds.conservative(stored.manifest.model_id))
        for stage in ((1, 2), (1, 3))
    ]
    for number, (bounds, start, stop) in enumerate(kinds, 1):
        bench = Bench(stored, bounds, start, stop)
        try:
            searched = [cancelling(bench, rows, draw, seconds) for rows in (4, 8)]
            starts = [rows for rows in searched if rows is not None]
            if weights == "F32" and stop == 2:
                starts.append(np.load(FOUND))
            tally["cancelling inputs"] += len(starts)
            source = inputs(bench, starts, draw)
            while tally["pairs"] < pairs * number // len(kinds):
                attack(bench, next(source), draw, tally)
        finally:
            bench.close()
    return tally


def main() -> None:
    """Attack and print what came of it; exits 1 if anybody honest was convicted or failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", action="append", choices=[*WEIGHTS], help="may be given several times")
    parser.add_argument(
        "--search", type=float, default=5.0, help="seconds for each search of rows that cancel"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    kinds = options.weights or [*WEIGHTS]
    found: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for weights in kinds:
            tally = fuzz(weights, options.pairs // len(kinds) + 1, options.seed, options.search, Path(folder))
            found[weights] = dict(tally)
            if not options.json:
                told = ", ".join(f"{count} {what}" for what, count in tally.items() if count)
                print(
                    f"{weights}: {told}; {tally['convicted']} convicted, {tally['honest failed']} honest failed.",
                    flush=True,
                )
    if options.json:
        print(json.dumps(found))
    if any(each["convicted"] or each["honest failed"] for each in found.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
