"""`hc-verifier`: audit what providers answered, for money, and judge disputes with a stake of one's own."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hypercluster.market.money.units import format_hct, format_price, parse_price
from hypercluster.node.cli.console import Json, err, out, password, print_json
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
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.settings import EVIDENCE, RUNNING, Settings

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.market.trust.audit import Bounds
    from hypercluster.node.shards.store import StoredModel

app = application(
    "Audit what providers answered and be paid per audited token; judge disputes with a stake of your own.\n\n"
    "First time: [bold]init[/], put HCT and some coin for gas on the operator account, [bold]register[/], "
    "[bold]calibrate[/] the model, [bold]run[/]. All state is in HC_HOME (default ~/.hypercluster)."
)
Model = Annotated[
    Path | None,
    typer.Option(help="GGUF file, or folder of shards from `hc-model split`. Default: the demo model."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Threads that compute. Default: half of the processors.")
]
BoundsFile = Annotated[
    Path | None, typer.Option(help="File of bounds. Default: beside the model's shards in HC_HOME.")
]


@app.command()
def init(json_: Json = False) -> None:
    """Make the node key and the operator key of this verifier.

    Example: [bold]HC_HOME=~/.hypercluster/v1 hc-verifier init[/]

    The node key is hot: it signs verdicts and votes. The operator key holds your stake and receives your money;
    keep a copy of its file and of the password in a safe place.
    """
    make_keys(keys.PROVIDER, "hc-verifier", json_)


@app.command()
def register(stake: StakeOption = None, json_: Json = False) -> None:
    """Stake and authorise the node key, in three transactions of the operator.

    Example: [bold]hc-verifier register[/]

    The third sends the node key coin for gas: it pays for its own votes. Stake is lost to verifiers that do not
    reveal their votes, or that pass what they never ran.
    """
    register_node(stake, "may judge. Next: hc-verifier calibrate.", json_)


@app.command()
def calibrate(
    model: Annotated[Path | None, typer.Argument(help="GGUF file. Default: the demo model.")] = None,
    texts: Annotated[int, typer.Option(min=1, help="Texts that the model writes for it.")] = 4,
    tokens: Annotated[int, typer.Option(min=24, help="Tokens of each.")] = 96,
    threads: Threads = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(help="Answers recorded on another machine; may be given several times."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Write this machine's answers to a file instead, for --include elsewhere."),
    ] = None,
    bounds: BoundsFile = None,
    json_: Json = False,
) -> None:
    """Measure how far apart honest computations of a model are, and write the bounds for audits.

    Example: [bold]hc-verifier calibrate llama.gguf --include gpu.npz[/]

    Serves texts in every way that llama.cpp knows here (threads, batches, cache types, flash attention, wire types)
    and compares each with what an audit would find. Run it again when llama.cpp is updated.
    """
    from hypercluster.node.replay import calibration

    settings = Settings()
    stored = opened(model, settings.home)
    count = threads or default_threads()
    if record is not None:
        with err.status("Recording answers"):
            calibration.record(stored, record, threads=count, texts=texts, tokens=tokens)
        out.print(f"Wrote {record}. On the other machine: hc-verifier calibrate --include {record.name}")
        return
    found = _calibrated(stored, count, texts, tokens, tuple(include or ()))
    path = bounds or stored.bounds_file
    found.save(path)
    if json_:
        print_json(json.loads(path.read_text()))
        return
    out.print(bounds_table(found))
    out.print(f"Bounds are in {path}.", soft_wrap=True)


def bounds_table(bounds: "Bounds") -> Table:
    """The measured differences and the bounds as a table."""
    table = Table(
        "output", "comparison", "variation", "median error", "largest error", "same bits",
        title="Honest differences, the worst window of each", title_justify="left",
    )  # fmt: skip
    for row in bounds.measured:
        table.add_row(
            row["kind"],
            row["comparison"],
            row["variation"],
            f"{row['median']:.2e}",
            f"{row['maximum']:.2e}",
            "yes" if row["exact"] else "no",
        )
    for kind, tiers in bounds.limits.items():
        for tier, limits in tiers.items():
            table.add_row(
                kind, tier, "accepted up to", f"{limits.accept_median:.2e}", f"{limits.accept_maximum:.2e}", "",
                style="bold",
            )  # fmt: skip
            table.add_row(
                kind, tier, "rejected beyond", f"{limits.reject_median:.2e}", f"{limits.reject_maximum:.2e}", "",
                style="bold",
            )  # fmt: skip
    return table


@app.command("run")
def run_(
    model: Model = None,
    price: Annotated[str, typer.Option(help="HCT per million audited tokens.")] = "0.5",
    listen: Annotated[
        list[str] | None, typer.Option(help="Multiaddr to listen on; may be given several times.")
    ] = None,
    announce: Annotated[list[str] | None, typer.Option(help="Multiaddr to tell others instead.")] = None,
    bootstrap: Bootstrap = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Audits under way at once.")] = 4,
    threads: Threads = None,
    committees: Annotated[bool, typer.Option(help="Enlist for the committees that judge disputes.")] = True,
    bounds: BoundsFile = None,
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
    watch: Annotated[float, typer.Option(min=0.1, help="Seconds between looks at the chain.")] = 2.0,
) -> None:
    """Audit and judge until Ctrl-C.

    Example: [bold]hc-verifier run --model llama.gguf --price 0.5 --listen /ip4/0.0.0.0/tcp/4101[/]

    Draws, votes and reveals by itself; what it has committed to is in the ledger before it is sent, so it goes on
    after a restart. A verifier that is away when it should reveal is slashed.
    """
    import trio

    from hypercluster.market.chain import Sender
    from hypercluster.node.evidence.transcript import TranscriptStore
    from hypercluster.node.network.reach import reach_of
    from hypercluster.node.replay.replayer import Replayer
    from hypercluster.node.verifier.process import Verifier, VerifierTerms

    settings = Settings()
    reach = reach_of(
        node=keys.address(settings.home, Key.NODE),
        listen=listen,
        announce=announce,
        bootstrap=bootstrap,
        setting=settings.bootstrap,
    )
    with node_held(settings.home, "hc-verifier run"):
        chain = open_chain(settings)
        node = keys.unlock(settings.home, Key.NODE, password(settings))
        stored = opened(model, settings.home)
        count = threads or default_threads()
        terms = VerifierTerms(
            price_wei=parse_price(price),
            listen=reach.listen,
            announce=reach.announce,
            bootstrap=reach.bootstrap,
            mdns=settings.mdns,
            jobs=jobs,
            refresh_seconds=refresh,
            claim_seconds=claim_every,
            claim_multiple=claim_multiple,
            hct_per_native=hct_per_coin,
            watch_seconds=watch,
            committees=committees,
        )
        marker = settings.home / RUNNING

        def ready(advert: "Advert") -> None:
            addresses = [f"{address}/p2p/{advert.peer}" for address in advert.addrs]
            state = {"pid": os.getpid(), "peer": advert.peer, "addresses": addresses, "role": "verifier"}
            partial = marker.with_suffix(".part")
            partial.write_text(
                json.dumps({**state, "since": datetime.now(UTC).isoformat(timespec="seconds")})
            )
            partial.replace(marker)
            out.print(f"Auditing model {stored.manifest.model_id[:16]}\npeer {advert.peer}")
            out.print(f"price {format_price(advert.price_wei)} HCT per million tokens; others join through")
            for address in addresses:
                out.print(f"  {address}", soft_wrap=True)

        with open_ledger(settings) as ledger:
            verifier = Verifier(
                terms=terms,
                replayer=Replayer(stored, _bounds(stored, bounds, count), threads=count),
                node_key=bytes(node.key),
                operator=keys.address(settings.home, Key.OPERATOR),
                sender=Sender(chain, node),
                chain=chain,
                ledger=ledger,
                evidence=TranscriptStore(
                    settings.home / EVIDENCE, keep_seconds=chain.disputes.keep_seconds, max_bytes=16 * 2**30
                ),
            )
            try:
                trio.run(verifier.run, ready)
            finally:
                marker.unlink(missing_ok=True)


@app.command()
def status(json_: Json = False) -> None:
    """Show stake, whether the verifier runs and is enlisted, and what it has earned."""
    settings = Settings()
    chain = open_chain(settings)
    node, operator = keys.address(settings.home, Key.NODE), keys.address(settings.home, Key.OPERATOR)
    stake = chain.staking.stake_of(operator)
    marker = settings.home / RUNNING
    running = json.loads(marker.read_text()) if marker.exists() else None
    with open_ledger(settings) as ledger:
        unclaimed = sum(row.unclaimed for row in ledger.payee.channels(chain.channels.domain))
    data = {
        "node": node,
        "operator": operator,
        "active_wei": stake.active,
        "thawing_wei": stake.thawing,
        "enlisted": chain.disputes.cases.is_enlisted(node),
        "credits_wei": chain.disputes.cases.credit_of(operator).amount,
        "unclaimed_wei": unclaimed,
        "balance_wei": chain.token.balance(operator),
        "running": running,
    }
    if json_:
        print_json(data)
        return
    table = Table(show_header=False)
    table.add_row("node", node)
    table.add_row("operator", operator)
    table.add_row("stake", f"{format_hct(stake.active)} HCT, {format_hct(stake.thawing)} thawing")
    table.add_row("enlisted for committees", "yes" if data["enlisted"] else "no")
    table.add_row("vouchers not claimed yet", f"{format_hct(unclaimed)} HCT")
    table.add_row("running", running["peer"] if running else "no")
    out.print(table)


@app.command()
def cases(json_: Json = False) -> None:
    """List the cases that this verifier sat on: its vote, and where each stands."""
    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        duties = ledger.trust.duties(chain.disputes.cases.address, chain.chain_id, open_only=False)
    from hypercluster.market.chain.disputes import Vote

    data = []
    for duty in duties:
        case = chain.disputes.cases.state(duty.case_id)
        vote = Vote(duty.vote).name.lower() if duty.vote is not None else None
        outcome = case.outcome.name.lower() if case.outcome else None
        data.append(
            {
                "case": duty.case_id,
                "accused": duty.node,
                "phase": duty.phase,
                "vote": vote,
                "outcome": outcome,
            }
        )
    if json_:
        print_json(data)
        return
    table = Table("case", "accused", "we have", "our vote", "outcome")
    for row in data:
        table.add_row(*(str(value if value is not None else "-") for value in row.values()))
    out.print(table)


@app.command()
def rewards(json_: Json = False) -> None:
    """Claim what this verifier's votes have earned: rewards for convictions, and shares of lost bonds.

    Both wait an unbonding time. Vouchers of clients are claimed by `run`, or by hc-provider claim in this home.
    """
    from hypercluster.node.cli.rewards import claim_rewards

    claim_rewards(Key.OPERATOR, json_)


@app.command()
def delist(json_: Json = False) -> None:
    """Leave the list that committees are drawn from; seats already drawn must still be served."""
    from hypercluster.market.chain import Sender

    settings = Settings()
    chain = open_chain(settings)
    node = keys.unlock(settings.home, Key.NODE, password(settings))
    chain.disputes.cases.delist(Sender(chain, node), node.address)
    if json_:
        print_json({"node": node.address, "enlisted": False})
    else:
        out.print(
            f"{node.address} is drawn no more. To get the stake back: hc-provider unstake in this home."
        )


def _calibrated(
    stored: "StoredModel", threads: int, texts: int, tokens: int, recordings: tuple[Path, ...] = ()
) -> "Bounds":
    from hypercluster.node.replay.calibration import calibrate, steps

    with bar("Calibrating", steps(threads, len(recordings)), unit="steps") as progress:
        return calibrate(
            stored, threads=threads, texts=texts, tokens=tokens, recordings=recordings, progress=progress
        )


def _bounds(stored: "StoredModel", path: Path | None, threads: int) -> "Bounds":
    """The bounds of the model; calibrated now where that was never done."""
    from hypercluster.market.trust.audit import Bounds

    path = path or stored.bounds_file
    if not path.exists():
        err.print("[dim]This model was never calibrated here; doing it now.[/]")
        _calibrated(stored, threads, texts=4, tokens=96).save(path)
    return Bounds.load(path, stored.manifest.model_id)


def main() -> None:
    """Entry point of `hc-verifier`."""
    run(app, "hc-verifier")


if __name__ == "__main__":
    main()
