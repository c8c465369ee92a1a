"""`hc-client chat`: turns with a model, from the terminal or one a line from a pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from hypercluster.market.money.units import HCT
from hypercluster.node.cli.client.options import (
    Alpha,
    Auditor,
    AuditRate,
    Deposit,
    Draft,
    DraftModel,
    Dtype,
    InFlight,
    Local,
    MaxCost,
    MinP,
    NoStay,
    OperatorHops,
    OperatorRequests,
    Seed,
    Spare,
    Spread,
    Stop,
    System,
    Temperature,
    Tokens,
    TopK,
    TopP,
    TrapRate,
    Trials,
    Trust,
    Wait,
)
from hypercluster.node.cli.console import Json, fail, print_json, write_text
from hypercluster.node.cli.ending import INTERRUPTED
from hypercluster.node.cli.opening import Model
from hypercluster.node.cli.options import Bootstrap

if TYPE_CHECKING:
    from hypercluster.node.cli.client.speaking import Spoken
    from hypercluster.node.client.client import Client
    from hypercluster.node.engine.chat import Message


def chat(
    tokens: Tokens = 256,
    max_cost: MaxCost = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    temperature: Temperature = 0.8,
    top_k: TopK = 40,
    top_p: TopP = 0.95,
    min_p: MinP = 0.05,
    seed: Seed = None,
    stop: Stop = None,
    dtype: Dtype = "f32",
    draft: Draft = None,
    draft_model: DraftModel = None,
    in_flight: InFlight = None,
    spare: Spare = False,
    local: Local = None,
    deposit: Deposit = HCT // 100,
    spread: Spread = False,
    no_stay: NoStay = False,
    operator_hops: OperatorHops = None,
    operator_requests: OperatorRequests = None,
    trials: Trials = None,
    audit_rate: AuditRate = 0.05,
    auditor: Auditor = "auto",
    trap_rate: TrapRate = 0.1,
    trust: Trust = None,
    system: System = None,
    wait: Wait = 30.0,
    json_: Json = False,
) -> None:
    """Talk with a model over the network: each line is a turn, and the end of the input ends the chat.

    Example: [bold]hc-client chat --system "Answer in one sentence."[/]

    The limits hold for each answer. All turns so far are the prompt of the next one, and are paid as that. Ctrl-C ends
    an answer; between answers it ends the chat.
    """
    from hypercluster.node.cli.client.asking import Asked, auditing_of, drafts_of, shares_of, wishes_of
    from hypercluster.node.cli.client.joining import with_client

    asked = Asked(tokens, max_cost, wait, temperature, top_k, top_p, min_p, seed, tuple(stop or ()))
    asked.request("checks the options before anything is joined")
    spoken: list[Spoken] = []

    def document(*more: Spoken) -> dict[str, Any]:
        return {"turns": [each.document() for each in (*spoken, *more)]}

    def interrupted() -> None:
        if json_:
            print_json(document() | {"error": "interrupted."})
        sys.stdout.flush()

    async def work(client: Client) -> None:
        from hypercluster.node.cli.client.interrupts import interrupts
        from hypercluster.node.cli.client.speaking import speak
        from hypercluster.node.engine.chat import Message

        lines = _Lines()
        turns: list[Message] = [Message("system", system)] if system else []
        async with interrupts(interrupted) as stop:
            while True:
                line = b""
                if not stop.seen:
                    with stop.guard():
                        line = await lines.read()
                if stop.seen:
                    interrupted()
                    raise typer.Exit(INTERRUPTED)
                if not line:
                    return
                try:
                    said = line.decode().removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError:
                    fail("the input is not UTF-8 text.", document())
                if not said.strip():
                    continue
                turns.append(Message("user", said))
                request = asked.request(tuple(turns))
                spoken.append(await speak(client, request, json_=json_, document=document))
                done = spoken[-1].completion
                if done.error is not None or (spoken[-1].interrupted and not sys.stdin.isatty()):
                    return
                turns.append(Message("assistant", done.text))

    with_client(
        work,
        model=model,
        bootstrap=bootstrap,
        wishes=wishes_of(
            alpha,
            spread,
            dtype,
            drafts_of(draft, draft_model, in_flight),
            deposit,
            shares_of(operator_hops, operator_requests, trials),
            stays=not no_stay,
            in_flight=in_flight,
            spare=spare,
        ),
        auditing=auditing_of(audit_rate, auditor, trap_rate, False, trust),
        draft_model=draft_model,
        local=local,
        program="hc-client chat",
    )
    if not spoken:
        fail("nothing was said: each line of the input is a turn.")
    spoken[-1].end(json_, document())


class _Lines:
    """Lines of standard input.

    Whoever is cancelled leaves the thread that reads behind, so it holds none of the locks of Python's own streams,
    which the end of the process needs.
    """

    def __init__(self) -> None:
        from hypercluster.node.threads import Threads

        self._threads = Threads(1, abandon=True)
        self._rest = b""

    async def read(self) -> bytes:
        """The next line, its end included; nothing at the end of the input."""
        if sys.stdin.isatty():
            write_text(sys.stderr, "> ")
        while b"\n" not in self._rest:
            piece = await self._threads(os.read, sys.stdin.fileno(), 1 << 16)
            if not piece:
                if sys.stdin.isatty():
                    write_text(sys.stderr, "\n")
                last, self._rest = self._rest, b""
                return last
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"
