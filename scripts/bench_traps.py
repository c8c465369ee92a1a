"""Can whoever does not compute tell planted faults from honest transcripts? Two classifiers try to learn it.

    python scripts/bench_traps.py [--traps 1000] [--generated 8] [--draws 5] [--seed 1] [--json]

The demo model writes texts, and its middle layers serve them. From some of the transcripts a reader learns what
outputs go with which inputs. Of the others one half is honest and in one half a fault is planted, as is drawn, no text
twice. The classifiers learn from two thirds of these with their labels, and are asked about the rest, each third in its
turn. That is done for several draws. How often they are right on average is printed with the standard error of one
draw, 0.5 being chance, for the faults that a client plants, and for two kinds that are easily told, which shows that
the classifiers see something: rows with their values shuffled, and noise that is as large as what verifiers of another
profile reject.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from bench_traps_reading import Reader, Shown, boosted, logistic
from bench_verification_served import Stage, opened, started, texts

from hypercluster.market.trust.audit import Bounds
from hypercluster.node.client.auditing.traps import plant
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.measuring import PROMPT
from hypercluster.node.replay.variations import Variation
from hypercluster.node.rows import WireDtype, unpack_activations

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.node.helpers.stages import behind_others

Floats = npt.NDArray[np.float64]
WIRE = WireDtype.F32
KNOWN = 0.15
"""transcripts that the reader once computed, for each one that it is asked about"""
THIRDS = 3


@dataclass(frozen=True)
class Material:
    """Transcripts of one stage, for each what it answers to the same rows behind others, and the model's bounds."""

    transcripts: list[Transcript]
    again: list[dict[int, bytes]]
    bounds: Bounds
    width: int


def served(generated: int, count: int, seed: int, home: Path) -> Material:
    """Of the middle layers, over texts that the model wrote."""
    stored = opened("demo", home)
    layers = stored.manifest.layers
    written = texts(stored, count, generated, 1_000_000 * seed)
    stage = Stage.of(stored, layers // 3, 2 * layers // 3, written)
    way = Variation("alone")
    with started(stored, stage.start, stage.stop, PROMPT + generated, way) as engine:
        transcripts = [stage.serve(engine, [number], way, WIRE)[0] for number in range(count)]
        again = [behind_others(engine, each) for each in transcripts]
    return Material(transcripts, again, calibrate(stored, texts=2, tokens=48), stored.manifest.width)


def rows(transcript: Transcript, width: int) -> tuple[Floats, Floats]:
    """Inputs and outputs of a transcript, float64 [n, width]."""
    both = transcript.input, transcript.output
    given, gave = (unpack_activations(each, transcript.tokens, width, WIRE) for each in both)
    return given.astype(np.float64), gave.astype(np.float64)


def faults(
    material: Material, first: int, seed: int
) -> dict[str, Callable[[int, Transcript], Floats | None]]:
    """By name what is shown instead of the outputs of a transcript, the nth from `first` on; nothing where no fault can
    be planted.
    """
    draw = np.random.default_rng(seed)
    bounds, width = material.bounds, material.width

    def planted(number: int, transcript: Transcript) -> Floats | None:
        again = material.again[first + number]
        found = plant(transcript, again, bounds, width=width, is_tail=False)
        return None if found is None else rows(found.transcript, width)[1]

    def shuffled(number: int, transcript: Transcript) -> Floats:
        outputs = rows(transcript, width)[1]
        row = int(draw.integers(len(outputs)))
        outputs[row] = draw.permutation(outputs[row])
        return outputs

    def noisy(number: int, transcript: Transcript) -> Floats:
        outputs = rows(transcript, width)[1]
        noise = draw.standard_normal(outputs.shape)
        size = 3 * bounds.of("body", "foreign").reject_median * np.linalg.norm(outputs, axis=1, keepdims=True)
        noise *= size / np.linalg.norm(noise, axis=1, keepdims=True)
        return (outputs + noise).astype(np.float32).astype(np.float64)

    return {
        "planted": planted,
        "shuffled row": shuffled,
        "plain noise": noisy,
    }


def told(honest: Floats, wrong: Floats, draws: int, seed: int) -> dict[str, float]:
    """How often each classifier is right: figures, float64 [n, m], of the same transcripts without and with a fault."""
    draw = np.random.default_rng(seed)
    right: dict[str, list[float]] = {"logistic": [], "boosted": []}
    for _ in range(draws):
        order = draw.permutation(len(honest))
        labels = np.zeros(len(honest), bool)
        labels[draw.permutation(len(honest))[: len(honest) // 2]] = True
        figures = np.where(labels[:, None], wrong, honest)
        for third in range(THIRDS):
            asked = order[third::THIRDS]
            known = np.setdiff1d(order, asked)
            for each in (logistic, boosted):
                said = each(figures[known], labels[known], figures[asked])
                right[each.__name__] += (said == labels[asked]).tolist()
    return {name: float(np.mean(each)) for name, each in right.items()}


def measured(options: argparse.Namespace, home: Path) -> list[dict[str, float | str]]:
    """Of each kind of fault how large it is and how often the classifiers are right."""
    asked = 2 * options.traps
    known = max(40, int(KNOWN * asked))
    material = served(options.generated, known + asked, options.seed, home)
    transcripts, width = material.transcripts, material.width
    reader = Reader([Shown(*rows(each, width), PROMPT) for each in transcripts[:known]])
    shown = transcripts[known:]
    honest = np.array([reader.features(Shown(*rows(each, width), PROMPT)) for each in shown])
    found: list[dict[str, float | str]] = []
    for name, fault in faults(material, known, options.seed).items():
        kept, wrong, sizes = [], [], []
        for number, transcript in enumerate(shown):
            inputs, outputs = rows(transcript, width)
            if (given := fault(number, transcript)) is None:
                continue
            kept.append(number)
            wrong.append(reader.features(Shown(inputs, given, PROMPT)))
            off = np.linalg.norm(given - outputs, axis=1) / np.linalg.norm(outputs, axis=1)
            sizes.append((np.median(off), off.max()))
        right = told(honest[kept], np.array(wrong), options.draws, options.seed)
        median, worst = np.median(sizes, axis=0)
        found.append(
            {
                "fault": name,
                "planted": len(kept) // 2,
                "honest": len(kept) - len(kept) // 2,
                "median_error": float(median),
                "largest_error": float(worst),
                **right,
                "standard_error": float(0.5 / np.sqrt(len(kept))),
            }
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traps", type=int, default=1000, help="with a fault, and as many honest ones")
    parser.add_argument("--generated", type=int, default=8, help=f"tokens behind a prompt of {PROMPT}")
    parser.add_argument("--draws", type=int, default=5, help="of who is honest, each learned from anew")
    parser.add_argument("--seed", type=int, default=1, help="of the texts, from 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for row in found:
        print(
            f"{row['fault']}: errors {row['median_error']:.1e} (median), {row['largest_error']:.1e} (largest); "
            f"right {row['logistic']:.3f} (logistic), {row['boosted']:.3f} (boosted), "
            f"standard error {row['standard_error']:.3f}, {row['planted']} planted, {row['honest']} honest."
        )


if __name__ == "__main__":
    main()
