"""Everything that must hold before a change lands: format, lint, types, tests.

python scripts/check.py [--fast] [--lint]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LINT = [
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["mypy"],
]
# Tests wait for peers, chains and deadlines as much as they compute, so one more runs at once than there are cores.
PARALLEL = ["-n", str(min(4, 1 + (os.cpu_count() or 1))), "--dist", "worksteal"]


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
            ["pytest", *PARALLEL, *only],
        ]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    # Without byte code every process of the end-to-end tests compiles libp2p anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for step in steps:
        print(f"\n$ {' '.join(step)}", flush=True)
        code = subprocess.run([BIN / step[0], *step[1:]], cwd=ROOT, env=environment).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
