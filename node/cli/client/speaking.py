"""One completion on the command line: its text as it comes, then its bill and its audits, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from hypercluster.node.cli.client.bills import (
    audits_line,
    bill_line,
    completion_json,
    planned_line,
    report_line,
    spares_line,
)
from hypercluster.node.cli.client.interrupts import interrupts
from hypercluster.node.cli.console import Failed, err, print_json, say, write_text
from hypercluster.node.cli.ending import INTERRUPTED
from hypercluster.node.client.events import (
    ChannelsPlanned,
    Finished,
    HopReplaced,
    SparesChanged,
    Token,
    Waiting,
)

if TYPE_CHECKING:
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completing import Completing
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.events import Event
    from hypercluster.node.client.request import Request


@dataclass(frozen=True, slots=True)
class Spoken:
    """A completion that has ended and been shown; `gas_wei` is all that it took, its audits' channels included."""

    completion: Completion
    gas_wei: int
    interrupted: bool

    def document(self) -> dict[str, Any]:
        """For programs."""
        return completion_json(self.completion, self.gas_wei)

    def end(self, json_: bool, document: dict[str, Any] | None = None) -> None:
        """Print the document, or `document` instead, and end the command as the completion did.

        Raises:
            Failed: it failed; the document goes along.
            typer.Exit: it was interrupted.
        """
        document = document or self.document()
        error = self.completion.error
        if error is not None:
            raise Failed(str(error) or type(error).__name__, document)
        if json_:
            print_json(document | {"error": "interrupted." if self.interrupted else None})
        if self.interrupted:
            raise typer.Exit(INTERRUPTED)


async def speak(
    client: Client,
    request: Request,
    *,
    json_: bool,
    echo: str = "",
    document: Callable[[Spoken], dict[str, Any]] = Spoken.document,
) -> Spoken:
    """Run a completion and show it. Ctrl-C ends it, its bill and audits follow; once more ends at once.

    Args:
        json_: show nothing but what is about to be spent; the document is printed by `Spoken.end`.
        echo: text to show before its first token.
        document: what is printed with `json_` where it has to end at once.
    """
    completing = client.complete(request)
    done = completing.completion
    before = client.payer.gas_wei

    def spoken() -> Spoken:
        return Spoken(done, client.payer.gas_wei - before, bool(stop.seen))

    def last_words() -> None:
        if json_:
            print_json(document(spoken()) | {"error": "interrupted."})
        else:
            say(f"\n{bill_line(done)}", err)
        sys.stdout.flush()

    async with interrupts(last_words) as stop:
        try:
            with stop.guard():
                await _tell(completing, json_, echo)
        finally:
            if not json_:
                # Also where the text went nowhere: it is paid for.
                say(f"\n{bill_line(done)}", err)
        if not json_:
            write_text(sys.stdout, "\n")
        gas = client.payer.gas_wei
        with stop.guard():
            async for report in client.follow(done.request_id):
                if not json_:
                    say(report_line(report), err)
            await _cases(client)
        if done.reports and not json_:
            say(audits_line(done, client.payer.gas_wei - gas), err)
    if done.doubtful and not json_:
        say("A provider on the path was at fault: do not rely on this text.", err)
    return spoken()


async def _cases(client: Client) -> None:
    """Stay until the cases are decided that an earlier run opened: without us they would be lost, and their bonds."""
    cases = client.audits.cases if client.audits is not None else None
    if cases is None:
        return
    if cases.found and not cases.done.is_set():
        listed = ", ".join(map(str, cases.found))
        say(f"Staying until what an earlier run took to the chain is decided: case {listed}.", err)
    await cases.done.wait()


async def _tell(completing: Completing, json_: bool, echo: str) -> None:
    begun = False  # the text, which stands on a line of its own
    async with completing:
        async for event in completing:
            if isinstance(event, Token | Finished) and not begun and not json_:
                write_text(sys.stdout, echo)
                begun = True
            _show(event, json_, "\n" if begun else "")


def _show(event: Event, json_: bool, lead: str) -> None:
    match event:
        case ChannelsPlanned():
            say(lead + planned_line(event.planned), err)
        case Token() | Finished() if not json_:
            write_text(sys.stdout, event.text if isinstance(event, Token) else event.rest)
        case HopReplaced() if not json_:
            say(f"{lead}{event.reason} Going on.", err)
        case SparesChanged() if not json_:
            say(lead + spares_line(event), err)
        case Waiting() if not json_:
            say(f"{lead}{event.reason} Waiting.", err)
