"""The tables of bench_pipeline.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench_pipeline import Setting

PARTS = ("compute", "wire", "sign", "waited")
"""of a step at a hop, in ms"""


def show(name: str, result: dict[str, Any], setting: Setting) -> None:
    """For people."""
    out = Console(highlight=False)
    table = Table(
        "",
        *("unsplit", "path", "path/unsplit", "least to most"),
        title=f"{name}: {setting.providers} providers, {setting.threads} threads, {setting.wire}, {setting.stream}, "
        f"{'relayed' if setting.relay else 'over links'}, {setting.delay_ms:g} ms one way",
        caption=f"{setting.rounds} rounds, prompt {setting.prompt}, {setting.tokens} tokens; "
        f"load average before {result['load_before']:.1f}; "
        f"{'same' if result['identical_ids'] else 'OTHER'} ids as unsplit",
    )
    for key, label, digits in (
        ("decode_tokens_per_s", "decode tokens/s", 1),
        ("decode_ms_median_step", "decode ms, median", 2),
        ("prefill_tokens_per_s", "prefill tokens/s", 1),
    ):
        row = result[key]
        rates = (f"{row[side]:.{digits}f}" for side in ("unsplit", "path"))
        spread = f"{row['ratio_least']:.2f} to {row['ratio_most']:.2f}"
        table.add_row(label, *rates, f"{row['ratio']:.3f}", spread)
    out.print(table)
    split = Table("layers", "compute", "wire", "signing", "waiting", title="A decode step, median ms per hop")
    for hop in result["hops_ms"]:
        split.add_row(hop["layers"], *(f"{hop[part]:.3f}" for part in PARTS))
    split.add_row("client", f"{result['client_ms']:.3f}")
    out.print(split)
