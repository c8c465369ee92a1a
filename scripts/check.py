"""Everything that must hold before a change lands: format, lint, types, tests.

python scripts/check.py [--fast] [--lint]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TESTS_FAILED = 1  # of pytest's exit codes
LINT = [
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["mypy"],
]
# Tests wait for peers, chains and deadlines as much as they compute, so one more runs at once than there are cores.
PARALLEL = ["-n", str(min(4, 1 + (os.cpu_count() or 1))), "--dist", "worksteal"]
# A test of real processes may lose its race against a deadline to its neighbours. As in CPython's own tests, the few
# that fail are run once more, alone: what fails then is broken, and what passes is named in the output all the same.
FEW = 5
FAILED_TESTS = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    parser.add_argument("--lint", action="store_true", help="formatting, lint and types alone")
    arguments = parser.parse_args()
    steps = list(LINT)
    if not arguments.lint:
        only = ["-m", "not slow"] if arguments.fast else []
        steps += [
            ["ape", "test", "tests/contracts", "--network", "ethereum:local:foundry"],
            ["pytest", *PARALLEL, *only, "--durations", "25", "--durations-min", "10"],
        ]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    # Without byte code every process of the end-to-end tests compiles libp2p anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for step in steps:
        print(f"\n$ {' '.join(step)}", flush=True)
        code = subprocess.run([BIN / step[0], *step[1:]], cwd=ROOT, env=environment).returncode
        if code == TESTS_FAILED and step[0] == "pytest":
            code = again(environment)
        if code:
            return code
    return 0


def again(environment: dict[str, str]) -> int:
    """Run the tests that failed beside others once more, alone, if they are few. Returns pytest's exit code."""
    failed = sorted(json.loads(FAILED_TESTS.read_text()))
    if len(failed) > FEW:
        return TESTS_FAILED
    print(f"\nFailed beside others, and run once more alone: {', '.join(failed)}", flush=True)
    return subprocess.run([BIN / "pytest", *failed], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
