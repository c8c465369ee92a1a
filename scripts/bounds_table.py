"""Write the table of unpaid acts in docs/security.md anew from hypercluster.node.network.bounds.

python scripts/bounds_table.py
"""

from __future__ import annotations

from pathlib import Path

from hypercluster.node.network.bounds import BOUNDS, Bound, Pace

PAGE = Path(__file__).resolve().parents[1] / "docs" / "security.md"
HEAD = (
    "| Act | Each peer | Each block | All together | At once | Time | Costs who does it | Costs the node | Where |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def table() -> str:
    """The table, a row for each bound."""
    return HEAD + "".join(_row(bound) for bound in BOUNDS.values())


def rewritten(page: str) -> str:
    """A page with the table in place of the one that begins with the same head."""
    before, head, rest = page.partition(HEAD)
    assert head, f"{PAGE} has no table of bounds"
    after = rest[rest.index("\n\n") + 1 :]
    return before + table() + after


def _row(bound: Bound) -> str:
    at_once = [str(bound.at_once or "")]
    if bound.at_once_per_peer is not None:
        at_once.append(f"{bound.at_once_per_peer} each")
    cells = (
        bound.what,
        _pace(bound.per_peer),
        _pace(bound.per_block),
        _pace(bound.total),
        ", ".join(filter(None, at_once)) or "-",
        f"{bound.seconds:g} s",
        bound.pays,
        bound.costs,
        f"`{bound.where}`",
    )
    return "| " + " | ".join(cells) + " |\n"


def _pace(pace: Pace | None) -> str:
    if pace is None:
        return "-"
    per_second, burst = pace
    often = f"{per_second:g}/s" if per_second >= 0.5 else f"{per_second * 60:g}/min"
    return f"{often}, {burst:g} at first"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
