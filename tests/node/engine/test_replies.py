"""Answers are taken apart as they come, however the tokens cut them; what is no call stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.engine.forms import Calls, Form, form_of
from hypercluster.node.engine.replies import Piece, ReasoningPiece, Reply, TextPiece, ToolCallPiece

FORMS = {
    Calls.HERMES: form_of("{{ tools }} <tool_call> </think>"),
    Calls.MISTRAL: form_of("{{ tools }} [TOOL_CALLS] [/THINK]"),
    Calls.LLAMA: form_of("{{ tools }} <|python_tag|>"),
    Calls.GENERIC: form_of(""),
}
CITY = '{"name": "weather", "arguments": {"city": "Paris", "days": [1, {"a": "}\\"{"}]}}'
TIME = '{"name": "time", "arguments": {}}'


def taken(form: Form, text: str, size: int = 1, **options: Any) -> tuple[str, str, list[tuple[str, Any]]]:
    """What is said, thought and called in a text that comes in parts of some size."""
    reply = Reply(form, tools={"weather", "time"}, **options)
    pieces: list[Piece] = []
    for at in range(0, len(text), size):
        pieces += reply.push(text[at : at + size])
    pieces += reply.finish()
    assert reply.finish() == []
    calls: list[list[str]] = []
    for piece in pieces:
        if isinstance(piece, ToolCallPiece):
            if piece.index == len(calls):
                assert piece.id
                assert piece.name
                calls.append([piece.name, ""])
            else:
                assert not piece.id
            calls[piece.index][1] += piece.arguments
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    thought = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningPiece))
    return said, thought, [(name, json.loads(arguments)) for name, arguments in calls]


PARIS = ("weather", {"city": "Paris", "days": [1, {"a": '}"{'}]})
CALLS = [
    (Calls.HERMES, f"<tool_call>\n{CITY}\n</tool_call>", "", [PARIS]),
    (Calls.HERMES, f"I look.\n\n<tool_call>{CITY}</tool_call>\n", "I look.", [PARIS]),
    (
        Calls.HERMES,
        f"<tool_call>\n{CITY}\n</tool_call>\n<tool_call>\n{TIME}\n</tool_call>",
        "",
        [PARIS, ("time", {})],
    ),
    (Calls.HERMES, f"<tool_call>{CITY}</tool_call>So.", "So.", [PARIS]),
    (Calls.MISTRAL, f"[TOOL_CALLS][{CITY}]", "", [PARIS]),
    (Calls.MISTRAL, f"Hm. [TOOL_CALLS] [{CITY}, {TIME}]", "Hm.", [PARIS, ("time", {})]),
    (Calls.MISTRAL, f"[TOOL_CALLS]{CITY}", "", [PARIS]),
    (Calls.LLAMA, CITY.replace("arguments", "parameters"), "", [PARIS]),
    (Calls.LLAMA, f"<|python_tag|>{CITY}; {TIME}", "", [PARIS, ("time", {})]),
    (Calls.GENERIC, f"{CITY}\n{TIME}", "", [PARIS, ("time", {})]),
    (Calls.GENERIC, f"Of course:\n{CITY}", "Of course:", [PARIS]),
]


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("calls", "text", "said", "called"), CALLS)
def test_calls_in_every_form(
    calls: Calls, text: str, said: str, called: list[Any], size: int, sure: bool
) -> None:
    assert taken(FORMS[calls], text, size, sure=sure) == (said, "", called)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("calls", "text"),
    [
        (Calls.HERMES, "<tool_call>\nnothing\n</tool_call>"),
        (Calls.HERMES, 'Write <tool_call>{"name": "weather"'),
        (Calls.HERMES, '<tool_call>{"name": "nobody", "arguments": {}}</tool_call> and so on'),
        (Calls.HERMES, '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>'),
        (Calls.HERMES, '<tool_call>{"name": "weather", "arguments": {"a" 1}}</tool_call>'),
        (Calls.HERMES, '<tool_call>{"arguments": {}}</tool_call>'),
        (Calls.HERMES, "a <tool_cal l> <tool_call"),
        (Calls.MISTRAL, "[TOOL_CALLS]none"),
        (Calls.MISTRAL, "[TOOL_CALLS][]"),
        (Calls.LLAMA, '{"name": 5}'),
        (Calls.LLAMA, "<|python_tag|>print(1)"),
        (Calls.GENERIC, '{"a": {"name": "weather"}}'),
        (Calls.GENERIC, f"As in {CITY}"),
        (Calls.GENERIC, "{{{{"),
        (Calls.GENERIC, '{"name": "weather", "arguments": "no object"}'),
    ],
)
def test_what_is_no_call_stays_text(calls: Calls, text: str, size: int) -> None:
    assert taken(FORMS[calls], text, size) == (text, "", [])


def test_arguments_come_as_they_are_written_where_calls_are_sure() -> None:
    reply = Reply(FORMS[Calls.HERMES], tools={"weather"}, sure=True)
    assert reply.push('<tool_call>\n{"name": "weather", "argu') == []
    first, *_ = reply.push('ments": {"ci')
    assert isinstance(first, ToolCallPiece)
    assert (first.index, first.name, first.arguments) == (0, "weather", '{"ci')
    assert reply.push('ty": "Par') == [ToolCallPiece(0, "", "", 'ty": "Par')]
    assert reply.push('is"}') == [ToolCallPiece(0, "", "", 'is"}')]
    assert reply.push("}\n</tool_call>") == []
    # cut in the middle, what has come stays a call
    reply = Reply(FORMS[Calls.HERMES], tools={"weather"}, sure=True)
    pieces = reply.push('<tool_call>\n{"name": "weather", "arguments": {"ci') + reply.finish()
    assert "".join(piece.arguments for piece in pieces if isinstance(piece, ToolCallPiece)) == '{"ci'


@pytest.mark.parametrize(
    "text",
    [
        '{"arguments": {"city": "Rome"}, "name": "weather"}',
        '{"id": "x7", "name": "weather", "arguments": {"city": "Rome"}}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}',
        '{ "name" : "w\\u0065ather" , "type": null, "n": -1.5e3, "arguments" : {"city": "Rome"} }',
    ],
)
def test_other_ways_to_write_the_same_call(text: str) -> None:
    assert taken(FORMS[Calls.GENERIC], text) == ("", "", [("weather", {"city": "Rome"})])


def test_identifiers_are_those_that_the_templates_want() -> None:
    def identifier(calls: Calls, text: str) -> str:
        return next(
            p.id for p in Reply(FORMS[calls], tools={"time"}).push(text) if isinstance(p, ToolCallPiece)
        )

    assert len(identifier(Calls.MISTRAL, f"[TOOL_CALLS][{TIME}]")) == 9
    first, second = (identifier(Calls.GENERIC, f"{TIME}\n") for _ in range(2))
    assert first.startswith("call_")
    assert first != second


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "thinking", "said", "thought"),
    [
        ("<think>\nHm.\n</think>\n\nParis.", False, "Paris.", "Hm."),
        ("\nHm.\n</think>\n\nParis.", True, "Paris.", "Hm."),
        ("Paris.", False, "Paris.", ""),
        ("<think></think>Paris.", False, "Paris.", ""),
        ("<thin air", False, "<thin air", ""),
        ("Is <think> a tag? </think>", False, "Is <think> a tag? </think>", ""),
        ("never ends </thi", True, "", "never ends </thi"),
        ("<think>", False, "", ""),
        ("", True, "", ""),
    ],
)
def test_thoughts_are_told_apart(size: int, text: str, thinking: bool, said: str, thought: str) -> None:
    assert taken(FORMS[Calls.HERMES], text, size, thinking=lambda: thinking) == (said, thought, [])


def test_a_call_after_thoughts() -> None:
    text = f"<think>I could <tool_call> it.</think>\n\n<tool_call>\n{TIME}\n</tool_call>"
    assert taken(FORMS[Calls.HERMES], text, 4) == ("", "I could <tool_call> it.", [("time", {})])


def test_without_a_form_or_tools_everything_is_text() -> None:
    text = f"<think>x</think><tool_call>{TIME}</tool_call>"
    for reply in (Reply(), Reply(FORMS[Calls.LLAMA])):
        assert reply.push(text) + reply.finish() == [TextPiece(text)]


PARTS = """<tool_call> </tool_call> <think> </think> [TOOL_CALLS] <|python_tag|> { } " , x [ ] ; \\ {"name":
"weather", "arguments":{"""
LETTERS = st.lists(st.sampled_from([*PARTS.split(), CITY, TIME, "\n", " "]), max_size=12).map("".join)


@settings(max_examples=200, deadline=None)
@given(LETTERS, st.sampled_from(list(Calls)), st.booleans(), st.integers(1, 9))
def test_whatever_comes_is_taken_apart_the_same_way_in_any_parts(
    text: str, calls: Calls, thinking: bool, size: int
) -> None:
    whole = taken(FORMS[calls], text, max(1, len(text)), thinking=lambda: thinking)
    assert taken(FORMS[calls], text, size, thinking=lambda: thinking) == whole
    letters = "".join("".join(whole[:2]).split())
    assert len(letters) <= len("".join(text.split()))
    if not whole[2] and "<think>" not in text and "</think>" not in text and "[/THINK]" not in text:
        assert letters == "".join(text.split())
