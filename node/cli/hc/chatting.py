"""`hc chat`: a chat in the terminal with the model behind the gateway that runs in this home."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.money.units import counted, round_hct
from hypercluster.node.cli.client.options import MaxCost, System, Temperature, Tokens
from hypercluster.node.cli.console import Failed, Json, err, fail, print_json, say, write_text
from hypercluster.node.cli.ending import INTERRUPTED
from hypercluster.node.cli.options import prose
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.node.cli.hc.asking import Asking, Said


def chat(
    model: Annotated[
        str | None, prose("One of the gateway's models. Default: its first.", default="its first")
    ] = None,
    system: System = None,
    tokens: Tokens = 512,
    max_cost: MaxCost = None,
    temperature: Temperature = 0.2,
    home: Annotated[
        Path | None, typer.Option(help="Folder that was given to hc up. Default: HC_HOME.")
    ] = None,
    json_: Json = False,
) -> None:
    """Talk with the model that `hc up` serves from the same home: each line is a turn, its answer streams.

    Example: [bold]hc chat --system "Answer in one sentence."[/]

    Ctrl-C stops an answer, what came is paid for; between answers it ends the chat, as the end of the input does.
    """
    from hypercluster.node.cli.hc.asking import Asking, model_at
    from hypercluster.node.cli.hc.door import found_door

    folder = home.expanduser() if home is not None else Settings().home
    door = found_door(folder)
    if door is None:
        fail(f"nothing runs in {folder}: start hc up in another terminal, or name its folder with --home.")
    name, chats = model_at(door, model)
    options: dict[str, Any] = {"max_tokens": tokens, "temperature": temperature}
    options |= {"max_cost_wei": str(max_cost)} if max_cost is not None else {}
    asking = Asking(door=door, model=name, chat=chats, options=options)
    if not json_ and sys.stdin.isatty():
        what = "" if chats else " It cannot chat, so it goes on with what you write."
        say(f"{name}.{what} Ctrl-C stops an answer, Ctrl-D ends.", err)
    _talk(asking, system, json_)


def _talk(asking: Asking, system: str | None, json_: bool) -> None:
    from hypercluster.node.cli.hc.asking import Said

    turns: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    spoken: list[Said] = []
    by_hand = sys.stdin.isatty()
    try:
        for line in _lines():
            said = Said()
            turns.append({"role": "user", "content": line})
            try:
                _speak(asking, turns, said, json_)
            except Failed as error:
                if not by_hand:
                    fail(str(error), {"turns": [each.document() for each in (*spoken, said)]})
                say(f"\nerror: {error}", err)
                turns.pop()
                continue
            spoken.append(said)
            turns.append({"role": "assistant", "content": said.text})
            if said.stopped and not by_hand:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if json_:
            print_json({"turns": [each.document() for each in spoken], "error": "interrupted."})
        raise typer.Exit(INTERRUPTED) from None
    if not spoken and not by_hand:
        fail("nothing was said: each line of the input is a turn.")
    if json_:
        print_json({"turns": [each.document() for each in spoken], "error": None})


def _speak(asking: Asking, turns: list[dict[str, str]], said: Said, json_: bool) -> None:
    """Show an answer as it comes, then what it cost. Raises Failed."""
    waited = ""
    try:
        with contextlib.closing(asking.answer(turns, said)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                if isinstance(piece, tuple):
                    if piece[0] != waited and not json_ and not said.text:
                        waited = piece[0]
                        say(f"({waited})", err)
                elif not json_:
                    write_text(sys.stdout, piece)
    except KeyboardInterrupt:
        said.stopped = True
    if json_:
        return
    write_text(sys.stdout, "\n")
    if said.cost_wei is not None:
        to = f" to {counted(said.providers, 'provider')}" if said.providers else ""
        say(f"[{counted(said.tokens or 0, 'token')}, {round_hct(said.cost_wei)} HCT{to}, {said.reason}]", err)
    elif said.stopped:
        say("[stopped; what came is paid for]", err)


def _lines() -> Iterator[str]:
    """Lines that say something, from the terminal, where they can be edited, or from a pipe. Raises Failed."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - input() edits lines by it
        while True:
            try:
                line = input("> ")
            except EOFError:
                write_text(sys.stderr, "\n")
                return
            if line.strip():
                yield line
    for raw in sys.stdin.buffer:
        try:
            line = raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            fail("the input is not UTF-8 text.")
        if line.strip():
            yield line
