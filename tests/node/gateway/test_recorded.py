"""What fourteen clients were seen to send, in their own words: each is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.node.helpers.gateways import FrontDoor

pytestmark = pytest.mark.slow

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded_requests.json").read_text())
BOUNDS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
}
"""what bounds an answer, so that those who left it out need not wait for a full context"""
REFUSED = {"provider": "provider.max_price is a number: it must be an object."}
"""what is refused by design, by the field that asks for it"""


def bounded(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with a bound where it has none."""
    if path in BOUNDS:
        return body if "max_tokens" in body else {BOUNDS[path]: 4} | body
    return (
        body | {"options": {"num_predict": 4} | body.get("options", {})} if path.startswith("/api") else body
    )


def called(recorded: dict[str, Any]) -> str:
    body = recorded["body"] or {}
    return f"{recorded['client']} {recorded['path']} {'+'.join(body)}"


@pytest.mark.parametrize("recorded", RECORDED, ids=called)
def test_a_request_as_a_client_sends_it_is_answered(front_door: FrontDoor, recorded: dict[str, Any]) -> None:
    path, body = recorded["path"], recorded["body"]
    headers = dict(recorded["headers"])
    match recorded["key_in"]:
        case "authorization":
            headers["authorization"] = f"Bearer {front_door.key}"
        case "x-api-key":
            headers["x-api-key"] = front_door.key
        case _:  # Ollama's clients have none: it stands in the address
            path = f"/k/{front_door.key}{path}"
    sent = None if body is None else json.dumps(bounded(recorded["path"], body)).encode()
    with httpx.Client(base_url=front_door.url, timeout=600) as http:
        answer = http.request(recorded["method"], path, content=sent, headers=headers)
    for field, sentence in REFUSED.items():
        if body is not None and field in body:
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == sentence
            return
    assert answer.status_code == 200, answer.text
    assert '"error":{' not in answer.text
    assert '"error": {' not in answer.text
    assert answer.content
