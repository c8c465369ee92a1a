"""Random calls to the contracts, beside a model that says what must come of each: contracts/properties, run by Forge.

    python scripts/invariants.py --calls 10000000

Half of the calls go to the contracts of disputes, a quarter each to registry and channels. The contracts are the
committed artifacts with the default terms. A sequence that breaks the model is made short and printed, and the exit
code is 1; --seed runs the same sequences again. Needs `npm ci` in contracts/.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from eth_abi.abi import encode

from hypercluster.contracts import artifact
from hypercluster.market.chain import DisputeTerms

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
KEPT = ROOT / ".build" / "forge"
DEPTH = 250
"""calls of one sequence; each begins with newly deployed contracts"""
LONG = 100_000
"""calls above which an optimised compilation pays"""
PARTS = {"CourtTest": 2, "RegistryTest": 4, "ChannelsTest": 4}
"""handlers, and the part of all calls that each gets"""
SINGLE = ("DigestsTest", "HeadersTest")
"""tests of single things"""


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
    told = parser.parse_args()
    if told.calls < 1:
        parser.error("--calls has to be at least 1")
    print(f"seed {told.seed:#x}", flush=True)
    total = 0
    for single in SINGLE:
        if (found := run_forge(single)).returncode:
            print(found.stdout + found.stderr)
            return 1
    for handler, part in PARTS.items():
        profile = "long" if told.calls > LONG else "default"
        done = sequences(handler, -(-told.calls // part), seed=told.seed, profile=profile)
        total += done.calls
        if done.failed:
            print(done.output)
            return 1
        print(f"{handler}: {done.calls} calls held, {done.seconds:.0f} s", flush=True)
    print(f"all: {total} calls held")
    return 0


def sequences(
    handler: str, calls: int, *, seed: int, depth: int = DEPTH, profile: str = "default"
) -> Sequences:
    """Let Forge make so many calls, in sequences of `depth`, to one handler of contracts/properties.

    The profile "default" compiles quickly, "long" runs quickly. Raises FileNotFoundError when Forge is not installed.
    """
    settings = {
        "FOUNDRY_PROFILE": profile,
        "FOUNDRY_FUZZ_SEED": hex(seed),
        "FOUNDRY_INVARIANT_RUNS": str(-(-calls // depth)),
        "FOUNDRY_INVARIANT_DEPTH": str(depth),
    }
    began = time.monotonic()
    run = run_forge(handler, **settings)
    made = re.search(r"\(runs: \d+, calls: (\d+),", run.stdout)
    return Sequences(
        calls=int(made[1]) if made else 0,
        seconds=time.monotonic() - began,
        failed=run.returncode != 0 or made is None,
        output=run.stdout + run.stderr,
    )


def run_forge(contract: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of one contract of contracts/properties, with more variables of the environment."""
    return subprocess.run(
        [forge(), "test", "--match-contract", f"^{contract}$", "-vv"],
        cwd=CONTRACTS,
        env=os.environ | {"HOME": str(KEPT), "HC_TERMS": "0x" + default_terms().hex()} | settings,
        capture_output=True,
        text=True,
    )


def default_terms() -> bytes:
    """The parameters of disputes of a deployment that names none, as the constructor of the cases takes them."""
    constructor = next(entry for entry in artifact("DisputeCases").abi if entry["type"] == "constructor")
    fields = constructor["inputs"][1]["components"]
    return encode([f"({','.join(field['type'] for field in fields)})"], [astuple(DisputeTerms())])


def forge() -> Path:
    """The platform's own binary; npm's launcher script would leave its child behind when it is killed."""
    found = sorted((CONTRACTS / "node_modules" / "@foundry-rs").glob("forge-*/bin/forge*"))
    if not found:
        raise FileNotFoundError("Forge is not installed: run `make setup`.")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
