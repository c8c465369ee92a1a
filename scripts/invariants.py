"""Random calls to the contracts, beside a model that says what must come of each: contracts/properties, run by Forge.

    python scripts/invariants.py --calls 10000000

Half of the calls go to the contracts of disputes, by thirds with committees of three, five and seven, a quarter each to
registry and channels. The contracts are the committed artifacts, all else in the terms is the default. A sequence that
breaks the model is made short and printed, and the exit code is 1; --seed runs the same sequences again. Needs `npm ci`
in contracts/.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from pathlib import Path

from eth_abi.abi import encode
from rich.console import Console
from rich.progress import track

from hypercluster.contracts import artifact
from hypercluster.market.chain import DisputeTerms

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
KEPT = ROOT / ".build" / "forge"
DEPTH = 250
"""calls of one sequence; each begins with newly deployed contracts"""
LONG = 100_000
"""calls above which an optimised compilation pays"""
PIECE = 10_000
"""calls of one process of Forge at most"""
DICTIONARY = {
    "FOUNDRY_INVARIANT_MAX_FUZZ_DICTIONARY_VALUES": "100",
    "FOUNDRY_INVARIANT_MAX_FUZZ_DICTIONARY_ADDRESSES": "20",
}
"""Handlers take any number for one of theirs, so values that Forge saw before tell them nothing and only take time."""
PARTS = {"CourtTest": 2, "RegistryTest": 4, "ChannelsTest": 4}
"""handlers, and the part of all calls that each gets"""
SIZES = {"CourtTest": (3, 5, 7)}
"""seats of the committees of a handler, which share its calls; others have no committees"""
DEFAULT = DisputeTerms().seats
SINGLE = ("DigestsTest", "HeadersTest")
"""tests of single things"""


err = Console(stderr=True)


@dataclass(frozen=True)
class Sequences:
    """What Forge did: calls that were made and seconds that it took; output names what failed, and is all of it."""

    calls: int
    seconds: float
    failed: bool
    output: str


def main() -> int:
    """Run them and say how many calls were made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000_000, help="in all; rounded up to whole sequences")
    parser.add_argument("--seed", type=lambda text: int(text, 0), default=secrets.randbits(256))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that run at once")
    told = parser.parse_args()
    if min(told.calls, told.processes) < 1:
        parser.error("--calls and --processes have to be at least 1")
    print(f"seed {told.seed:#x}", flush=True)
    profile = "long" if told.calls > LONG else "default"
    for single in SINGLE:
        if (found := run_forge(single, {"FOUNDRY_PROFILE": profile})).returncode:
            print(found.stdout + found.stderr)
            return 1
    pieces = [*_pieces(told.calls, told.seed)]
    done: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    with ThreadPoolExecutor(told.processes) as pool:
        running = {
            pool.submit(
                sequences, piece.handler, piece.calls, seed=piece.seed, profile=profile, seats=piece.seats
            ): piece
            for piece in pieces
        }
        for future in track(as_completed(running), total=len(running), console=err, transient=True):
            piece, made = running[future], future.result()
            if made.failed:
                pool.shutdown(wait=False, cancel_futures=True)
                print(f"{piece.name}, seed {piece.seed:#x}:\n{made.output}")
                return 1
            done[piece.name] += made.calls
            spent[piece.name] += round(made.seconds)
    for name, calls in done.items():
        print(f"{name}: {calls} calls held, {spent[name]} s of one process")
    print(f"all: {done.total()} calls held")
    return 0


@dataclass(frozen=True)
class Piece:
    """Calls to one handler by one process of Forge, which gets slower with each."""

    handler: str
    seats: int
    calls: int
    seed: int

    @property
    def name(self) -> str:
        """Handler, and size of the committees where there are some."""
        return f"{self.handler} with {self.seats} seats" if self.handler in SIZES else self.handler


def _pieces(calls: int, seed: int) -> Iterator[Piece]:
    """All calls in pieces, each with a seed of its own."""
    for handler, part in PARTS.items():
        sizes = SIZES.get(handler, (DEFAULT,))
        for seats in sizes:
            left = -(-calls // part // len(sizes))
            while left > 0:
                yield Piece(handler, seats, min(left, PIECE), seed)
                seed = (seed + 1) % 2**256
                left -= PIECE


def sequences(
    handler: str, calls: int, *, seed: int, depth: int = DEPTH, profile: str = "default", seats: int = DEFAULT
) -> Sequences:
    """Let Forge make so many calls, in sequences of `depth`, to one handler of contracts/properties.

    Committees have so many `seats`. The profile "default" compiles quickly, "long" runs quickly. Raises
    FileNotFoundError when Forge is not installed.
    """
    settings = {
        "FOUNDRY_PROFILE": profile,
        "FOUNDRY_FUZZ_SEED": hex(seed),
        "FOUNDRY_INVARIANT_RUNS": str(-(-calls // depth)),
        "FOUNDRY_INVARIANT_DEPTH": str(depth),
        **DICTIONARY,
    }
    began = time.monotonic()
    run = run_forge(handler, settings, seats)
    made = re.search(r"\(runs: \d+, calls: (\d+),", run.stdout)
    return Sequences(
        calls=int(made[1]) if made else 0,
        seconds=time.monotonic() - began,
        failed=run.returncode != 0 or made is None,
        output=run.stdout + run.stderr,
    )


def run_forge(
    contract: str, settings: dict[str, str], seats: int = DEFAULT
) -> subprocess.CompletedProcess[str]:
    """Run the tests of one contract of contracts/properties, with `settings` in the environment."""
    return subprocess.run(
        [forge(), "test", "--match-contract", f"^{contract}$", "-vv"],
        cwd=CONTRACTS,
        env=os.environ | {"HOME": str(KEPT), "HC_TERMS": "0x" + terms_of(seats).hex()} | settings,
        capture_output=True,
        text=True,
    )


def terms_of(seats: int) -> bytes:
    """The parameters of a deployment that names only the seats, as the constructor of the cases takes them."""
    constructor = next(entry for entry in artifact("DisputeCases").abi if entry["type"] == "constructor")
    fields = constructor["inputs"][1]["components"]
    return encode([f"({','.join(field['type'] for field in fields)})"], [astuple(DisputeTerms(seats=seats))])


def forge() -> Path:
    """The platform's own binary; npm's launcher script would leave its child behind when it is killed."""
    found = sorted((CONTRACTS / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge*"))
    if not found:
        raise FileNotFoundError("Forge is not installed: run `make setup`.")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
