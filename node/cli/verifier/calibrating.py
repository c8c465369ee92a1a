"""`hc-verifier calibrate`: how far apart honest computations of a model are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.cli.console import Json, Shown, err, say, show
from hypercluster.node.cli.opening import taken_to_serve
from hypercluster.node.cli.options import check_writable, whole
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.serving import Threads
from hypercluster.node.cli.staking import default_threads
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.resources import open_chain_if_any
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.trust.audit import Bounds
    from hypercluster.node.shards.store import StoredModel

TEXTS, TOKENS = 4, 96
BoundsFile = Annotated[
    Path | None, typer.Option(help="File of bounds. Default: beside the model's shards in HC_HOME.")
]


def calibrate(
    model: Annotated[
        str | None,
        typer.Argument(help="GGUF file, name or model id. Default: the demo model.", metavar="NAME|FILE|ID"),
    ] = None,
    texts: Annotated[int, whole("Texts that the model writes for it.", least=1)] = TEXTS,
    tokens: Annotated[int, whole("Tokens of each.", least=24)] = TOKENS,
    threads: Threads = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(help="Answers recorded on another machine; may be given several times."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write this machine's answers to a file instead, for --include elsewhere."),
    ] = None,
    bounds: BoundsFile = None,
    table: Annotated[
        bool, typer.Option("--table", help="Also show every difference that was measured.")
    ] = False,
    json_: Json = False,
) -> None:
    """Measure how far apart honest computations of a model are, and write the bounds for audits.

    Example: [bold]hc-verifier calibrate llama.gguf --include gpu.npz[/]

    Serves texts in every way that llama.cpp knows here (threads, batches, cache types, flash attention, wire types)
    and compares each with what an audit would find. Run it again when llama.cpp is updated. Ctrl-C leaves the bounds
    as they were.
    """
    if record is not None and (bounds is not None or include or table):
        raise typer.BadParameter(
            "--record only writes answers: --bounds, --include and --table say nothing then"
        )
    check_writable("--record", record)
    check_writable("--bounds", bounds)
    settings = Settings()
    stored = taken_to_serve(model, None, settings, open_chain_if_any(settings))
    count = threads or default_threads()
    if record is not None:
        from hypercluster.node.replay import recordings

        with err.status("Recording answers"):
            recordings.record(stored, record, threads=count, texts=texts, tokens=tokens)
        say(f"Wrote {record}. On the other machine: hc-verifier calibrate --include {record.name}")
        return
    found = measured(stored, count, texts, tokens, tuple(include or ()))
    path = bounds or stored.bounds_file
    found.save(path)

    def view(_: object) -> Iterator[Shown]:
        if table:
            yield differences(found)
        yield from _verdict(found, path)

    show(json.loads(path.read_text()), view, json_)


def measured(
    stored: StoredModel, threads: int, texts: int, tokens: int, recordings: tuple[Path, ...] = ()
) -> Bounds:
    """Calibrate, and say how much is left: by a bar on a terminal, by a line now and then elsewhere."""
    from hypercluster.node.replay.calibration import calibrate, steps

    total = steps(threads, len(recordings), texts)
    with bar("Calibrating", total, unit="steps") if err.to_terminal else _lines(total) as progress:
        return calibrate(
            stored, threads=threads, texts=texts, tokens=tokens, recordings=recordings, progress=progress
        )


@contextmanager
def _lines(total: int) -> Iterator[Callable[[int], None]]:
    """A line at every tenth of the work, with the time that the rest takes at the pace so far."""
    started, done, told = time.monotonic(), 0, 0

    def progress(more: int) -> None:
        nonlocal done, told
        done += more
        if done * 10 // total > told:
            told = done * 10 // total
            left = (time.monotonic() - started) * (total - done) / done
            say(f"Calibrating: {10 * told} %, about {duration(left)} left", err)

    yield progress


def duration(seconds: float) -> str:
    """A time in words, as exact as an estimate deserves."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def bounds_of(stored: StoredModel, path: Path | None, threads: int) -> Bounds:
    """The bounds of the model; calibrated now where that was never done. Raises BadBounds."""
    from hypercluster.market.trust.audit import Bounds

    path = path or stored.bounds_file
    if not path.exists():
        err.print("[dim]This model was never calibrated here; doing it now.[/]")
        measured(stored, threads, TEXTS, TOKENS).save(path)
    return Bounds.load(path, stored.manifest.model_id)


def _verdict(bounds: Bounds, path: Path) -> Iterator[str]:
    rows = bounds.measured
    ways = len({row["variation"] for row in rows})
    exact = sum(bool(row["exact"]) for row in rows)
    widest = max(rows, key=lambda row: float(row["maximum"]), default=None)
    if widest is not None:
        yield (
            f"Calibrated: {ways} honest ways to compute, {exact} of {len(rows)} comparisons equal to the bit, "
            f"the others at most {widest['maximum']:.1e} apart ({widest['variation']}, {widest['kind']})."
        )
    yield f"Bounds are in {path}; --table shows all that was measured. Next: hc-verifier run."


def differences(bounds: Bounds) -> Shown:
    """The measured differences and the bounds as a table."""
    table = Table(
        "output", "comparison", "variation", "median error", "largest error", "same bits",
        title="Honest differences, the worst window of each",
    )  # fmt: skip
    for row in bounds.measured:
        table.row(
            row["kind"],
            row["comparison"],
            row["variation"],
            f"{row['median']:.2e}",
            f"{row['maximum']:.2e}",
            "yes" if row["exact"] else "no",
        )
    for kind, tiers in bounds.limits.items():
        for tier, limits in tiers.items():
            table.row(
                kind, tier, "accepted up to", f"{limits.accept_median:.2e}", f"{limits.accept_maximum:.2e}", "",
                style="bold",
            )  # fmt: skip
            table.row(
                kind, tier, "rejected beyond", f"{limits.reject_median:.2e}", f"{limits.reject_maximum:.2e}", "",
                style="bold",
            )  # fmt: skip
    return table
