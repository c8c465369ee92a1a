"""Requests that cannot be run are refused when they are made; texts to stop at are held back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling
from hypercluster.node.client.stops import StopGate
from hypercluster.node.engine.chat import Message


@pytest.mark.parametrize(
    "values",
    [
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": 1.0},
        {"min_p": -0.1},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"seed": 2**32 - 1},
        {"presence_penalty": 2.1},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": -2.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 11.0},
        {"repetition_penalty": float("nan")},
        {"penalty_last_n": -1},
        {"penalty_last_n": 100_000},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, float("nan")),)},
        {"logit_bias": ((-1, 1.0),)},
        {"logit_bias": ((1, 1.0), (1, 2.0))},
        {"logit_bias": tuple((i, 1.0) for i in range(1025))},
    ],
)
def test_x2_sampling_out_of_range_is_refused_when_it_is_asked_for(values: dict[str, Any]) -> None:
    """X2: long before anything is joined."""
    with pytest.raises(BadRequest):
        Sampling(**values)


def test_requests_for_nothing_are_refused() -> None:
    allowance = Allowance(tokens=1)
    for changes in (
        {"prompt": ""},
        {"prompt": ()},
        {"prompt": (-1,)},
        {"prompt": (1.5,)},
        {"prompt": (1, True)},
        {"prompt": (1, Message("user", "a"))},
        {"stop": ("",)},
        {"candidates": 0},
        {"logprobs": 21},
    ):
        with pytest.raises(BadRequest):
            Request(**({"prompt": "a", "allowance": allowance} | changes))  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        Allowance(tokens=0)


@given(
    st.text("abc", max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4).map(tuple),
    st.integers(1, 5),
)
def test_x1_where_an_answer_stops_is_the_same_however_it_comes(
    text: str, stops: tuple[str, ...], size: int
) -> None:
    """X1: with texts that overlap and hold each other."""
    whole, parts = StopGate(stops), StopGate(stops)
    shown = whole.push(text) + whole.finish()
    told = "".join(parts.push(text[at : at + size]) for at in range(0, len(text), size)) + parts.finish()
    assert (told, parts.stop) == (shown, whole.stop)
    assert not any(stop in shown for stop in stops)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("hello world", ("lo w",), "hel"),
        ("aab aaab", ("aaab",), "aab "),
        ("hello", ("x",), "hello"),
        ("hel", ("hello",), "hel"),
        ("one\ntwo", ("\n", "two"), "one"),
        ("abcd", ("abcd", "bc"), "a"),
        ("abcd", ("bcd", "abcd"), ""),
        ("aaab", ("aab",), "a"),
        ("stop", ("stop",), ""),
        ("ä€😀x", ("😀",), "ä€"),
    ],
)
def test_x1_a_text_to_stop_at_is_found_however_tokens_cut_it(
    size: int, text: str, stops: tuple[str, ...], shown: str
) -> None:
    """X1: `--stop` is held back across tokens, and what only looks like its beginning is shown in the end."""
    gate = StopGate(stops)
    told = ""
    for at in range(0, len(text), size):
        told += gate.push(text[at : at + size])
        assert shown.startswith(told)
    assert told + gate.finish() == shown
    assert gate.stopped == (shown != text)
