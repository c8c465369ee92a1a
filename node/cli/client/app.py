"""`hc-client`: run a model over the network and pay for it from a wallet."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from hypercluster.market.money.units import HCT, format_hct, format_price, parse_hct
from hypercluster.node.cli.client import trust as client_trust
from hypercluster.node.cli.console import (
    Json,
    err,
    fail,
    out,
    password,
    print_json,
)
from hypercluster.node.cli.opening import opened
from hypercluster.node.cli.options import Bootstrap
from hypercluster.node.cli.program import application, run
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.settings import Settings
from hypercluster.node.identity import short_peer

if TYPE_CHECKING:
    from hypercluster.market.economics.graph import Node
    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.economics.routing import Path as Route
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.auditing.inspection import Report
    from hypercluster.node.client.client import Client, Completion

T = TypeVar("T")

app = application(
    "Run a large language model over many small providers and pay each of them per token.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the wallet ([bold]fund[/] on a local testnet), "
    "[bold]generate[/]. All state is in HC_HOME (default ~/.hypercluster)."
)
Model = Annotated[
    Path | None,
    typer.Option(help="GGUF file, or folder with manifest.json and vocab.gguf. Default: the demo model."),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Weight of price against time: 0 takes the fastest path, 1 the cheapest."
    ),
]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to look for providers.")]


@app.command()
def init(json_: Json = False) -> None:
    """Make the session key and the wallet key of this client.

    Example: [bold]hc-client init[/]

    The wallet holds your HCT and is unlocked only to open or close channels. The session key signs the vouchers.
    """
    settings = Settings()
    secret = password(settings, new=True)
    session, wallet = keys.create_missing(settings.home, keys.CLIENT, secret)
    if json_:
        print_json({"home": str(settings.home), "session": session, "wallet": wallet})
        return
    out.print(f"Keys are in {settings.home / 'keys'}.\nsession  {session}\nwallet   {wallet}")
    out.print("\nNext: send HCT and some coin for gas to the wallet (on a local testnet: hc-client fund).")


@app.command()
def fund(
    hct: Annotated[str, typer.Option(help="HCT to get.")] = "100",
    json_: Json = False,
) -> None:
    """Get test money for the wallet on a local testnet; elsewhere, says where to send real one."""
    from hypercluster.node.testnet.faucet import give

    settings = Settings()
    chain = open_chain(settings)
    wallet = keys.address(settings.home, Key.WALLET)
    give(chain, wallet, parse_hct(hct))
    _show_balance(chain, wallet, json_)


@app.command()
def balance(json_: Json = False) -> None:
    """Show what the wallet holds."""
    settings = Settings()
    _show_balance(open_chain(settings), keys.address(settings.home, Key.WALLET), json_)


def _show_balance(chain: Any, wallet: str, json_: bool) -> None:
    wei, gas = chain.token.balance(wallet), chain.balance(wallet)
    if json_:
        print_json({"wallet": wallet, "hct_wei": wei, "gas_wei": gas})
    else:
        out.print(f"{wallet}\n{format_hct(wei)} HCT, {format_hct(gas)} coin for gas")


@app.command()
def peers(model: Model = None, bootstrap: Bootstrap = None, wait: Wait = 5.0, json_: Json = False) -> None:
    """List the providers of a model: layers, price, speed, free sessions, latency."""

    async def look(client: "Client") -> list["Node"]:
        import trio

        await trio.sleep(wait)
        return await client.nodes(full=True)

    nodes = _with_client(look, model=model, bootstrap=bootstrap)
    if json_:
        print_json([_node_json(node) for node in nodes])
        return
    table = Table("peer", "layers", "HCT per M tokens", "prompt", "ms a token", "latency ms", "free")
    for node in nodes:
        table.add_row(*_node_row(node), f"{node.free}/{node.capacity}")
    out.print(table)


@app.command()
def path(
    model: Model = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    wait: Wait = 10.0,
    json_: Json = False,
) -> None:
    """Show the path that would be taken, and by how much each rival lost.

    Example: [bold]hc-client path --alpha 1[/]
    """
    from hypercluster.market.economics.routing import rivals

    async def look(client: "Client") -> tuple["Route", list["Node"]]:
        route = await client.wait_for_path(wait)
        return route, await client.nodes()

    market = _market(alpha)
    route, nodes = _with_client(look, model=model, bootstrap=bootstrap, market=market)
    others = rivals(nodes, layers=route.nodes[-1].stop, market=market)
    if json_:
        print_json(
            {
                "weight": route.weight,
                "price_wei": route.price_wei,
                "ms": route.ms,
                "nodes": [_node_json(node) for node in route.nodes],
                "rivals": [
                    {**_node_json(each.node), "weight": each.weight, "excess": each.excess} for each in others
                ],
            }
        )
        return
    out.print(path_table(route, others, alpha))


def path_table(route: "Route", others: list[Any], alpha: float) -> Table:
    """The path and its rivals as a table."""
    total = f"{format_price(route.price_wei)} HCT per million tokens, {route.ms:.2f} ms a token"
    table = Table(
        "", "peer", "layers", "HCT per M tokens", "prompt", "ms a token", "latency ms", "path weight",
        title=f"alpha {alpha:g}: weight {route.weight:.4f}, {total}", title_justify="left",
    )  # fmt: skip
    for node in route.nodes:
        table.add_row("taken", *_node_row(node), f"{route.weight:.4f}")
    for each in others:
        table.add_row("not", *_node_row(each.node), f"{each.weight:.4f} (+{each.excess:.4f})", style="dim")
    return table


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Tokens to generate at most.")] = 64,
    max_cost: Annotated[str | None, typer.Option(help="HCT to spend at most.")] = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    alpha: Alpha = 0.5,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Sample among the k best; 0 is all received.")] = 40,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Sample within this mass.")] = 0.95,
    min_p: Annotated[float, typer.Option(min=0, max=1, help="Drop what is this much less likely.")] = 0.05,
    seed: Annotated[int | None, typer.Option(help="Fixes the draws.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Activations on the wire: f32, or f16 for half the bytes.")
    ] = "f32",
    deposit: Annotated[str, typer.Option(help="HCT to put at least into a channel that is opened.")] = "0.01",
    spread: Annotated[
        bool, typer.Option("--spread", help="Draw the path by weight instead of taking the lightest.")
    ] = False,
    audit_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the stages that are looked over after the completion."),
    ] = 0.05,
    auditor: Annotated[
        str,
        typer.Option(
            help="Who looks: verifier (staked, paid per token; so does auto), provider (another one of the same "
            "layers), or own (your own shard of the layers)."
        ),
    ] = "auto",
    trap_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the audits in which the verifier is tested as well.")
    ] = 0.1,
    dispute: Annotated[
        bool,
        typer.Option(
            "--dispute", help="Take faults to the chain: the wallet puts down a bond until it is decided."
        ),
    ] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Take the prompt as a turn of a chat.")] = False,
    wait: Wait = 30.0,
    json_: Json = False,
) -> None:
    """Continue a text over the network, token by token, paying every hop for every token.

    Example: [bold]hc-client generate "ROMEO:" -n 64 --max-cost 0.001[/]
    """
    from hypercluster.node.client.auditing.assembly import AUDITORS, Auditing
    from hypercluster.node.client.auditing.inspection import Policy
    from hypercluster.node.client.client import Limits
    from hypercluster.node.engine.chat import Message
    from hypercluster.node.engine.sampler import Sampler

    if auditor not in AUDITORS:
        fail(f"--auditor is {auditor!r}; it is one of {', '.join(AUDITORS)}.")
    policy = Policy(rate=audit_rate, traps=trap_rate, disputes=dispute)
    auditing = Auditing(policy=policy, auditor=auditor) if audit_rate else None
    market = _market(alpha)

    def reported(report: "Report") -> None:
        if not json_:
            err.print(report_line(report))

    limits = Limits(tokens=tokens, cost_wei=parse_hct(max_cost) if max_cost else None)

    async def work(client: "Client") -> "Completion":
        await client.wait_for_path(wait)
        tokenizer = client.tokenizer
        ids = tokenizer.encode_chat([Message("user", prompt)]) if chat else tokenizer.encode(prompt)
        if not ids:
            fail("the prompt has no tokens.")
        with Sampler(tokenizer.n_vocab, temperature, top_k, top_p, min_p, seed) as sampler:

            def show(text: str) -> None:
                if not json_:
                    out.print(text, end="", markup=False, soft_wrap=True)

            if not chat:
                show(prompt)
            return await client.generate(
                ids, sampler=sampler, limits=limits, on_text=show, on_report=reported
            )

    completion = _with_client(
        work,
        model=model,
        bootstrap=bootstrap,
        market=market,
        dtype=dtype,
        deposit=parse_hct(deposit),
        paying=True,
        spread=spread,
        auditing=auditing,
    )
    if json_:
        print_json(completion_json(completion))
        return
    out.print()
    err.print(
        f"\n{len(completion.tokens)} tokens, {format_hct(completion.spent_wei)} HCT over "
        f"{len(completion.bills)} providers ({completion.finish})"
    )
    if completion.doubtful:
        err.print("[bold red]A provider on the path was at fault: do not rely on this text.[/]")


def report_line(report: "Report") -> str:
    """One audit in one line."""
    colour = {"pass": "green", "grey": "yellow", "fail": "bold red"}.get(report.finding, "yellow")
    ruling = report.ruling
    slashed = f"; {ruling.outcome}, {format_hct(ruling.slashed_wei)} HCT slashed" if ruling else ""
    return (
        f"\n[{colour}]audit: {report.finding}[/] {short_peer(report.peer)} layers "
        f"{report.layer_start}:{report.layer_stop}, {report.tokens} tokens, {escape(report.note)}{slashed}"
    )


def report_json(report: "Report") -> dict[str, Any]:
    """One audit for programs."""
    ruling = report.ruling
    return {
        "peer": report.peer,
        "layers": [report.layer_start, report.layer_stop],
        "tokens": report.tokens,
        "finding": report.finding,
        "fault": report.fault or None,
        "auditor": report.auditor or None,
        "cost_wei": report.cost_wei,
        "note": report.note,
        "case": ruling.case_id if ruling else None,
        "outcome": ruling.outcome if ruling else None,
        "slashed_wei": ruling.slashed_wei if ruling else 0,
    }


def completion_json(completion: "Completion") -> dict[str, Any]:
    """A completion for programs."""
    return {
        "text": completion.text,
        "tokens": completion.tokens,
        "prompt_tokens": len(completion.prompt),
        "finish_reason": completion.finish,
        "path": [
            {
                "peer": bill.peer,
                "layers": [bill.layer_start, bill.layer_stop],
                "price_wei": bill.price_wei,
                "prompt_price_wei": bill.prompt_price_wei,
                "tokens": bill.tokens,
                "paid_wei": bill.paid_wei,
            }
            for bill in completion.bills
        ],
        "failed": completion.failures,
        "spent_wei": completion.spent_wei,
        "risked_wei": completion.risked_wei,
        "audits": [report_json(report) for report in completion.reports],
        "audit_wei": completion.audit_wei,
        "doubtful": completion.doubtful,
    }


@app.command()
def channels(json_: Json = False) -> None:
    """List the channels of this client: deposit, spent, claimed by the provider, state."""
    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        rows = ledger.payer.channels(chain.channels.domain)
    data: list[dict[str, Any]] = []
    for row in rows:
        state = chain.channels.state(row.channel_id)
        word = "never opened" if not state.exists else "ended" if state.closed else "open"
        data.append(
            {
                "channel": "0x" + row.channel_id.hex(),
                "payee": row.payee,
                "deposit_wei": state.deposit,
                "signed_wei": row.signed,
                "spent_wei": row.spent,
                "settled_wei": state.settled,
                "close_at": state.close_at,
                "state": "closing" if state.open and state.close_at else word,
            }
        )
    if json_:
        print_json(data)
        return
    table = Table("channel", "payee", *(f"{name} HCT" for name in ("deposit", "spent", "settled")), "state")
    for each in data:
        amounts = (format_hct(each[f"{name}_wei"]) for name in ("deposit", "spent", "settled"))
        table.add_row(each["channel"][:10], each["payee"], *amounts, each["state"])
    out.print(table)


@app.command()
def close(
    channel: Annotated[
        str | None, typer.Argument(help="Channel, or the first digits of one; all if left out.")
    ] = None,
    json_: Json = False,
) -> None:
    """Get the rest of channels back: ask to close, and on a later call withdraw what the grace period released.

    Example: [bold]hc-client close 0x4f1a[/]
    """
    import time

    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    wallet = Sender(chain, keys.unlock(settings.home, Key.WALLET, password(settings)))
    done: list[dict[str, Any]] = []
    with open_ledger(settings) as ledger:
        rows = [
            row
            for row in ledger.payer.channels(chain.channels.domain, ended=False)
            if ("0x" + row.channel_id.hex()).startswith(channel or "0x")
        ]
        if channel and not rows:
            fail(f"no open channel begins with {channel}; hc-client channels lists them.")
        # An idle chain's latest block is old; the next one will have the time of the clock.
        now = max(chain.timestamp(), int(time.time()))
        for row in rows:
            state = chain.channels.state(row.channel_id)
            action = "nothing to do"
            if state.open and not state.close_at:
                chain.channels.request_close(wallet, row.descriptor)
                action = "asked to close"
            elif state.open and state.close_at <= now:
                chain.channels.withdraw(wallet, row.descriptor)
                action = "withdrawn"
            elif state.open:
                action = f"closes in {state.close_at - now} s"
            state = chain.channels.state(row.channel_id)
            ledger.payer.note(
                row.channel_id, settled=state.settled, close_at=state.close_at, ended=state.closed or None
            )
            done.append(
                {"channel": "0x" + row.channel_id.hex(), "action": action, "close_at": state.close_at}
            )
    if json_:
        print_json(done)
        return
    for each in done:
        out.print(f"{each['channel'][:10]}  {each['action']}")


def _market(alpha: float) -> "MarketParameters":
    from hypercluster.market.economics.parameters import MarketParameters

    return MarketParameters(alpha=alpha)


def _with_client(
    work: Callable[["Client"], Awaitable[T]],
    *,
    model: Path | None,
    bootstrap: list[str] | None,
    market: "MarketParameters | None" = None,
    dtype: str = "f32",
    deposit: int = HCT // 100,
    paying: bool = False,
    spread: bool = False,
    auditing: "Auditing | None" = None,
) -> T:
    """Run `work` with a client that has joined the network; only one that pays needs keys."""
    import trio

    from hypercluster.node.client.joining import joined
    from hypercluster.node.client.purse import empty_purse, purse_of
    from hypercluster.node.network.addresses import through
    from hypercluster.node.rows import WireDtype

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    chain = open_chain(settings)
    stored = opened(model, settings.home)
    purse = empty_purse()
    if paying:
        purse = purse_of(settings.home, chain, password(settings))

    async def main() -> T:
        wire_dtype = WireDtype.named(dtype)
        async with joined(
            settings,
            chain,
            stored,
            purse,
            market=market,
            wire_dtype=wire_dtype,
            deposit=deposit,
            spread=spread,
            auditing=auditing,
        ) as client:
            return await work(client)

    return trio.run(main)


def _node_json(node: "Node") -> dict[str, Any]:
    return {
        "peer": node.id,
        "layers": [node.start, node.stop],
        "price_wei": node.price_wei,
        "prompt_price_wei": node.prompt_price_wei,
        "cost_ms": node.cost_ms,
        "latency_ms": node.latency_ms,
        "capacity": node.capacity,
        "free": node.free,
    }


def _node_row(node: "Node") -> list[str]:
    return [
        short_peer(node.id),
        f"{node.start}:{node.stop}",
        format_price(node.price_wei),
        format_price(node.prompt_price_wei),
        f"{node.cost_ms:.2f}",
        f"{node.latency_ms:.2f}",
    ]


client_trust.register(app)


def main() -> None:
    """Entry point of `hc-client`."""
    run(app, "hc-client")


if __name__ == "__main__":
    main()
