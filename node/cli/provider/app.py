"""`hc-provider`: stake, serve layers, and collect what clients pay."""

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from hypercluster.market.money.units import format_hct, format_price, parse_hct, parse_price
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
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.staking import (
    StakeOption,
    default_threads,
    make_keys,
    node_held,
    register_node,
)
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.lock import Hold, holder
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.settings import RUNNING, TRANSCRIPTS, Settings

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.chain import Chain
    from hypercluster.market.economics.placement import Machine, ModelSize, Placement
    from hypercluster.market.ledger import IncomingChannel
    from hypercluster.node.shards.store import StoredModel

app = application(
    "Serve a few layers of a large language model and be paid for every token.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the operator account, [bold]register[/], "
    "[bold]run[/]. All state is in HC_HOME (default ~/.hypercluster)."
)
Memory = Annotated[
    float | None,
    typer.Option(min=0, help="GiB for weights, with --layers auto. Default: 60 % of what is free."),
]


@app.command()
def init(json_: Json = False) -> None:
    """Make the node key and the operator key of this provider.

    Example: [bold]HC_HOME=~/.hypercluster/p1 hc-provider init[/]

    The node key is hot: it names your node on the network and unlocks when it runs. The operator key holds your
    stake and receives your money; keep a copy of its file and of the password in a safe place.
    """
    make_keys(keys.PROVIDER, "hc-provider", json_)


@app.command()
def register(stake: StakeOption = None, json_: Json = False) -> None:
    """Stake and authorise the node key, in three transactions of the operator.

    Example: [bold]hc-provider register --stake 1000[/]

    The third sends the node key a little coin, with which it pays the gas of its claims.
    """
    register_node(stake, "may serve. Next: hc-provider run.", json_)


