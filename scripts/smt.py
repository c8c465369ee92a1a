"""Proofs over the contracts' sources: contracts/proofs, by Halmos, which lets an SMT solver look for a counterexample.

    python scripts/smt.py

What a channel keeps in one word, settling, withdrawing and slashing are looked at for all amounts, callers, signatures
and times at once, not for tries. Halmos comes from PyPI into an environment of its own in .build/smt. The exit code
is not 0 for a counterexample, and for a proof that did not come to its end. Needs `npm ci` in contracts/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from invariants import CONTRACTS, ROOT, forge
from own_environment import program

KEPT = ROOT / ".build" / "smt"
PACKAGE = "halmos==0.3.3"


def main() -> int:
    """Prove and show what Halmos says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contract", help="proofs of this contract of contracts/proofs alone")
    parser.add_argument("--seconds", type=int, default=600, help="for each question to the solver")
    told = parser.parse_args()
    if told.seconds < 1:
        parser.error("--seconds has to be at least 1")
    command = [str(program("halmos", PACKAGE, KEPT)), "--root", ".", "--forge-build-out", "../.build/smt/out"]
    command += ["--solver-timeout-assertion", f"{told.seconds}s"]
    command += ["--contract", told.contract] if told.contract else []
    path = os.pathsep.join([str(forge().parent), os.environ.get("PATH", "")])
    environment = os.environ | {"FOUNDRY_PROFILE": "smt", "HOME": str(KEPT), "PATH": path}
    return subprocess.run(command, cwd=CONTRACTS, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
