"""Hostile model files: good ones changed somewhere, judged, loaded and run in processes with limits.

    python scripts/fuzz_files.py [--files 100000] [--seed 0] [--processes 1]

What judges a file has to find one sentence for anything. What it lets pass goes to llama.cpp, which may refuse it, or
end the process that it runs in, and no other; where one ends over a file, another gets that file alone. Tells how far
it is after every 500 files, and prints how many ended how, and what was wrong: also when it is interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.models.hostile import Found, good_models, search

PIECE = 500


def one(files: int, seed: int) -> Found:
    """Some of the search, in a folder of its own."""
    with TemporaryDirectory() as folder:
        return search(files, seed, Path(folder), good_models(Path(folder)))


def main() -> int:
    """Share the files out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first 500; the next ones count on")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    seen, wrong, after_others, began = Counter[str](), list[str](), 0, time.monotonic()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        pieces = [
            pool.submit(one, min(PIECE, options.files - at), options.seed + at // PIECE)
            for at in range(0, options.files, PIECE)
        ]
        try:
            for piece in as_completed(pieces):
                found = piece.result()
                seen += found.seen
                after_others += found.after_others
                wrong += found.wrong
                rate = seen.total() / (time.monotonic() - began)
                print(
                    f"{seen.total()} files, {rate:.1f} a second, {len(wrong)} wrong",
                    file=sys.stderr,
                    flush=True,
                )
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"{seen.total()} files, seed {options.seed}")
    for ending, number in seen.most_common():
        print(f"{number:8} {ending}")
    print(f"{after_others} ended a process only after other files")
    print("\n".join([*wrong[:50], f"{len(wrong)} wrong"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
