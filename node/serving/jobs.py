"""What is periodic: APScheduler keeps the times, the work runs as tasks of the trio loop."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import trio
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[object]]


class Jobs:
    """Periodic work. A job that is still running is not started again; one that fails is logged and kept."""

    def __init__(self, scheduler: BackgroundScheduler, nursery: trio.Nursery) -> None:
        self._scheduler = scheduler
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._running: set[str] = set()
        self.closed = False
        self.on_end: Callable[[str, bool], None] = lambda name, well: None
        """told a job's name whenever it ends, and whether it went well"""

    def every(self, seconds: float, name: str, work: Work, *, first_after: float | None = None) -> None:
        """Run `work` every so many seconds, the first time after `first_after` seconds (default: `seconds`)."""
        start = datetime.now(UTC) + timedelta(seconds=seconds if first_after is None else first_after)
        self._scheduler.add_job(
            # An exception inside run_sync_soon would end the whole run: _start raises none.
            lambda: self._token.run_sync_soon(self._start, name, work),
            "interval",
            seconds=seconds,
            id=name,
            next_run_time=start,
        )

    def _start(self, name: str, work: Work) -> None:
        if not self.closed and name not in self._running:
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
    scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
    async with trio.open_nursery() as nursery:
        jobs = Jobs(scheduler, nursery)
        scheduler.start()
        try:
            yield jobs
        finally:
            jobs.closed = True
            scheduler.shutdown(wait=False)
            nursery.cancel_scope.cancel()
