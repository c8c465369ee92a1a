"""The body of a message, read into what is asked of the network."""

from __future__ import annotations

from hypercluster.node.client.request import MOST_STOPS
from hypercluster.node.engine.chat import Chat, Tool
from hypercluster.node.engine.grammar import Format, JsonSchema, ToolUse
from hypercluster.node.gateway.anthropic.turns import read_messages, read_system, read_tools
from hypercluster.node.gateway.asking import Asked
from hypercluster.node.gateway.openai.options import read_sampling
from hypercluster.node.gateway.preferences import read_preferences
from hypercluster.node.gateway.reading import Fields

MOST_NUMBER = 2**53
"""what JSON can count to; agents ask for 128,000 tokens of models that hold 8,192"""


def read_chat(body: Fields) -> tuple[Chat, Format | None]:
    """The conversation and the form of its answer, without how it is drawn. Raises ApiError."""
    tools = read_tools(body)
    choice, parallel = _choice(body, tools)
    messages = (*read_system(body), *read_messages(body))
    if choice is None:
        return Chat(messages, (), thinks(body)), _schema(body)
    return Chat(messages, tools, thinks(body)), ToolUse(tools, choice, parallel)


def read_asked(body: Fields) -> Asked:
    """All of it. Raises ApiError."""
    chat, form = read_chat(body)
    return Asked(
        model=body.text("model") or body.missing("model"),
        prompts=(chat,),
        tokens=body.whole("max_tokens", 1, MOST_NUMBER),
        sampling=read_sampling(body),
        stop=_stops(body),
        format=form,
        preferences=read_preferences(body),
        stream=body.flag("stream") or False,
    )


def thinks(body: Fields) -> bool:
    """Whether the model is to think first: only where it is asked to, since thought is paid for like text."""
    thinking = body.fields("thinking")
    kinds = ("enabled", "disabled", "adaptive", "between_tools")
    return thinking is not None and thinking.one_of("type", *kinds) in ("enabled", "adaptive")


def shows_thought(body: Fields) -> bool:
    """Whether what it thinks is part of the answer."""
    thinking = body.fields("thinking")
    return thinking is not None and thinks(body) and thinking.text("display") != "omitted"


def _stops(body: Fields) -> tuple[str, ...]:
    stops = body.texts("stop_sequences", MOST_STOPS)
    if "" in stops:
        body.refuse("stop_sequences", "stop_sequences holds an empty text, which would stop at once.")
    return stops


def _choice(body: Fields, tools: tuple[Tool, ...]) -> tuple[str | None, bool]:
    """How tools are called, in the words of ToolUse, and whether several at once; None where none may be."""
    given = body.fields("tool_choice")
    if given is None:
        return ("auto" if tools else None), True
    kind = given.one_of("type", "auto", "any", "tool", "none") or given.missing("type")
    parallel = not given.flag("disable_parallel_tool_use")
    if kind == "none" or (kind == "auto" and not tools):
        return None, parallel
    if not tools:
        given.refuse("type", f"tool_choice asks for a tool ({kind}) and tools is empty.")
    if kind == "tool":
        name = given.text("name") or given.missing("name")
        if name not in [tool.name for tool in tools]:
            given.refuse("name", f"tool_choice.name is {name[:80]!r}, which is not in tools.")
        return name, parallel
    return {"auto": "auto", "any": "required"}[kind], parallel


def _schema(body: Fields) -> Format | None:
    config = body.fields("output_config")
    form = (config and config.fields("format")) or body.fields("output_format")
    if not form:
        return None
    form.one_of("type", "json_schema")
    schema = form.fields("schema")
    return JsonSchema(schema.values) if schema else form.missing("schema")
