"""Logs: lines for people, or one JSON object a line for machines; secrets of URLs are in neither."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from hypercluster.market.money.units import named
from hypercluster.market.redaction import RedactingFormatter, redact

TALKATIVE = ("apscheduler", "alembic", "httpx", "hypercorn")
"""loggers of libraries that tell of every call"""
_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


@contextmanager
def logged_with(**about: str) -> Iterator[None]:
    """What is logged in the block, and in tasks that it starts, is about this request_id, session or peer."""
    before = _about.set(_about.get() | about)
    try:
        yield
    finally:
        _about.reset(before)


class LineFormatter(RedactingFormatter):
    """A line for people, and what else the record says below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines."""
        return named(super().format(record))


class JsonFormatter(logging.Formatter):
    """One object a line: ts (RFC 3339, UTC), level, logger, msg, what it is about, and `exception` as one text."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC)
        document = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "msg": named(redact(record.getMessage())),
            **{name: redact(value) for name, value in _about.get().items()},
        }
        if record.exc_info:
            document["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(document)


def log_to_stderr(level: str, form: str) -> None:
    """Write the log to standard error from `level` on, as "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    text = LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=level, handlers=[handler])
    if level != "DEBUG":
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
