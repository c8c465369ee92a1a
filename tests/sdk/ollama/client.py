"""ollama for Python, which sends no key: the key stands in the path of its host."""

from typing import Any

import ollama
from given import COUNT, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell

client = ollama.Client(host=f"{URL}/k/{KEY}")
MESSAGES: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
OPTIONS: dict[str, Any] = {"temperature": 0, "num_predict": 12, "num_ctx": 4096}
TOWN = {
    "type": "object",
    "properties": {"name": {"enum": ["Paris", "Rome"]}, "rivers": {"enum": [1, 2, 3]}},
    "required": ["name", "rivers"],
    "additionalProperties": False,
}


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Name of the city
    """
    return f"It is sunny in {city}."


@fact("tags")
def _() -> Any:
    return [model.model for model in client.list().models]


@fact("show")
def _() -> Any:
    return client.show(MODEL).model_dump(mode="json")


@fact("ps")
def _() -> Any:
    return [model.model for model in client.ps().models]


@fact("chat")
def _() -> Any:
    return client.chat(MODEL, MESSAGES, options=OPTIONS, keep_alive="5m").model_dump()


@fact("stream")
def _() -> Any:
    return [part.model_dump() for part in client.chat(MODEL, MESSAGES, options=OPTIONS, stream=True)]


@fact("generate")
def _() -> Any:
    return client.generate(MODEL, QUESTION, system="Be brief.", options=OPTIONS).model_dump()


@fact("generate_stream")
def _() -> Any:
    stream = client.generate(MODEL, "The capital of France is", raw=True, options=OPTIONS, stream=True)
    return [part.model_dump() for part in stream]


@fact("schema")
def _() -> Any:
    return client.chat(MODEL, MESSAGES, format=TOWN, options={**OPTIONS, "num_predict": 60}).message.content


@fact("tools")
def _() -> Any:
    # A client of this kind cannot ask for a tool to be used, so what comes is the model's own wish.
    done = client.chat(MODEL, MESSAGES, tools=[weather], options=OPTIONS)
    called: list[Any] = [
        *MESSAGES,
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "tool_name": "weather", "content": weather("Paris")},
    ]
    after = client.chat(MODEL, called, tools=[weather], options=OPTIONS)
    return {"first": done.model_dump(), "after": after.model_dump()}


@fact("stop")
def _() -> Any:
    options = {**OPTIONS, "num_predict": 40, "stop": ["France", "Paris"]}
    return client.chat(MODEL, MESSAGES, options=options).model_dump()


@fact("cancel")
def _() -> Any:
    asked = [{"role": "user", "content": COUNT}]
    stream: Any = client.chat(MODEL, asked, options={"temperature": 0, "num_predict": 2000}, stream=True)
    read = 0
    for _ in stream:
        read += 1
        if read == 2:
            break
    stream.close()
    return {"read": read}


def refused(look: Any) -> Any:
    """The status and the words with which something is refused."""
    try:
        look()
    except ollama.ResponseError as error:
        return {"status": error.status_code, "error": error.error}
    return {"status": 200}


@fact("budget")
def _() -> Any:
    poor = ollama.Client(host=f"{URL}/k/{POOR_KEY}")
    return refused(lambda: poor.chat(MODEL, MESSAGES, options=OPTIONS))


@fact("revoked")
def _() -> Any:
    revoked = ollama.Client(host=f"{URL}/k/{REVOKED_KEY}")
    return refused(lambda: revoked.chat(MODEL, MESSAGES, options=OPTIONS))


@fact("no_key")
def _() -> Any:
    return refused(lambda: ollama.Client(host=URL).chat(MODEL, MESSAGES, options=OPTIONS))


@fact("unknown_model")
def _() -> Any:
    return refused(lambda: client.chat("no-such-model", MESSAGES))


@fact("embed")
def _() -> Any:
    return refused(lambda: client.embed(MODEL, "text"))


tell()
