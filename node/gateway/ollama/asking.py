"""Bodies of /api/chat and /api/generate, read into what is asked of the network."""

from __future__ import annotations

import json
from typing import Any

from hypercluster.node.client.request import MOST_LAST_N, MOST_STOPS
from hypercluster.node.engine.chat import Chat, Message, ToolCall
from hypercluster.node.engine.grammar import Format, JsonObject, JsonSchema, ToolUse
from hypercluster.node.gateway.asking import Asked
from hypercluster.node.gateway.openai.messages import read_tools
from hypercluster.node.gateway.openai.options import read_sampling
from hypercluster.node.gateway.preferences import read_preferences
from hypercluster.node.gateway.reading import Fields

MOST_MESSAGES = 100_000
MOST_TOOLS = 256
MOST_NUMBER = 2**53


def model_of(body: Fields) -> str:
    """The model that is named, without the tag that Ollama puts behind each name."""
    name = body.text("model") or body.text("name") or body.missing("model")
    return name.removesuffix(":latest")


def read_chat(body: Fields) -> Asked:
    """A chat. Raises ApiError."""
    names: dict[str, str] = {}
    turns = tuple(_turn(message, names) for message in body.each("messages", MOST_MESSAGES))
    tools = read_tools(body)
    form = ToolUse(tools) if tools else _format(body)
    return _asked(body, Chat(turns, tools, thinks(body)), form)


def read_prompt(body: Fields, has_template: bool) -> Asked:
    """A prompt: as a turn of the user where the model has a template and `raw` is not set. Raises ApiError."""
    for name, why in {
        "suffix": "nothing can be put between two texts here",
        "template": "a model's own template is part of what its id stands for",
        "context": "no tokens are kept from one call to the next; send the text",
    }.items():
        if body.get(name):
            body.refuse(name, f"{name} is not taken: {why}.")
    _no_images(body)
    prompt, system = body.text("prompt") or "", body.text("system") or ""
    if body.flag("raw") or not has_template:
        return _asked(body, "\n".join(filter(None, (system, prompt))), _format(body))
    turns = (*((Message("system", system),) if system else ()), Message("user", prompt))
    return _asked(body, Chat(turns, (), thinks(body)), _format(body))


def thinks(body: Fields) -> bool | None:
    """Whether the model is to think first; None leaves it to the model. Words such as "high" are a yes."""
    return True if isinstance(body.get("think"), str) else body.flag("think")


def streams(body: Fields) -> bool:
    """Whether the answer comes in pieces, which it does unless it is asked not to."""
    streamed = body.flag("stream")
    return True if streamed is None else streamed


def _asked(body: Fields, prompt: str | Chat, form: Format | None) -> Asked:
    options = body.fields("options") or Fields({}, "options")
    tokens = options.whole("num_predict", -MOST_NUMBER, MOST_NUMBER)
    stops = options.texts("stop", MOST_STOPS)
    return Asked(
        model=model_of(body),
        prompts=(prompt,),
        prompt_field="prompt" if isinstance(prompt, str) else "messages",
        tokens=tokens if tokens is not None and tokens > 0 else None,
        sampling=_sampling(options),
        stop=tuple(filter(None, stops)),
        format=form,
        preferences=read_preferences(body),
        stream=streams(body),
    )


def _sampling(options: Fields) -> dict[str, Any]:
    """Ollama's options that this network has; those of loading a model, such as num_ctx, are none of its business."""
    last = options.whole("repeat_last_n", -1, MOST_NUMBER)
    sampling = read_sampling(options)
    if last is None:
        return sampling
    return sampling | {"penalty_last_n": MOST_LAST_N if last == -1 else min(last, MOST_LAST_N)}


def _format(body: Fields) -> Format | None:
    """JSON, JSON by a schema, or anything."""
    given = body.get("format")
    if given is None or given == "":
        return None
    if given == "json":
        return JsonObject()
    if not isinstance(given, dict):
        body.refuse("format", 'format must be "json" or a JSON schema.')
    return JsonSchema(given, strict=False)


def _turn(message: Fields, names: dict[str, str]) -> Message:
    role = message.one_of("role", "system", "user", "assistant", "tool") or message.missing("role")
    _no_images(message)
    calls = []
    for index, call in enumerate(message.each("tool_calls", MOST_TOOLS)):
        function = call.fields("function") or call.missing("function")
        name = function.text("name") or function.missing("name")
        arguments = function.fields("arguments")
        given = json.dumps(arguments.values if arguments else {}, ensure_ascii=False)
        call_id = call.text("id") or f"call_{len(names)}_{index}"
        names[name] = call_id
        calls.append(ToolCall(call_id, name, given))
    tool = message.text("tool_name") or message.text("name") or ""
    return Message(
        role,
        message.text("content") or "",
        tool_calls=tuple(calls),
        tool_call_id=(message.text("tool_call_id") or names.get(tool, "")) if role == "tool" else "",
        name=tool,
        reasoning=message.text("thinking") or "",
    )


def _no_images(fields: Fields) -> None:
    if fields.get("images"):
        fields.refuse(
            "images", f"{fields.name('images')} holds images: this network's models read text only."
        )
