"""Kill -9 soak: a market of real processes on Anvil, killed at random moments under load; then all books are compared.

python scripts/soak.py --kills 500 --seed 7 --json soak.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.soak.soak import Soaked, soak

console = Console(stderr=True)


def main() -> None:
    """Run it and say what was found; the exit code is 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("--minutes", type=float, default=math.inf, help="to kill for at most")
    parser.add_argument(
        "--slow", type=int, default=1, help="times as long for all deadlines, on a busy machine"
    )
    parser.add_argument("--home", type=Path, help="folder to keep; by default one that goes")
    parser.add_argument("--json", type=Path, help="file to write the result to; - is standard output")
    told = parser.parse_args()
    console.print(f"seed {told.seed}: the same seed draws the same kills")
    columns = (TextColumn("kill -9"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with TemporaryDirectory(prefix="soak-") as folder, Progress(*columns, console=console) as progress:
        task = progress.add_task("kills", total=told.kills)
        began = time.monotonic()
        result = soak(
            told.home or Path(folder),
            kills=told.kills,
            seed=told.seed,
            seconds=60 * told.minutes,
            slow=told.slow,
            on_kill=lambda count: progress.update(task, completed=count),
        )
        seconds = time.monotonic() - began
    show(result, seconds)
    if told.json:
        text = json.dumps({**result.document(), "seconds": round(seconds)}, indent=1)
        if str(told.json) == "-":
            print(text)
        else:
            told.json.write_text(text)
    sys.exit(bool(result.wrong))


def show(result: Soaked, seconds: float) -> None:
    """Tables for people."""
    table = Table("killed", "times", title=f"{sum(result.kills.values())} kills in {seconds:.0f} s")
    for name, count in sorted(result.kills.items()):
        table.add_row(name, str(count))
    console.print(table)
    table = Table("afterwards", "")
    for name, value in sorted(result.figures.items()):
        table.add_row(name, f"{value:,}")
    console.print(table)
    for sentence in result.wrong:
        console.print(f"WRONG {sentence}", markup=False)
    console.print(f"{len(result.wrong)} things wrong")


if __name__ == "__main__":
    main()
