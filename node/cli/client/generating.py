"""`hc-client generate`: one text, continued over the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.market.money.units import HCT
from hypercluster.node.cli.client.options import (
    Alpha,
    Auditor,
    AuditRate,
    Deposit,
    Dispute,
    Draft,
    DraftModel,
    Dtype,
    InFlight,
    Local,
    MaxCost,
    MinP,
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
from hypercluster.node.cli.client.prompts import read_prompt
from hypercluster.node.cli.console import Json
from hypercluster.node.cli.opening import Model
from hypercluster.node.cli.options import Bootstrap, literal

if TYPE_CHECKING:
    from hypercluster.node.cli.client.speaking import Spoken
    from hypercluster.node.client.client import Client
    from hypercluster.node.engine.chat import Message


def generate(
    prompt: Annotated[
        str | None, literal("Text to continue; - reads it from standard input.", argument=True)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="File that holds the text to continue.")] = None,
    tokens: Tokens = 64,
    max_cost: MaxCost = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    temperature: Temperature = 0.0,
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
    operator_hops: OperatorHops = None,
    operator_requests: OperatorRequests = None,
    trials: Trials = None,
    audit_rate: AuditRate = 0.05,
    auditor: Auditor = "auto",
    trap_rate: TrapRate = 0.1,
    trust: Trust = None,
    dispute: Dispute = False,
    chat: Annotated[bool, typer.Option("--chat", help="Take the prompt as a turn of a chat.")] = False,
    system: System = None,
    wait: Wait = 30.0,
    json_: Json = False,
) -> None:
    """Continue a text over the network, token by token, paying every hop for every token.

    Example: [bold]hc-client generate "ROMEO:" -n 64 --max-cost 0.001[/]

    Example: [bold]cat letter.txt | hc-client generate - --stop "Yours"[/]

    Before the wallet opens channels it says so. However it ends, also with Ctrl-C, what came and what it cost is
    shown and audits follow as asked; Ctrl-C once more ends at once.
    """
    from hypercluster.node.cli.client.asking import Asked, auditing_of, drafts_of, shares_of, wishes_of
    from hypercluster.node.cli.client.joining import with_client

    asked = Asked(tokens, max_cost, wait, temperature, top_k, top_p, min_p, seed, tuple(stop or ()))
    text = read_prompt(prompt, file)
    chat = chat or system is not None
    request = asked.request(text)

    async def work(client: Client) -> Spoken:
        from hypercluster.node.cli.client.speaking import speak
        from hypercluster.node.engine.chat import Message

        if not chat:
            return await speak(client, request, json_=json_, echo=text)
        turns: list[Message] = [Message("system", system)] if system else []
        return await speak(client, asked.request((*turns, Message("user", text))), json_=json_)

    spoken = with_client(
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
            in_flight=in_flight,
            spare=spare,
        ),
        auditing=auditing_of(audit_rate, auditor, trap_rate, dispute, trust),
        draft_model=draft_model,
        local=local,
        program="hc-client generate",
    )
    spoken.end(json_)
