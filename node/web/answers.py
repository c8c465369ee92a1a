"""Refusals as JSON, in the form that every HTTP client of a language model knows how to show."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse


def problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as `{"error": {...}}`; `message` is a sentence that says what to do."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
