"""Answers in a format: always of that form when they end, from any candidates, and read back as what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hypercluster.node.client.completion import Completion
from hypercluster.node.client.drawing import Drawing
from hypercluster.node.client.model import Model
from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling
from hypercluster.node.engine.chat import Chat, Message, Tool
from hypercluster.node.engine.grammar import Format, JsonObject, JsonSchema, Lark, ToolUse
from hypercluster.node.engine.guidance import FormatLost
from hypercluster.node.engine.ranking import best
from hypercluster.node.engine.replies import Reply, TextPiece, ToolCallPiece
from hypercluster.node.engine.sampler import NothingToDraw
from hypercluster.node.shards.writing import write_gguf
from tests.node.helpers.answers import answered, model_of, pieces_of
from tests.node.helpers.random_models import Shape, write_random_model
from tests.node.helpers.tool_chats import TOOL_FAMILIES

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
AT = {"type": "object", "properties": {"at": {"type": "string", "maxLength": 5}}, "required": ["at"]}
WORDS = {
    "type": "object",
    "properties": {"n": {"type": "integer", "maximum": 9}},
    "additionalProperties": False,
}
TOOLS = (
    Tool("look", "looks", AT | {"additionalProperties": False}),
    Tool('sa"y', "says", {"$ref": "#/$defs/words", "$defs": {"words": WORDS}}),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Model]]:
    """Random weights, so that every answer is nonsense but for its form."""
    path = write_random_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", Shape(layers=1))
    model = model_of(path)
    yield path, model
    model.close()


def asked(format_: Format | None, *, tokens: int = 120, prompt: Any = (72, 101), **sampling: Any) -> Request:
    return Request(
        prompt=prompt, allowance=Allowance(tokens=tokens), format=format_, sampling=Sampling(**sampling)
    )


@pytest.mark.parametrize("k", [320, 24, 1])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_json_by_a_schema_is_what_the_schema_says(
    tiny: tuple[Path, Model], k: int, temperature: float
) -> None:
    path, model = tiny
    for seed in range(4):
        done, drawn = answered(path, model, asked(JsonSchema(PERSON), temperature=temperature, seed=seed), k)
        assert done.finish == "stop", done.text
        person = json.loads(done.text)
        assert set(person) == {"name", "age", "tags"}
        assert len(person["name"]) <= 6
        assert 0 <= person["age"] <= 150
        assert set(person["tags"]) <= {"a", "b"}
        # nothing is paid for an end that must come
        assert drawn[-1].last
        assert not drawn[-1].ends
        assert (done.grammar_forced > 0) == (k < 320)


def test_an_answer_that_is_cut_is_the_beginning_of_its_form(tiny: tuple[Path, Model]) -> None:
    path, model = tiny
    request = asked(JsonSchema(PERSON), temperature=1.0, seed=1)
    whole, _ = answered(path, model, request)
    cut, _ = answered(path, model, asked(JsonSchema(PERSON), temperature=1.0, seed=1, tokens=5))
    assert cut.finish == "length"
    assert whole.text.startswith(cut.text)


def test_greedy_answers_are_the_same_each_time(tiny: tuple[Path, Model]) -> None:
    """Also where the format asked for what was not among the candidates."""
    path, model = tiny
    first, second = (answered(path, model, asked(JsonObject(), tokens=40), 2)[0] for _ in range(2))
    assert first.tokens == second.tokens
    assert first.grammar_forced > 0
    assert first.text.startswith("{")


def test_the_best_of_what_is_allowed_is_taken(tiny: tuple[Path, Model]) -> None:
    """Greedy within a format is the argmax over what the grammar allows, and nothing of that is a guess."""
    _, model = tiny
    logits = np.random.default_rng(3).normal(0, 3, 320).astype(np.float32)
    done = Completion("test", prompt=(72,))
    with Drawing(model, asked(Lark('start: "a" | "b" | "c"')), done) as drawing:
        drawn = drawing.draw(best([logits], 320))
    assert drawn.id == max(b"abc", key=lambda byte: logits[byte])
    assert drawn.piece in (b"a", b"b", b"c")
    assert drawn.last
    assert (done.cut_short, done.grammar_forced) == (0, 0)


def test_the_end_comes_exactly_where_the_grammar_accepts(tiny: tuple[Path, Model]) -> None:
    _, model = tiny
    (end,) = model.tokenizer.end_ids
    logits = np.zeros(320, np.float32)
    logits[end] = 9
    done = Completion("test", prompt=(72,))
    with Drawing(model, asked(Lark("start: /[0-9]{2,4}/")), done) as drawing:
        drawn = [drawing.draw(best([logits], 320)) for _ in range(3)]
    assert [each.ends for each in drawn] == [False, False, True]
    assert not any(each.last for each in drawn)


def test_bans_and_formats_that_leave_nothing_end_in_a_sentence(tiny: tuple[Path, Model]) -> None:
    path, model = tiny
    (brace,) = model.tokenizer.encode("{")
    with pytest.raises(NothingToDraw, match="banned, or outside the format"):
        answered(path, model, asked(JsonObject(), logit_bias=((brace, -100.0),)))
    # where the format has a way around what is banned, it goes there
    (letter,) = model.tokenizer.encode("a")
    done, _ = answered(path, model, asked(Lark('start: "a" | "b"'), logit_bias=((letter, -100.0),)), 1)
    assert done.text == "b"


def test_a_format_too_complex_to_follow_ends_in_a_sentence(tiny: tuple[Path, Model]) -> None:
    path, model = tiny
    grammar = "start: T\nT: ~/[abcd]*(ab|cd)[abcd]{100}[abcd]*/ & /[abcd]*/"
    (end,) = model.tokenizer.end_ids
    request = asked(Lark(grammar), tokens=200, temperature=9.0, seed=1, logit_bias=((end, -100.0),))
    with pytest.raises(FormatLost, match="cannot be followed any further: lexer error"):
        answered(path, model, request)


def chain(links: int) -> dict[str, Any]:
    """Definitions that lead to each other."""
    link = {
        f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}, "required": ["x"]} for i in range(links)
    }
    return {"$ref": "#/$defs/a0", "$defs": link | {f"a{links}": {"type": "string"}}}


def test_schemas_as_wide_and_as_deep_as_they_may_be_do_no_harm(tiny: tuple[Path, Model]) -> None:
    """llguidance goes down one call for each definition that leads to another, and a stack that ends kills."""
    path, model = tiny
    for schema in ({"properties": {f"k{i}": {"type": "string"} for i in range(500)}}, chain(140)):
        request = asked(JsonSchema(schema), tokens=3)
        assert len(answered(path, model, request)[0].tokens) == 3
    rules = "".join(f"r{i}: r{i + 1}\n" for i in range(4000))
    done, _ = answered(path, model, asked(Lark(f'start: r0\n{rules}r4000: "ab"\n'), tokens=3))
    assert done.text == "ab"


@pytest.mark.parametrize(
    ("format_", "said"),
    [
        (JsonSchema({"not": {"type": "string"}}), "not supported here: not"),
        (JsonSchema({"type": "array", "uniqueItems": True}), "not supported here: uniqueItems"),
        (JsonSchema({"type": "string", "format": "zip"}), "the format zip"),
        (JsonSchema({"type": "string", "pattern": "(?=a)"}), "look-around"),
        (JsonSchema({"$ref": "https://example.com/x"}), "another document"),
        (JsonSchema({"$ref": "#/nowhere"}), "nowhere"),
        (JsonSchema(False), "Nothing fits"),
        (JsonSchema({"enum": []}), "Nothing fits"),
        (JsonSchema({"properties": {f"k{i}": {} for i in range(501)}}), "501 of one object"),
        (JsonSchema({"required": [f"k{i}" for i in range(501)]}), "501 of one object"),
        (
            JsonSchema({"anyOf": [{"properties": {f"{j}{i}": {} for i in range(300)}} for j in range(9)]}),
            "too many",
        ),
        (JsonSchema(chain(300)), "levels"),
        (JsonSchema({"description": "x" * 200_000}), "letters"),
        (JsonSchema({"type": object}), "no JSON"),
        (Lark("start: nothing"), "unknown name"),
        (Lark("x" * 200_000), "letters"),
        (ToolUse(()), "there are none"),
        (ToolUse((TOOLS[0], TOOLS[0])), "one name"),
        (ToolUse(TOOLS, "nobody"), "no tool 'nobody'"),
    ],
)
def test_what_cannot_be_enforced_is_refused_when_it_is_asked_for(format_: Format, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as caught:
        asked(format_)
    assert "\n" not in str(caught.value)


def test_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadRequest, match="nested too deeply"):
        asked(JsonSchema(schema))


def test_without_strict_what_is_not_supported_is_left_out() -> None:
    for schema in (
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"format": "zip"},
        True,
    ):
        asked(JsonSchema(schema, strict=False))


@pytest.fixture(scope="module", params=[*TOOL_FAMILIES, "no tools"])
def talker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A vocabulary with the template of a family, or with one that knows of no tools."""
    family = TOOL_FAMILIES[request.param if request.param in TOOL_FAMILIES else "hermes"]
    metadata = family.metadata()
    if request.param not in TOOL_FAMILIES:
        del metadata["tokenizer.chat_template"]
    model = model_of(write_gguf(tmp_path_factory.mktemp("talker") / "vocab.gguf", metadata, ()))
    yield model
    model.close()


