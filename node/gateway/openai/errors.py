"""Errors as OpenAI's SDKs read them."""

from __future__ import annotations

from typing import Any

from hypercluster.node.gateway.errors import ApiError


def error_document(error: ApiError) -> dict[str, Any]:
    """The error as JSON."""
    return {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code}}
