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
        f"{'relayed' if setting.relay else 'over links'}, {setting.pay_ahead} tokens a voucher, "
        f"{setting.delay_ms:g} ms one way",
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
    processor = result["processor_ms_a_token"]
    apart = ("processor", "llama.cpp's") if processor else ()
    split = Table(
        "layers",
        *("compute", "wire", "signing", "waiting", *apart),
        title="A decode step, median ms per hop",
        caption=f"processor beside llama.cpp: {processor['beside_llama']:.2f} ms a token"
        if processor
        else None,
    )
    for place, hop in enumerate(result["hops_ms"]):
        ours = (processor["providers"][place], processor["llama"][place]) if processor else ()
        split.add_row(
            hop["layers"], *(f"{hop[part]:.3f}" for part in PARTS), *(f"{each:.2f}" for each in ours)
        )
    client = ("", "", "", f"{processor['client']:.2f}") if processor else ()
    split.add_row("client", f"{result['client_ms']:.3f}", *client)
    out.print(split)
