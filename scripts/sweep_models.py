#!/usr/bin/env python3
"""Cut a tiny model of every architecture, compare shards with the whole bit by bit, and write the table of the docs.

    .venv/bin/python scripts/sweep_models.py             # all architectures and variants, as a table
    .venv/bin/python scripts/sweep_models.py gemma3 glm4 # these cases
    .venv/bin/python scripts/sweep_models.py --write     # and put the table into docs/models.md

Each case runs in a process of its own, as many at a time as there are cores. Ends with exit code 1 unless everything is
as the table of rules (node/shards/rules.py) says.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hypercluster.node.shards.rules import RULES  # noqa: E402
from tests.models.cases import ARCHITECTURES, CASES  # noqa: E402
from tests.models.sweeping import Found, sweep, wrong  # noqa: E402

DOCUMENT = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- sweep -->\n", "<!-- /sweep -->\n"
_HOW = {"embd": "rows", "inject": "callback", "skeleton": "skeleton"}


def row(found: Found) -> str:
    """A line of the table."""
    if found.refused:
        return f"| {found.case} | no: {RULES[found.case].refused} | | | |"
    facts = found.traits or {}
    width = "" if facts.get("width") == found.n_embd else f"{facts.get('width')} of {found.n_embd}"
    notes = [f"wider: {width}"] if width else []
    notes += ["token ids"] if facts.get("reads_tokens") else []
    rule = RULES[found.case]
    notes += ["not every layer may begin a range"] if rule.starts or rule.ends or rule.owners else []
    yes = {True: "yes", False: "no", None: "?"}
    how = _HOW.get(found.how or "", "?") if found.exact else f"not exact: {found.error or found.difference}"
    return f"| {found.case} | {how} | {yes[found.rewinds]} | {yes[found.shares]} | {', '.join(notes)} |"


def table(found: dict[str, Found]) -> str:
    """The table of all architectures."""
    exact = sum(each.exact for each in found.values())
    lines = [
        f"{exact} of {len(found)} architectures are exact (`make sweep`):",
        "",
        "| architecture | rows enter by | goes back | shares a batch | |",
        "|---|---|---|---|---|",
        *(row(found[name]) for name in sorted(found)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    parser.add_argument("--processes", type=int)
    options = parser.parse_args()
    started, found, bad = time.monotonic(), {}, 0
    for each in sweep(options.cases or list(CASES), options.processes):
        found[each.case] = each
        for sentence in wrong(each):
            bad += 1
            print(f"{each.case}: {sentence}", flush=True)
    architectures = {name: each for name, each in found.items() if name in ARCHITECTURES}
    print(table(architectures), end="")
    print(f"{len(found)} cases in {time.monotonic() - started:.0f} s, {bad} not as they should be")
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + table(architectures) + END + rest.partition(END)[2])
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
