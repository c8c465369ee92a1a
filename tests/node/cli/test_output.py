"""What is printed arrives whole: texts as they are, ids in one piece, JSON that every program can read."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping

import pytest

from hypercluster.node.cli.console import visible

PEER = "16Uiu2HAmBqDWvJyvKYxJKJqC1nWnPjLv1kQMrmTGpQXXGHnuLgbV"
CHANNEL = "0x" + "4f1a" * 16
NASTY = (
    "tab\there\rback\b\b\a bell \x1b[2J\x1b]0;title\x07 :heart: [bold]no markup[/] \u202eright\u202c \x9b31m\n"
    + "x" * 300
)
TEXT = f"import sys; from hypercluster.node.cli.console import write_text; write_text(sys.stdout, {NASTY!r})"
TABLE = f"""
from hypercluster.node.cli.console import say
from hypercluster.node.cli.tables import Table
table = Table("peer", "channel", "layers", "HCT", "note", title="What there is")
table.row({PEER!r}, {CHANNEL!r}, "0:3", "0.0484", "[bold]:heart:[/]")
table.row({PEER[::-1]!r}, {CHANNEL[::-1]!r}, "3:6", "12.5", "")
say(table)
say("A sentence with an address that must stay whole: /ip4/192.0.2.1/tcp/4001/p2p/{PEER}")
"""


def piped(script: str, **settings: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **settings}, capture_output=True, check=True
    )
    return done.stdout


def on_terminal(script: str, settings: Mapping[str, str]) -> str:
    """What a terminal is sent, its newlines as the program wrote them."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **settings},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                sent += os.read(ours, 1 << 16)
            except OSError:  # the terminal's other side is closed
                break
        os.close(ours)
        assert process.wait() == 0, sent
    return sent.decode().replace("\r\n", "\n")


def test_r1_a_pipe_gets_the_text_as_it_is() -> None:
    """R1: tabs, controls and what looks like an emoji or markup are the model's, and nothing is wrapped."""
    assert piped(TEXT, COLUMNS="40") == NASTY.encode()


def test_r1_a_terminal_gets_what_could_harm_it_written_out() -> None:
    """R1: on a terminal tab and newline stay, all other controls are shown as escapes."""
    sent = on_terminal(TEXT, {"COLUMNS": "40", "TERM": "xterm-256color"})
    assert sent == visible(NASTY)
    assert not set(map(chr, [*range(9), *range(11, 32), *range(127, 160)])) & set(sent)
    assert "tab\there\\rback\\x08\\x08\\x07 bell \\x1b[2J" in sent
    assert ":heart: [bold]no markup[/] \\u202eright\\u202c \\x9b31m\n" in sent


def test_r1_a_stream_that_lacks_a_character_gets_its_escape() -> None:
    """R1: an ASCII stream does not end the program."""
    script = (
        "import sys; sys.stdout.reconfigure(encoding='ascii')\n"
        "from hypercluster.node.cli.console import write_text; write_text(sys.stdout, 'é→')"
    )
    assert piped(script) == b"\\xe9\\u2192"


@pytest.mark.parametrize("columns", ["20", "40", "80", "400"])
def test_r2_a_piped_table_holds_everything(columns: str) -> None:
    """R2: one line a row, whatever COLUMNS says, nothing cut, no frame."""
    lines = piped(TABLE, COLUMNS=columns).decode().splitlines()
    assert lines[0] == "What there is"
    assert lines[1].split() == ["peer", "channel", "layers", "HCT", "note"]
    assert lines[2].split() == [PEER, CHANNEL, "0:3", "0.0484", "[bold]:heart:[/]"]
    assert lines[3].split() == [PEER[::-1], CHANNEL[::-1], "3:6", "12.5"]
    assert lines[4].endswith(PEER)
    assert len(lines) == 5


@pytest.mark.parametrize("columns", ["1", "20", "40", "80", "400"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_r2_a_terminal_of_any_width_shows_whole_ids(columns: str, term: str) -> None:
    """R2: where the columns do not fit, each row is lines of its own, so that ids can be copied."""
    sent = on_terminal(TABLE, {"COLUMNS": columns, "TERM": term, "NO_COLOR": "1"})
    for whole in (PEER, PEER[::-1], CHANNEL, CHANNEL[::-1], "0.0484", "[bold]:heart:[/]"):
        assert whole in sent
    assert "…" not in sent
    if columns != "400":
        assert "│" not in sent
    elif term == "xterm":  # how wide a dumb one is, nobody knows
        assert "│" in sent


def test_json_is_ascii_and_lacks_no_number() -> None:
    script = (
        "from hypercluster.node.cli.console import print_json\n"
        "print_json({'a': float('nan'), 'b': [1.5, float('-inf')], 'c': ('é\\ud800', 10**30)})"
    )
    assert json.loads(piped(script, PYTHONIOENCODING="ascii")) == {
        "a": None, "b": [1.5, None], "c": ["é\ud800", 10**30]
    }  # fmt: skip
