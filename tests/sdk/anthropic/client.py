"""anthropic for Python: messages, streams and their helper, tools, counting of tokens, and its refusals."""

from typing import Any

import anthropic
from given import COUNT, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell

client = anthropic.Anthropic(base_url=URL, api_key=KEY)
GREEDY = {"temperature": 0}
"""newer models of Anthropic's take none, so the method has no argument for it any more"""
ASK: dict[str, Any] = {
    "model": MODEL,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 12,
    "extra_body": GREEDY,
}
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@fact("message")
def _() -> Any:
    return client.messages.create(**ASK).model_dump()


@fact("events")
def _() -> Any:
    return [event.model_dump() for event in client.messages.create(**ASK, stream=True)]


@fact("helper")
def _() -> Any:
    with client.messages.stream(**ASK) as stream:
        pieces = list(stream.text_stream)
        return {"pieces": pieces, "final": stream.get_final_message().model_dump()}


@fact("count")
def _() -> Any:
    asked = {name: ASK[name] for name in ("model", "system", "messages")}
    return client.messages.count_tokens(**asked).input_tokens


@fact("tools")
def _() -> Any:
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "The weather in Paris?"}]}]
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "extra_body": GREEDY, "tools": [WEATHER]}
    named = {"type": "tool", "name": "weather"}
    first = client.messages.create(**asked, messages=messages, tool_choice=named)
    use = next(block for block in first.content if block.type == "tool_use")
    messages += [
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": use.id,
                    "content": [{"type": "text", "text": "Sunny."}],
                },
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    asked["max_tokens"] = 8
    second = client.messages.create(**asked, messages=messages, tool_choice={"type": "none"})
    return {"first": first.model_dump(), "second": second.model_dump()}


@fact("tools_stream")
def _() -> Any:
    with client.messages.stream(
        model=MODEL,
        max_tokens=100,
        extra_body=GREEDY,
        tools=[WEATHER],
        tool_choice={"type": "any"},
        messages=[{"role": "user", "content": "The weather in Rome?"}],
    ) as stream:
        return stream.get_final_message().model_dump()


@fact("stop")
def _() -> Any:
    return client.messages.create(
        **{**ASK, "max_tokens": 40}, stop_sequences=["France", "Paris"]
    ).model_dump()


@fact("cancel")
def _() -> Any:
    asked = {**ASK, "messages": [{"role": "user", "content": COUNT}], "max_tokens": 2000}
    read = 0
    with client.messages.create(**asked, stream=True) as stream:
        for event in stream:
            read += event.type == "content_block_delta"
            if read == 2:
                break
    return {"read": read}


def refused(key: str, **more: Any) -> Any:
    """Ask with a key that is refused, and count how often the client asked."""
    tries: list[str] = []
    seen = anthropic.DefaultHttpxClient(
        event_hooks={"request": [lambda request: tries.append(str(request.url))]}
    )
    try:
        anthropic.Anthropic(base_url=URL, api_key=key, http_client=seen).messages.create(**{**ASK, **more})
    except anthropic.APIStatusError as error:
        return {
            "tries": len(tries),
            "status": error.status_code,
            "body": error.body,
            "class": type(error).__name__,
            "request_id": error.request_id,
        }
    return {"tries": len(tries), "status": 200}


@fact("budget")
def _() -> Any:
    return refused(POOR_KEY)


@fact("revoked")
def _() -> Any:
    return refused(REVOKED_KEY)


@fact("unknown_model")
def _() -> Any:
    return refused(KEY, model="no-such-model")


@fact("too_long")
def _() -> Any:
    return refused(KEY, messages=[{"role": "user", "content": "long " * 9000}])


@fact("clamped")
def _() -> Any:
    with client.messages.stream(**{**ASK, "max_tokens": 128000}, stop_sequences=["Paris"]) as stream:
        return stream.get_final_message().model_dump()


tell()
