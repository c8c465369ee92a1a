"""Requests that cannot be run are refused when they are made; texts to stop at are held back."""

from __future__ import annotations

from typing import Any

import pytest

from hypercluster.node.client.request import Allowance, BadRequest, Request, Sampling
from hypercluster.node.client.stops import StopGate


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
    ],
)
def test_x2_sampling_out_of_range_is_refused_when_it_is_asked_for(values: dict[str, Any]) -> None:
    """X2: long before anything is joined."""
    with pytest.raises(BadRequest):
        Sampling(**values)


def test_requests_for_nothing_are_refused() -> None:
    allowance = Allowance(tokens=1)
    for changes in ({"prompt": ""}, {"prompt": ()}, {"stop": ("",)}, {"candidates": 0}):
        with pytest.raises(BadRequest):
            Request(**({"prompt": "a", "allowance": allowance} | changes))  # type: ignore[arg-type]
    with pytest.raises(BadRequest):
        Allowance(tokens=0)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("hello world", ("lo w",), "hel"),
        ("aab aaab", ("aaab",), "aab "),
        ("hello", ("x",), "hello"),
        ("hel", ("hello",), "hel"),
        ("one\ntwo", ("\n", "two"), "one"),
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
