"""Passwords and keys in URLs are for the other side only: no message and no log may show them."""

from __future__ import annotations

import logging
from urllib.parse import unquote, urlsplit

_SHORTEST = 5
"""a shorter piece would blot out words of every message"""
_hidden: set[str] = set()


def hide(url: str | None) -> str | None:
    """Have `redact` blot out what in `url` may be secret: user, password, path and query. Returns `url`."""
    parts = _split(url or "")
    if parts is None:
        return url
    user = parts.netloc.rpartition("@")[0]
    secrets = [user, *user.split(":", 1)[1:]]
    if parts.scheme in ("http", "https"):
        # Keys of RPC services are in the path or the query; a database's path is its name.
        secrets += [parts.path.strip("/"), *parts.path.split("/")]
    secrets += [parts.query, *(pair.partition("=")[2] for pair in parts.query.split("&"))]
    for secret in secrets:
        _hidden.update(each for each in (secret, unquote(secret)) if len(each) >= _SHORTEST)
    if ":" in user:
        # A short password is hidden where it stands behind its user.
        _hidden.add(user)
    return url


def redact(text: str) -> str:
    """`text` without what was hidden before."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def place(url: str) -> str:
    """What may be shown of a URL: scheme, host and port; what is left out shows as "…"."""
    parts = _split(url)
    if parts is None or not parts.netloc:
        return "a URL that is none"
    rest = "/…" if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{rest}"


class RedactingFormatter(logging.Formatter):
    """Formats log records, their tracebacks included, without what was hidden."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines."""
        return redact(super().format(record))


def _split(url: str):  # type: ignore[no-untyped-def]
    try:
        return urlsplit(url)
    except ValueError:
        return None
