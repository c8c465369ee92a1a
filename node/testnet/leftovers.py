"""What a run of a local network leaves behind that was killed: its processes, found again by the next run."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

import psutil  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

FILE = "processes.json"
SECONDS = 10.0


def note_children(home: Path) -> None:
    """Write down which processes this one has started, with the moments of their starts. Raises OSError."""
    told = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            told.append([child.pid, child.create_time()])
    part = home / f"{FILE}.part"
    part.write_text(json.dumps(told))
    part.replace(home / FILE)


def kill_children() -> None:
    """End all that this process has started, at once."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


def nothing_left(home: Path) -> None:
    """All of them have ended."""
    (home / FILE).unlink(missing_ok=True)


def end_leftovers(home: Path) -> int:
    """End what an earlier run of this home left running, and return how many processes that were.

    A number that another process has by now is left alone: it was not started in the same moment.
    """
    try:
        told = [(int(pid), float(since)) for pid, since in json.loads((home / FILE).read_text())]
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        log.warning("%s is not read: %s", home / FILE, error)
        return 0
    found = []
    for pid, since in told:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - since) < 0.01:
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=SECONDS)
    nothing_left(home)
    return len(found)