@app.command("run")
def run_(
    layers: Annotated[
        str,
        typer.Option(
            help="Layers to serve as a half-open range, 0:3 is 0, 1 and 2; or auto: what earns most."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="GGUF file, or folder of shards from `hc-model split`. Default: the demo model."),
    ] = None,
    price: Annotated[
        str,
        typer.Option(
            help="HCT per million tokens. With --price-rule gradient this is where the price starts.",
        ),
    ] = "1",
    prompt_price: Annotated[
        str | None, typer.Option(help="HCT per million prompt tokens. Default: a quarter of the price.")
    ] = None,
    price_rule: Annotated[
        str, typer.Option(help="fixed, or gradient: climb the expected revenue against the adverts seen.")
    ] = "gradient",
    floor: Annotated[str, typer.Option(help="Lowest price, HCT per million: your own cost.")] = "0",
    listen: Annotated[
        list[str] | None, typer.Option(help="Multiaddr to listen on; may be given several times.")
    ] = None,
    direct: Annotated[
        str | None, typer.Option(help="Multiaddr of the fast TCP listener for steps; 'off' for none.")
    ] = None,
    announce: Annotated[list[str] | None, typer.Option(help="Multiaddr to tell others instead.")] = None,
    announce_direct: Annotated[
        str | None, typer.Option(help="Multiaddr of the fast listener to tell others instead.")
    ] = None,
    bootstrap: Bootstrap = None,
    sessions: Annotated[int, typer.Option(min=1, max=256, help="Sessions served at once.")] = 4,
    session_tokens: Annotated[int, typer.Option(min=16, help="Longest session in tokens.")] = 2048,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Threads that compute. Default: half of the processors."),
    ] = None,
    memory: Memory = None,
    claim_every: Annotated[
        float, typer.Option(min=0.2, help="Seconds between looks at what to claim.")
    ] = 60.0,
    claim_multiple: Annotated[
        int, typer.Option(min=0, help="Claim what is worth this many times its gas; 0 claims everything.")
    ] = 10,
    hct_per_coin: Annotated[
        int, typer.Option(min=0, help="What one coin of the chain is worth in HCT.")
    ] = 1000,
    refresh: Annotated[float, typer.Option(min=0.5, help="Seconds between adverts.")] = 20.0,
    price_every: Annotated[float, typer.Option(min=0.5, help="Seconds between price updates.")] = 30.0,
    keep_transcripts: Annotated[
        float | None,
        typer.Option(
            min=0, help="GiB for what receipts commit to; when it is full no session opens. Default: 4."
        ),
    ] = None,
    kv_type: Annotated[
        str, typer.Option(help="Type of the cache: f16, f32, bf16, or q8_0 with --flash-attention.")
    ] = "f16",
    flash_attention: Annotated[
        bool, typer.Option("--flash-attention", help="Faster on long contexts; audits then allow more.")
    ] = False,
    throttle: Annotated[
        float,
        typer.Option(
            min=0, max=1000, help="Rest this many ms before each step, to leave the machine to others."
        ),
    ] = 0.0,
) -> None:
    """Serve layers of a model until Ctrl-C.

    Example: [bold]hc-provider run --layers 0:8 --model llama.gguf --price 2.5 --listen /ip4/0.0.0.0/tcp/4001[/]

    Finds clients and rivals through the nodes named by --bootstrap; the first node of a network has none. What
    clients paid is kept in the ledger before each answer and claimed when it is worth its gas.
    """
    import trio

    from hypercluster.market.chain import Sender
    from hypercluster.node.engine.profile import Backend, KvType
    from hypercluster.node.evidence.transcript import TranscriptStore
    from hypercluster.node.network.reach import reach_of
    from hypercluster.node.provider.prices import PriceRule
    from hypercluster.node.provider.process import Moving, Provider, Terms, Wallets
    from hypercluster.node.shards import parse_range

    settings = Settings()
    reach = reach_of(
        node=keys.address(settings.home, Key.NODE),
        listen=listen,
        direct=direct,
        announce=announce,
        direct_announce=announce_direct,
        bootstrap=bootstrap,
        setting=settings.bootstrap,
    )
    settings = settings.model_copy(update={"bootstrap": reach.bootstrap})
    with node_held(settings.home, "hc-provider run"):
        chain = open_chain(settings)
        node = keys.unlock(settings.home, Key.NODE, password(settings))
        operator = keys.address(settings.home, Key.OPERATOR)
        if price_rule not in ("fixed", "gradient"):
            fail(f"--price-rule is {price_rule!r}; it is fixed or gradient.")
        stored = opened(model, settings.home)
        threads = threads or default_threads()
        move = None
        if layers == "auto":
            machine, size, ranked = _prospects(settings, chain, stored, threads, memory, wait=5.0)
            start, stop = ranked[0].start, ranked[0].stop
            move = Moving(machine=machine, model=size)
        else:
            start, stop = parse_range(layers, stored.manifest.layers)
        asked = parse_price(price)
        terms = Terms(
            start=start,
            stop=stop,
            price=PriceRule(
                start_wei=asked,
                start_prompt_wei=parse_price(prompt_price) if prompt_price else asked // 4,
                adapt=price_rule == "gradient",
                floor_wei=parse_price(floor),
            ),
            listen=reach.listen,
            direct=reach.direct,
            announce=reach.announce,
            direct_announce=reach.direct_announce,
            bootstrap=reach.bootstrap,
            sessions=sessions,
            session_tokens=session_tokens,
            threads=threads,
            refresh_seconds=refresh,
            claim_seconds=claim_every,
            claim_multiple=claim_multiple,
            hct_per_native=hct_per_coin,
            price_seconds=price_every,
            throttle_ms=throttle,
            backend=Backend(flash_attention, cast(KvType, kv_type)),
            move=move,
            mdns=settings.mdns,
        )
        marker = settings.home / RUNNING

        def ready(advert: "Advert") -> None:
            addresses = [f"{address}/p2p/{advert.peer}" for address in advert.addrs]
            served = [advert.layer_start, advert.layer_stop]
            state = {"pid": os.getpid(), "peer": advert.peer, "addresses": addresses, "layers": served}
            partial = marker.with_suffix(".part")
            partial.write_text(
                json.dumps({**state, "since": datetime.now(UTC).isoformat(timespec="seconds")})
            )
            partial.replace(marker)
            out.print(f"Serving layers {served[0]}:{served[1]} of model {stored.manifest.model_id[:16]}")
            out.print(f"peer {advert.peer}")
            price_text = f"{format_price(advert.price_wei)} HCT per million tokens"
            out.print(f"price {price_text}, {advert.cost_ms:.2f} ms a token; others join through")
            for address in addresses:
                out.print(f"  {address}", soft_wrap=True)

        wallets = Wallets(node_key=bytes(node.key), operator=operator, sender=Sender(chain, node))
        transcripts = TranscriptStore(
            settings.home / TRANSCRIPTS / "provider",
            keep_seconds=chain.disputes.keep_seconds,
            max_bytes=int((4 if keep_transcripts is None else keep_transcripts) * 2**30),
        )
        with open_ledger(settings) as ledger:
            better: tuple[int, int] | None = (start, stop)
            while better:
                terms = replace(terms, start=better[0], stop=better[1])
                with bar("Preparing the shard") as progress:
                    shard = stored.shard(terms.start, terms.stop, progress)
                provider = Provider(
                    terms=terms,
                    manifest=stored.manifest,
                    shard=shard,
                    wallets=wallets,
                    chain=chain,
                    ledger=ledger,
                    transcripts=transcripts,
                )
                try:
                    better = trio.run(provider.run, ready)
                finally:
                    marker.unlink(missing_ok=True)


