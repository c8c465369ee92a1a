"""What is periodic: APScheduler keeps the times, the work runs as tasks of the trio loop."""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trio
from apscheduler.executors.debug import DebugExecutor  # type: ignore[import-untyped]
from apscheduler.schedulers.base import BaseScheduler  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[object]]

GRID_SECONDS = 0.5
"""between the moments at which jobs of a second or more begin: those that are due together wake the process once"""


class _Scheduler(BaseScheduler):  # type: ignore[misc]
    """APScheduler without threads: `run` is a task, and jobs are started where it runs."""

    def __init__(self) -> None:
        super().__init__(
            timezone=UTC,
            executors={"default": DebugExecutor()},
            job_defaults={"coalesce": True, "misfire_grace_time": None},
        )
        self._changed = trio.Event()

    def wakeup(self) -> None:
        """Look at the jobs again; APScheduler calls this when one is added."""
        self._changed.set()

    def shutdown(self, wait: bool = False) -> None:
        """Start no more jobs."""
        super().shutdown(wait)

    async def run(self) -> None:
        """Start what is due until cancelled."""
        while True:
            self._changed = trio.Event()
            seconds = self._process_jobs()
            with trio.move_on_after(math.inf if seconds is None else max(0.0, seconds)):
                await self._changed.wait()


class Jobs:
    """Periodic work. A job that is still running is not started again; one that fails is logged and kept."""

    def __init__(self, scheduler: _Scheduler, nursery: trio.Nursery) -> None:
        self._scheduler = scheduler
        self._nursery = nursery
        self._began = datetime.now(UTC)
        self._running: set[str] = set()
        self.on_end: Callable[[str, bool], None] = lambda name, well: None
        """told a job's name whenever it ends, and whether it went well"""

    def every(self, seconds: float, name: str, work: Work, *, first_after: float | None = None) -> None:
        """Run `work` every so many seconds, the first time after `first_after` seconds (default: `seconds`)."""
        start = datetime.now(UTC) + timedelta(seconds=seconds if first_after is None else first_after)
        self._scheduler.add_job(
            lambda: self._start(name, work),
            "interval",
            seconds=seconds,
            id=name,
            next_run_time=self._on_grid(start) if seconds >= 1 else start,
        )

    def _on_grid(self, start: datetime) -> datetime:
        grid = timedelta(seconds=GRID_SECONDS)
        return self._began - grid * ((self._began - start) // grid)  # the next one

    def _start(self, name: str, work: Work) -> None:
        if name not in self._running:
            self._running.add(name)
            self._nursery.start_soon(self._run, name, work)

    async def _run(self, name: str, work: Work) -> None:
        try:
            await work()
        except Exception as error:
            log.warning(
                "%s failed and will be tried again: %s", name, error, exc_info=log.isEnabledFor(logging.DEBUG)
            )
            self.on_end(name, False)
        else:
            self.on_end(name, True)
        finally:
            self._running.discard(name)


@asynccontextmanager
async def running_jobs() -> AsyncIterator[Jobs]:
    """A scheduler for as long as the block lasts; jobs under way are cancelled at its end."""
    scheduler = _Scheduler()
    async with trio.open_nursery() as nursery:
        scheduler.start()
        nursery.start_soon(scheduler.run)
        try:
            yield Jobs(scheduler, nursery)
        finally:
            nursery.cancel_scope.cancel()
            scheduler.shutdown()