def spelled(model: Model, text: str, *, marks: bool = False) -> list[int]:
    """The longest tokens that spell a text, marks of the family too where they are to be whole."""
    tokenizer = model.tokenizer
    pieces = {tokenizer.piece(i, special=marks and i in tokenizer.marks): i for i in range(model.n_vocab)}
    raw, ids = text.encode(), []
    while raw:
        piece = next(raw[:n] for n in range(len(raw), 0, -1) if raw[:n] in pieces)
        ids.append(pieces[piece])
        raw = raw[len(piece) :]
    return ids


def walked(model: Model, request: Request, seed: int, tokens: int = 400) -> tuple[str, Completion]:
    """An answer at random within the format of a request."""
    done, rng, stream = Completion("test", prompt=(1,)), np.random.default_rng(seed), model.stream(request)
    text = ""
    with Drawing(model, request, done) as drawing:
        for _ in range(tokens):
            drawn = drawing.draw(best([rng.normal(0, 3, model.n_vocab).astype(np.float32)], model.n_vocab))
            if drawn.ends:
                done.finish = "stop"
                break
            text += stream.push(drawn.id)
            if drawn.last:
                done.finish = "stop"
                break
    return text, done


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("choice", ["required", "look"])
def test_calls_that_are_required_come_whatever_the_model_wants(
    talker: Model, choice: str, parallel: bool
) -> None:
    chat = Chat((Message("user", "Hello"),), TOOLS)
    request = asked(ToolUse(TOOLS, choice, parallel), prompt=chat)
    ended = 0
    for seed in range(8):
        text, done = walked(talker, request, seed)
        if done.finish != "stop":
            continue
        ended += 1
        pieces = pieces_of(talker, request, text)
        calls = [piece for piece in pieces if isinstance(piece, ToolCallPiece) and piece.id]
        assert calls, text
        assert not any(isinstance(piece, TextPiece) for piece in pieces), text
        assert parallel or len(calls) == 1
        assert {piece.name for piece in calls} <= ({"look"} if choice == "look" else {"look", 'sa"y'})
        for index in range(len(calls)):
            written = "".join(
                p.arguments for p in pieces if isinstance(p, ToolCallPiece) and p.index == index
            )
            assert set(json.loads(written)) <= {"at", "n"}
    assert ended