@app.command()
def advise(
    model: Annotated[
        Path | None, typer.Option(help="The whole model as a GGUF file. Default: the demo model.")
    ] = None,
    bootstrap: Bootstrap = None,
    memory: Memory = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that compute.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to look for others.")] = 5.0,
    top: Annotated[int, typer.Option(min=1, help="Ranges to show.")] = 10,
    json_: Json = False,
) -> None:
    """Say which layers this machine should serve: the ranges that fit it, by what they would earn.

    Example: [bold]hc-provider advise --model llama.gguf --memory 12[/]

    Times a layer on this machine, looks at what others offer, and takes for each range the price that earns most
    there. While no path through the model exists, ranges that nobody serves come first.
    """
    from hypercluster.node.network.addresses import through

    settings = Settings()
    settings = settings.model_copy(update={"bootstrap": through(bootstrap, settings.bootstrap)})
    chain = open_chain(settings)
    stored = opened(model, settings.home)
    machine, _, ranked = _prospects(settings, chain, stored, threads or default_threads(), memory, wait=wait)
    if json_:
        print_json({"machine": asdict(machine), "ranges": [asdict(place) for place in ranked[:top]]})
        return
    out.print(
        f"this machine: {machine.memory_bytes / 2**30:.1f} GiB for weights, "
        f"{machine.layer_ms:.3f} ms a token and layer"
    )
    table = Table("layers", "best price HCT/M", "ms a token", "chance", "revenue HCT/M", "unserved layers")
    for place in ranked[:top]:
        table.add_row(
            f"{place.start}:{place.stop}",
            format_price(place.price_wei),
            f"{place.cost_ms:.2f}",
            f"{place.marginal:.1%}",
            format_price(round(place.revenue_wei)),
            str(place.unserved),
        )
    out.print(table)


def _prospects(
    settings: Settings,
    chain: "Chain",
    stored: "StoredModel",
    threads: int,
    memory: float | None,
    *,
    wait: float,
) -> tuple["Machine", "ModelSize", list["Placement"]]:
    """This machine, the model, and the ranges it could serve among what others offer now, the best first."""
    import trio

    from hypercluster.market.economics.parameters import MarketParameters
    from hypercluster.market.economics.placement import placements
    from hypercluster.node.client.joining import look
    from hypercluster.node.provider.placing import free_memory, measure_machine, model_size

    if stored.source is None:
        fail("to choose among all layers the whole model is needed: give --model a GGUF file.")
    with err.status("Timing a layer on this machine"):
        room = int(memory * 2**30) if memory else free_memory()
        machine = measure_machine(stored, memory_bytes=room, threads=threads)
    with err.status("Looking at what others offer"):
        others = trio.run(look, settings, chain, stored, wait)
    size = model_size(stored.source)
    return machine, size, placements(machine, size, others, market=MarketParameters())


