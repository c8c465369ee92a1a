"""python -m tests.fuzz [--minutes M] [--jobs N] [--only NAME]... [--seed TEXT]: all decoders, for an hour by default.

What is not taken as it should is written to .build/fuzz/<decoder>/; when it is mended, move it to the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import secrets
import sys
import time
from pathlib import Path
from queue import Empty

from tests.fuzz.fuzzing import Found
from tests.fuzz.jobs import Turn, work
from tests.fuzz.table import DECODERS

ROOT = Path(__file__).resolve().parents[2]
CRASHES = ROOT / ".build" / "fuzz"
TURN_SECONDS = 10.0
"""of one decoder, before the next has its turn"""
TELL_SECONDS = 15.0


def main() -> int:
    """Fuzz, tell how it goes, and sum it up."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=60, help="for all of it (default 60)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument("--only", action="append", choices=sorted(DECODERS), help="a decoder; several times")
    parser.add_argument("--seed", help="of the draws (default: another in each run)")
    options = parser.parse_args()
    names = options.only or list(DECODERS)
    seed = options.seed or secrets.token_hex(4)
    total = {name: Found() for name in names}
    budget = 60 * options.minutes * options.jobs
    rounds = max(1, round(budget / (len(names) * TURN_SECONDS)))
    seconds = budget / (len(names) * rounds)
    print(
        f"{len(names)} decoders, {rounds} turns of {seconds:.0f} s each, {options.jobs} jobs, seed {seed}",
        flush=True,
    )
    context = multiprocessing.get_context("spawn")
    turns: multiprocessing.Queue[tuple[str, str, float]] = context.Queue()
    results: multiprocessing.Queue[Turn] = context.Queue()
    for number in range(rounds):
        for name in names:
            # The first turn is that of the test with this seed.
            turns.put((name, seed if number == 0 else f"{seed} {number}", seconds))
    jobs = [context.Process(target=work, args=(turns, results), daemon=True) for _ in range(options.jobs)]
    for job in jobs:
        job.start()
    began = told = time.monotonic()
    for _ in range(rounds * len(names)):
        turn = _next(results, jobs)
        if turn is None:
            print("A job was killed, for its memory or by a crash of a library: see the decoders under way.")
            return 2
        _add(total[turn.decoder], turn)
        if time.monotonic() > told + TELL_SECONDS:
            told = time.monotonic()
            print(f"{told - began:5.0f} s  {_summary(total)}", flush=True)
    for name, found in sorted(total.items(), key=lambda item: -item[1].inputs):
        print(
            f"  {name:20}{found.inputs:>10} inputs{len(found.outcomes):>6} outcomes{len(found.crashes):>4} crashes"
        )
    print(_summary(total))
    return 1 if any(found.crashes for found in total.values()) else 0


def _next(
    results: multiprocessing.Queue[Turn], jobs: list[multiprocessing.context.SpawnProcess]
) -> Turn | None:
    while True:
        try:
            return results.get(timeout=2)
        except Empty:
            if any(job.exitcode not in (None, 0) for job in jobs):
                return None


def _add(total: Found, turn: Turn) -> None:
    found = turn.found
    total.inputs += found.inputs
    total.outcomes += found.outcomes
    for what, crash in found.crashes.items():
        if what in total.crashes:
            continue
        total.crashes[what] = crash
        path = CRASHES / turn.decoder / f"crash-{hashlib.sha256(crash.data).hexdigest()[:8]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(crash.data)
        print(f"{crash}\nwritten to {path}, seed {turn.seed!r}", flush=True)


def _summary(total: dict[str, Found]) -> str:
    inputs = sum(found.inputs for found in total.values())
    outcomes = sum(len(found.outcomes) for found in total.values())
    crashes = sum(len(found.crashes) for found in total.values())
    return f"{inputs} inputs, {outcomes} outcomes told apart, {crashes} crashes"


if __name__ == "__main__":
    sys.exit(main())
