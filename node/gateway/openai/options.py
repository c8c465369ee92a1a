"""What bodies of OpenAI's API say about how tokens are drawn, how many, and in what form."""

from __future__ import annotations

from typing import Any

from hypercluster.node.client.request import MOST_BIASES, MOST_LOGPROBS, MOST_STOPS
from hypercluster.node.engine.chat import Tool
from hypercluster.node.engine.grammar import Format, JsonObject, JsonSchema, ToolUse
from hypercluster.node.gateway.errors import bad
from hypercluster.node.gateway.reading import Fields, kind_of

MOST_SEED = 2**32 - 1
MOST = 2**31 - 1
"""bound of counts that have no smaller one"""


def read_sampling(body: Fields) -> dict[str, Any]:
    """The fields of Sampling that a body sets, by the names that clients have for them. Raises ApiError."""
    given: dict[str, Any] = {
        "temperature": body.number("temperature", 0, 2),
        "top_p": body.number("top_p", 0, 1),
        "min_p": body.number("min_p", 0, 1),
        "top_k": body.whole("top_k", -1, MOST),
        "presence_penalty": body.number("presence_penalty", -2, 2),
        "frequency_penalty": body.number("frequency_penalty", -2, 2),
        "repetition_penalty": _first(
            body.number("repetition_penalty", 0, 10), body.number("repeat_penalty", 0, 10)
        ),
    }
    if given["repetition_penalty"] == 0:
        body.refuse("repetition_penalty", "repetition_penalty is 0: it must lie above it; 1 is off.")
    if given["top_p"] == 0:  # the one best token, which is what its senders mean
        given |= {"top_p": None, "top_k": 1}
    if given["top_k"] == -1:  # vLLM's word for off
        given["top_k"] = 0
    if given["min_p"] == 1:
        body.refuse("min_p", "min_p is 1: it must lie below 1.")
    seed = body.whole("seed", -(2**63), 2**64 - 1)
    if seed is not None and seed != -1:
        given["seed"] = seed % MOST_SEED
    if bias := _bias(body):
        given["logit_bias"] = bias
    return {name: value for name, value in given.items() if value is not None}


def read_model(body: Fields) -> str:
    """The name in "model". Raises ApiError."""
    return body.text("model") or body.missing("model")


def read_stream(body: Fields) -> tuple[bool, bool]:
    """Whether a stream is wanted, and whether it is to end with the usage. Raises ApiError."""
    options = body.fields("stream_options")
    return body.flag("stream") is True, options is not None and options.flag("include_usage") is True


def read_tokens(body: Fields) -> int | None:
    """The most tokens to generate, by either name. Raises ApiError."""
    newer, older = (body.whole(name, 1, MOST) for name in ("max_completion_tokens", "max_tokens"))
    return newer if newer is not None else older


def read_stops(body: Fields) -> tuple[str, ...]:
    """The texts in "stop". Raises ApiError."""
    stops = body.texts("stop", MOST_STOPS)
    if "" in stops:
        body.refuse("stop", "stop holds an empty text: it would stop before the first token.")
    return stops


def read_cost(body: Fields) -> int | None:
    """The field "max_cost_wei", ours: a whole number of wei, or one in a text. Raises ApiError."""
    value = body.get("max_cost_wei")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 30:
        return int(value)
    return body.whole("max_cost_wei", 0, 2**96 - 1)


def read_logprobs(body: Fields) -> int | None:
    """Alternatives to tell of each token, of "logprobs" and "top_logprobs". Raises ApiError."""
    top = body.whole("top_logprobs", 0, MOST_LOGPROBS)
    if body.flag("logprobs"):
        return top or 0
    if top:
        body.refuse("top_logprobs", "top_logprobs needs logprobs to be true.")
    return None


def read_reasoning(body: Fields) -> bool | None:
    """Whether the model is to think first. Raises ApiError."""
    template = body.fields("chat_template_kwargs")
    if template is not None and template.has("enable_thinking"):
        return template.flag("enable_thinking")
    effort = body.text("reasoning_effort")
    return None if effort is None else effort not in ("none", "minimal")


def read_form(given: Fields | None) -> Format | None:
    """The form of an answer as "response_format" or "text.format" has it. Raises ApiError."""
    if given is None:
        return None
    match given.one_of("type", "text", "json_object", "json_schema") or given.missing("type"):
        case "json_object":
            return JsonObject()
        case "json_schema":
            held = given.fields("json_schema") or given
            schema = held.get("schema")
            if not isinstance(schema, dict | bool):
                if schema is None:
                    held.missing("schema")
                held.refuse("schema", f"{held.name('schema')} is {kind_of(schema)}: it must be an object.")
            return JsonSchema(schema, strict=held.flag("strict") is True)
    return None


def read_choice(body: Fields, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolUse | None]:
    """The tools that the model is told of, and how it may call them; of "tool_choice". Raises ApiError."""
    parallel = body.flag("parallel_tool_calls") is not False
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = _named(body.fields("tool_choice") or body)
        if choice not in {tool.name for tool in tools}:
            body.refuse("tool_choice", f"tool_choice names {choice[:60]!r}, which is none of the tools.")
    else:
        choice = body.one_of("tool_choice", "none", "auto", "required", "any") or "auto"
        choice = "required" if choice == "any" else choice
    if not tools:
        if choice == "required":
            body.refuse("tool_choice", "tool_choice wants a tool to be called, and there are none.")
        return (), None
    if choice == "none":
        return (), None
    return tools, ToolUse(tools, choice, parallel)


def _first(*numbers: float | None) -> float | None:
    return next((number for number in numbers if number is not None), None)


def _named(choice: Fields) -> str:
    kind = choice.text("type") or "function"
    if kind == "allowed_tools":
        choice.refuse("type", f"{choice.name('type')}: send only the tools that are allowed.")
    function = choice.fields("function") or choice
    name = function.text("name")
    if not name:
        function.missing("name")
    return name


def _bias(body: Fields) -> tuple[tuple[int, float], ...]:
    given = body.fields("logit_bias")
    if given is None:
        return ()
    if len(given.values) > MOST_BIASES:
        body.refuse("logit_bias", f"logit_bias has {len(given.values)} tokens; {MOST_BIASES} are the most.")
    found: dict[int, float] = {}
    for token in given.values:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise bad("logit_bias", f"logit_bias: {token[:40]!r} is no id of a token.")
        if (bias := given.number(token, -100, 100)) is not None:
            found[int(token)] = bias
    return tuple(found.items())