@app.command()
def prices(
    limit: Annotated[int, typer.Option(min=1, help="Updates to show.")] = 20,
    json_: Json = False,
) -> None:
    """Show how the price moved, and why: what each update saw and the step it took."""
    settings = Settings()
    with open_ledger(settings) as ledger:
        rows = ledger.history.prices(limit=limit)
    data = [
        {
            "at": row.taken.isoformat(timespec="seconds"),
            "model_id": row.model_id,
            "layers": [row.layer_start, row.layer_stop],
            "price_wei": row.price_before,
            "next_price_wei": row.price_after,
            "gradient": row.gradient,
            "probability": row.probability,
            **row.inputs,
        }
        for row in rows
    ]
    if json_:
        print_json(data)
        return
    table = Table("at (UTC)", "layers", "HCT/M", "->", "chance", "gradient", "rivals", "best response")
    for each in data:
        table.add_row(
            each["at"][:19],
            f"{each['layers'][0]}:{each['layers'][1]}",
            format_price(each["price_wei"]),
            format_price(each["next_price_wei"]),
            f"{each['probability']:.1%}",
            f"{each['gradient']:+.4f}",
            str(each["rivals"]),
            format_price(each["best_response_wei"]),
        )
    out.print(table)


@app.command()
def status(json_: Json = False) -> None:
    """Show stake, authorisation, whether the node runs, and what is unclaimed."""
    settings = Settings()
    chain = open_chain(settings)
    operator, node = (keys.address(settings.home, key) for key in (Key.OPERATOR, Key.NODE))
    stake = chain.staking.stake_of(operator)
    with open_ledger(settings) as ledger:
        unclaimed = sum(row.unclaimed for row in ledger.payee.channels(chain.channels.domain))
    data: dict[str, Any] = {
        "operator": operator,
        "node": node,
        "running": _running(settings.home),
        "eligible": chain.staking.operator_of(node) == operator and chain.staking.is_eligible(node),
        "active_wei": stake.active,
        "thawing_wei": stake.thawing,
        "thaw_end": stake.thaw_end,
        "balance_wei": chain.token.balance(operator),
        "unclaimed_wei": unclaimed,
        "node_gas_wei": chain.balance(node),
    }
    if json_:
        print_json(data)
        return
    table = Table(show_header=False, box=None)
    running = data["running"]
    table.add_row("running", f"yes, pid {running['pid']}, peer {running['peer']}" if running else "no")
    table.add_row("may serve", "yes" if data["eligible"] else "no: run hc-provider register")
    table.add_row("operator", operator)
    table.add_row("node", node)
    for name in ("active", "thawing", "balance", "unclaimed"):
        table.add_row(name, f"{format_hct(data[f'{name}_wei'])} HCT")
    if stake.thaw_end:
        table.add_row("thaws", datetime.fromtimestamp(stake.thaw_end, UTC).isoformat())
    out.print(table)


@app.command()
def earnings(json_: Json = False) -> None:
    """Show what each channel paid: earned by vouchers, claimed on chain, still to claim."""
    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        rows = ledger.payee.channels(chain.channels.domain)
    data = [_earning(row) for row in rows]
    if json_:
        print_json(data)
        return
    table = Table(
        "channel", "payer", *(f"{name} HCT" for name in ("earned", "claimed", "unclaimed")), "state"
    )
    for each in data:
        amounts = (format_hct(each[f"{name}_wei"]) for name in ("earned", "claimed", "unclaimed"))
        table.add_row(each["channel"][:10], each["payer"], *amounts, each["state"])
    out.print(table)
    out.print(f"earned {format_hct(sum(each['earned_wei'] for each in data))} HCT in {len(data)} channels")


