"""What scripts/bench_siege.py found, as tables for a terminal and for docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

WITHOUT_NEWCOMER = ("verifier", "chain hangs")
"""where nobody tries to get in during an attack"""


def tables(found: dict[str, Any]) -> Iterator[Table | str]:
    """For people."""
    if found["attacks"]:
        table = Table(title="Honest payers beside each attack")
        columns = ("attack", "strength", "sessions/s", "kept", "first token, ms", "newcomer, s", "node CPU",
                   "attacker CPU", "HCT locked", "gas to begin", "gas/min", "HCT/min", "MB/min")  # fmt: skip
        for column in columns:
            table.add_column(column, justify="left" if column == "attack" else "right")
        for row in found["attacks"]:
            came = row["newcomer_s"]
            table.add_row(
                title(row),
                f"{row['strength']:,}",
                f"{row['quiet_per_s']:.1f} -> {row['attacked_per_s']:.1f}",
                f"{row['kept']:.0%}",
                f"{row['quiet_first_token_ms']:.0f} -> {row['first_token_ms']:.0f}",
                f"{came:.1f}" if came is not None else "-" if row["where"] in WITHOUT_NEWCOMER else "never",
                f"{row['quiet_node_cpu']:.2f} -> {row['node_cpu']:.2f}",
                f"{row['attacker_cpu']:.2f}",
                f"{row['locked_hct']:.3g}",
                f"{row['gas_to_begin']:,}",
                f"{row['gas_a_minute']:,.0f}",
                f"{row['spent_hct_a_minute']:.2g}",
                f"{row['mbytes_a_minute']:.1f}",
            )
        yield table
    if found["books"]:
        table = Table("flood", "adverts/s", "known after, s", title="A newcomer's advert in somebody's book")
        for row in found["books"]:
            after = row["known_after_s"]
            table.add_row(
                row["attack"], f"{row['strength']:,}", "not in 90" if after is None else f"{after:.1f}"
            )
        yield table
    if pots := found["honeypots"]:
        table = Table(
            "", "succeeded", "with a bill", "first token, s", "whole, s", "slowest, s", "hops lost", "HCT risked",
            title=f"Requests of a client that knows nobody, {pots['honest']} honest providers",
        )  # fmt: skip
        for name in ("quiet", "among"):
            row = pots[name]
            table.add_row(
                f"{pots['pots']} honeypots" if name == "among" else "no honeypots",
                f"{row['succeeded']:.0%} of {row['requests']}",
                f"{row['billed']:.0%}",
                f"{row['first_token_s']:.2f}",
                f"{row['seconds']:.2f}",
                f"{row['slowest_s']:.1f}",
                str(row["failures"]),
                f"{row['risked_hct']:.2g}",
            )
        yield table


def markdown(found: dict[str, Any]) -> str:
    """The same for docs/security.md."""
    lines = [
        "| Attack | Strength | Sessions/s | Kept | First token, ms | Node's CPU | HCT locked | Gas to begin | "
        "Gas a minute | HCT a minute | MB a minute |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["attacks"]:
        lines.append(
            f"| {title(row)} | {row['strength']:,} | {row['quiet_per_s']:.1f}, {row['attacked_per_s']:.1f} "
            f"| {row['kept']:.0%} | {row['quiet_first_token_ms']:.0f}, {row['first_token_ms']:.0f} "
            f"| {row['quiet_node_cpu']:.2f}, {row['node_cpu']:.2f} | {row['locked_hct']:.3g} "
            f"| {row['gas_to_begin']:,} | {row['gas_a_minute']:,.0f} | {row['spent_hct_a_minute']:.2g} "
            f"| {row['mbytes_a_minute']:.1f} |"
        )
    return "\n".join(lines)


def title(row: dict[str, Any]) -> str:
    """What an attack is, and where if not on a node with a quick chain."""
    what: str = row["what"]
    return f"{what}, {row['where']}" if "chain" in row["where"] else what