def test_calls_that_begin_by_themselves_are_well_formed(talker: Model) -> None:
    """With "auto" any text may come; after the mark of a call there is one, by its schema."""
    form = talker.tokenizer.form
    chat = Chat((Message("user", "Hello"),), TOOLS)
    request = asked(ToolUse(TOOLS), prompt=chat)
    matching = talker.matching(request)
    if not form.calls.triggered:
        assert matching is None
        return
    assert matching is not None
    for token in spelled(talker, "a <b [c"):
        matching.accept(token)
    assert matching.mask()[sorted(talker.tokenizer.end_ids)].all()
    for token in spelled(talker, form.calls.value, marks=True):
        matching.accept(token)
    assert not matching.mask()[sorted(talker.tokenizer.end_ids)].any()
    with pytest.raises(FormatLost):
        matching.accept(spelled(talker, "x")[0])


def test_no_control_token_comes_within_a_format(talker: Model) -> None:
    matching = talker.matching(asked(JsonObject(), prompt=Chat((Message("user", "Hello"),))))
    assert matching is not None
    for token in spelled(talker, '{"'):
        matching.accept(token)
    steering = set(talker.tokenizer.control_ids.values()) - talker.tokenizer.marks
    assert not matching.mask()[sorted(steering)].any()


def test_thoughts_may_come_before_a_format_and_must_where_they_are_open(talker: Model) -> None:
    if talker.tokenizer.form.tags is None or not talker.tokenizer.chat_template:
        pytest.skip("this family does not think")
    for reasoning, allowed in (
        (None, ['{"a": 1}', "<think>hm</think>\n{}"]),
        (True, ['hm {"a" </think>\n\n{}']),
    ):
        chat = Chat((Message("user", "Hello"),), reasoning=reasoning)
        request = asked(JsonObject(), prompt=chat)
        for text in allowed:
            matching = talker.matching(request)
            assert matching is not None
            for token in spelled(talker, text, marks=True):
                matching.accept(token)
            assert matching.complete
    assert isinstance(talker.reply(request), Reply)
    assert talker.reply(request).push('hm </think>\n\n{"a": 1}')[-1] == TextPiece('{"a": 1}')


def test_a_model_that_chats_writes_json_and_calls(smollm2: Path) -> None:
    """SmolLM2-135M, whose template knows of no tools: a good answer is much to ask, a well-formed one is not."""
    model = model_of(smollm2)
    try:
        chat = Chat((Message("user", "What is the weather in Paris?"),), TOOLS[:1])
        request = asked(ToolUse(TOOLS[:1], "required", parallel=False), prompt=chat, tokens=60)
        done, _ = answered(smollm2, model, request)
        assert done.finish == "stop"
        (call,) = pieces_of(model, request, done.text)
        assert isinstance(call, ToolCallPiece)
        assert (call.name, list(json.loads(call.arguments))) == ("look", ["at"])
    finally:
        model.close()