@app.command()
def claim(json_: Json = False) -> None:
    """Send every voucher to the chain now, worth its gas or not; a running node does it by itself in time."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        rows = [row for row in ledger.payee.channels(chain.channels.domain, ended=False) if row.unclaimed]
        before = sum(chain.channels.state(row.channel_id).settled for row in rows)
        if rows:
            sender = Sender(chain, keys.unlock(settings.home, Key.NODE, password(settings)))
            claims = [(row.descriptor, row.best, row.signature) for row in rows]
            chain.channels.settle_batch(sender, rows[0].payee, claims)
        states = {row.channel_id: chain.channels.state(row.channel_id) for row in rows}
        for channel_id, state in states.items():
            ledger.payee.note(channel_id, settled=state.settled, close_at=state.close_at, ended=state.closed)
    received = sum(state.settled for state in states.values()) - before
    if json_:
        print_json({"claimed_wei": received, "channels": len(rows)})
    else:
        out.print(f"claimed {format_hct(received)} HCT from {len(rows)} channels")


@app.command()
def unstake(
    amount: Annotated[str, typer.Argument(help="HCT to take out of the stake, or 'all'.")],
    json_: Json = False,
) -> None:
    """Begin to take stake out; it thaws for the unbonding time, can still be slashed, and is withdrawn then."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    operator = Sender(chain, keys.unlock(settings.home, Key.OPERATOR, password(settings)))
    wei = chain.staking.stake_of(operator.address).active if amount == "all" else parse_hct(amount)
    chain.staking.unstake(operator, wei)
    _show_stake(chain, operator.address, json_)


@app.command()
def revoke(json_: Json = False) -> None:
    """Stop answering for the node key of this home: it serves no more. What it signed before still counts."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    node = keys.address(settings.home, Key.NODE)
    operator = Sender(chain, keys.unlock(settings.home, Key.OPERATOR, password(settings)))
    chain.staking.revoke(operator, node)
    if json_:
        print_json({"node": node, "operator": operator.address, "revoked": True})
    else:
        out.print(f"{operator.address} answers for {node} no more; hc-provider register undoes it.")


@app.command()
def withdraw(json_: Json = False) -> None:
    """Take thawed stake back to the operator account."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    operator = Sender(chain, keys.unlock(settings.home, Key.OPERATOR, password(settings)))
    chain.staking.withdraw(operator)
    _show_stake(chain, operator.address, json_)


def _show_stake(chain: "Chain", operator: str, json_: bool) -> None:
    stake = chain.staking.stake_of(operator)
    if json_:
        print_json({"active_wei": stake.active, "thawing_wei": stake.thawing, "thaw_end": stake.thaw_end})
        return
    out.print(f"{format_hct(stake.active)} HCT at stake, {format_hct(stake.thawing)} HCT thawing")
    if stake.thawing:
        out.print(f"withdraw it from {datetime.fromtimestamp(stake.thaw_end, UTC).isoformat()} on")


def _earning(row: "IncomingChannel") -> dict[str, Any]:
    return {
        "channel": "0x" + row.channel_id.hex(),
        "payer": row.payer,
        "earned_wei": row.best,
        "claimed_wei": row.settled,
        "unclaimed_wei": row.unclaimed,
        "deposit_wei": row.deposit,
        "state": "ended" if row.ended else "closing" if row.close_at else "open",
    }


def _running(home: Path) -> dict[str, Any] | None:
    """What a running node of this home wrote, or None; a file that a killed process left behind is ignored."""
    try:
        state: dict[str, Any] = json.loads((home / RUNNING).read_text())
    except (OSError, ValueError):
        return None
    now = holder(home, Hold.NODE)
    return state if now and now.pid == state.get("pid") else None


def main() -> None:
    """Entry point of `hc-provider`."""
    run(app, "hc-provider")


if __name__ == "__main__":
    main()
