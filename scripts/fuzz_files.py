"""Hostile model files: good ones changed somewhere, judged, loaded and run in processes with limits.

    python scripts/fuzz_files.py [--files 100000] [--seed 0] [--processes 1]

What judges a file has to find one sentence for anything. What it lets pass goes to llama.cpp, which may refuse it, or
end the process that it runs in, and no other. Prints how many ended how, and what was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.models.hostile import Found, search


def one(files: int, seed: int) -> Found:
    """A search in a process of its own."""
    with TemporaryDirectory() as folder:
        return search(files, seed, Path(folder))


def main() -> int:
    """Share the files out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    share, seen, wrong = options.files // options.processes, Counter[str](), list[str]()
    seeds = range(options.seed, options.seed + options.processes)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for found in pool.map(one, [share] * options.processes, seeds):
            seen += found.seen
            wrong += found.wrong
    print(f"{sum(seen.values())} files, seed {options.seed}")
    for ending, number in seen.most_common():
        print(f"{number:8} {ending}")
    print("\n".join([*wrong[:50], f"{len(wrong)} wrong"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
