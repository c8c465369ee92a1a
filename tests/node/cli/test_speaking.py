"""What a person sees of a completion while it goes on, and where it stands."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, cast

import pytest

from hypercluster.node.cli.client.bills import spares_line
from hypercluster.node.cli.client.speaking import _tell
from hypercluster.node.cli.progress import bar
from hypercluster.node.client.completing import Completing
from hypercluster.node.client.events import Event, HopReplaced, SparesChanged, Token, Waiting


class Told:
    """Events as they come from a completion."""

    def __init__(self, *events: Event) -> None:
        self._events = events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self._events:
            yield event


def token(text: str) -> Token:
    return Token(0, text, text.encode(), 40, 1.0)


async def test_what_is_said_of_a_completion_never_stands_in_a_line_of_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said before the first token comes before the prompt, and what comes later begins a line."""
    monkeypatch.setattr(sys, "stdout", sys.stderr)  # as on one terminal
    told = Told(
        Waiting("All are busy.", 1.0),
        token(" Ay"),
        HopReplaced("P", "P is gone.", True, "lost"),
        token(", sir"),
    )
    await _tell(cast(Completing, told), False, "ROMEO:")
    assert capsys.readouterr().err == "All are busy. Waiting.\nROMEO: Ay\nP is gone. Going on.\n, sir"


def test_progress_leaves_nothing_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("Hashing", 2) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (SparesChanged(("a", "b"), ()), "2 providers stand by."),
        (SparesChanged(("a",), ((0, 1), (3, 4))), "1 provider stands by, nobody for layers 0:1, 3:4."),
        (SparesChanged((), ((0, 4),)), "Nobody stands by."),
        (SparesChanged((), ((0, 4),), "Provider a is full."), "Provider a is full. Nobody stands by."),
    ],
)
def test_who_stands_by_is_said(event: SparesChanged, line: str) -> None:
    assert spares_line(event) == line
