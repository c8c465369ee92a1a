"""Progress on standard error, which disappears when done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from hypercluster.node.cli.console import err


@contextmanager
def bar(what: str, total: int | None = None, *, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how much has just been done; without `total` the bar only shows motion."""
    amount = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    # Into a file it would leave an empty line.
    with Progress(*columns, console=err, transient=True, disable=not err.is_interactive) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


@contextmanager
def status(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, from before the first slow import."""
    if not err.to_terminal:
        yield
        return
    with err.status(what):
        yield
