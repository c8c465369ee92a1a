"""Figures for docs/verification.md: what receipts and audits cost, what they find, and whom they accuse wrongly.

    python scripts/bench_verification.py receipts|detection|honest|cost|evidence [--json]

Everything runs in this process: no network, no chain. Providers are engines that serve step by step; those that cheat
do it as `cheating` does. Transcripts of what they served are judged as any auditor judges them, with bounds from
`calibration`, which sees other texts. Models other than the demo model have random weights and go to a temporary
folder, or to --home.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import bench_verification_cost as cost
import bench_verification_detection as detection
import bench_verification_honest as honest
import bench_verification_receipts as receipts
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

COMMANDS: dict[str, tuple[Any, str]] = {
    "receipts": (receipts, "microseconds for a step's receipt at the provider and at the client"),
    "detection": (detection, "how often each cheat is found, by model, stage, profile and audited tokens"),
    "honest": (honest, "how often honest providers are found guilty or left in doubt"),
    "cost": (cost, "time of an audit next to the generation that it checks"),
    "evidence": (receipts.Evidence, "bytes of what is kept"),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"Measure {about}.")
        command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
        command.add_argument("--home", type=Path, help="folder that keeps models; default: a temporary one")
        module.add_arguments(command)
    return parser.parse_args()


def main() -> None:
    """Run one measurement and print it."""
    options = arguments()
    module = COMMANDS[options.command][0]
    load = os.getloadavg()[0]
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("Starting", total=module.work(options))

        def advance(what: str, done: int) -> None:
            progress.update(task, advance=done, description=what or None)

        result = module.run(options, options.home or Path(folder), advance)
    if options.json:
        print(json.dumps({"command": options.command, "load_before": load, **result}))
        return
    out = Console(highlight=False)
    module.show(result, out)
    out.print(f"Load average before: {load:.1f}.")


if __name__ == "__main__":
    main()
