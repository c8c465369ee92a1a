"""openai for Python: models, chat, completions, responses, its helpers `.stream()` and `.parse()`, and its refusals."""

from typing import Any, Literal

import openai
from given import COUNT, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell
from pydantic import BaseModel

BASE = f"{URL}/v1"
client = openai.OpenAI(base_url=BASE, api_key=KEY)
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 12,
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Town(BaseModel):
    name: Literal["Paris", "Rome"]
    rivers: Literal[1, 2, 3]


@fact("models")
def _() -> Any:
    return [model.model_dump() for model in client.models.list()]


@fact("model")
def _() -> Any:
    return client.models.retrieve(MODEL).id


@fact("chat")
def _() -> Any:
    return client.chat.completions.create(**ASK).model_dump()


@fact("stream")
def _() -> Any:
    options = {"include_usage": True}
    return [
        c.model_dump() for c in client.chat.completions.create(**ASK, stream=True, stream_options=options)
    ]


@fact("stream_helper")
def _() -> Any:
    with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
        kinds = [event.type for event in stream]
        return {"kinds": kinds, "final": stream.get_final_completion().model_dump()}


@fact("parse")
def _() -> Any:
    done = client.chat.completions.parse(**{**ASK, "max_tokens": 60}, response_format=Town)
    return done.choices[0].message.parsed.model_dump()


@fact("tools")
def _() -> Any:
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    named = {"type": "function", "function": {"name": "weather"}}
    first = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], tool_choice=named, temperature=0, max_tokens=100
    )
    call = first.choices[0].message.tool_calls[0]
    messages += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "It is sunny in Paris."},
    ]
    second = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], tool_choice="none", temperature=0, max_tokens=8
    )
    return {"first": first.model_dump(), "second": second.model_dump()}


@fact("tools_stream")
def _() -> Any:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
        tools=[WEATHER],
        tool_choice="required",
        temperature=0,
        max_tokens=100,
    ) as stream:
        return stream.get_final_completion().model_dump()


@fact("stop")
def _() -> Any:
    return client.chat.completions.create(**{**ASK, "max_tokens": 40}, stop=["France", "Paris"]).model_dump()


@fact("logprobs")
def _() -> Any:
    done = client.chat.completions.create(**{**ASK, "max_tokens": 3}, logprobs=True, top_logprobs=2)
    return done.model_dump()["choices"][0]["logprobs"]["content"]


@fact("choices")
def _() -> Any:
    asked = {**ASK, "temperature": 1, "seed": 7, "max_tokens": 4}
    return client.chat.completions.create(**asked, n=2).model_dump()


@fact("completions")
def _() -> Any:
    asked = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 4}
    streamed = [
        chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True) if chunk.choices
    ]
    return {"whole": client.completions.create(**asked).model_dump(), "streamed": "".join(streamed)}


@fact("responses")
def _() -> Any:
    done = client.responses.create(
        model=MODEL, instructions="Be brief.", input=QUESTION, temperature=0, max_output_tokens=12
    )
    return {**done.model_dump(), "said": done.output_text}


@fact("responses_stream")
def _() -> Any:
    stream = client.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input=QUESTION,
        temperature=0,
        max_output_tokens=12,
        stream=True,
    )
    return [event.model_dump() for event in stream]


@fact("responses_parse")
def _() -> Any:
    done = client.responses.parse(
        model=MODEL, input=QUESTION, text_format=Town, temperature=0, max_output_tokens=60
    )
    return done.output_parsed.model_dump()


@fact("cancel")
def _() -> Any:
    asked = {**ASK, "messages": [{"role": "user", "content": COUNT}], "max_tokens": 2000}
    stream = client.chat.completions.create(**asked, stream=True)
    read = 0
    for chunk in stream:
        read += bool(chunk.choices and chunk.choices[0].delta.content)
        if read == 2:
            break
    stream.close()
    return {"read": read, "id": chunk.id}


def refused(key: str, **more: Any) -> Any:
    """Ask with a key that is refused. The client's own count of how often it asked comes with the answer."""
    tries: list[str] = []
    seen = openai.DefaultHttpxClient(
        event_hooks={"request": [lambda request: tries.append(str(request.url))]}
    )
    try:
        openai.OpenAI(base_url=BASE, api_key=key, http_client=seen).chat.completions.create(**{**ASK, **more})
    except openai.APIStatusError as error:
        return {
            "tries": len(tries),
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "class": type(error).__name__,
            "message": error.message,
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


tell()
