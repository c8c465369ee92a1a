"""Time completions over a path whose links take time: relayed, chained, with n-grams and with a draft model.

    python scripts/bench_drafts.py [--model smollm2|FILE.gguf] [--draft-model coarser|none|FILE.gguf]
                                   [--delay MS]... [--drafts 8] [--rounds 3] [--json]

Everything is real: Anvil, contracts, N `hc-provider` processes. Each announces the address of a proxy that hands on
every byte after a delay, the same in both directions; with a delay of d ms a relayed step over N providers waits
2 N d for the wire alone. The draft model runs in the client: `coarser` is the model itself in Q4_0, made by
llama.cpp. Drafts go in rounds, each answered before the next, or in flight. Rounds of all kinds alternate, the price is
as `--alpha` weighs it, and the tokens of all are compared with those of the relay, as are speed and price.
Figures are medians over the rounds. A connection that went around the proxies ends the run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp as native
import trio
from bench_cache import add_cache_option
from proxies import free_ports, proxies
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money import HCT
from hypercluster.node.client.client import Client
from hypercluster.node.client.draft_model import Drafting
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.engine.llama import start
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from hypercluster.node.traffic.connecting import named_models
from hypercluster.node.wire.messages import MOST_IN_FLIGHT

PASSAGE = (
    "The harbour master wrote down every ship that came in: its name, its flag, its cargo and the hour of the tide. "
    "In March there were nineteen of them, in April twenty-four."
)
PROMPTS = {
    "quote": f"{PASSAGE}\n\nThe same passage, copied word for word:\n\n",
    "list": "red apple, green apple, yellow apple, red pear, green pear, yellow pear, red plum, green plum,",
    "story": "It was late in the evening when the stranger knocked at the door of the mill, and",
}
COLUMNS = ("delay, ms", "text", "drafts", "tokens/s", "ratio", "tokens a trip", "held", "paid", "ids")
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Run:
    """One completion: its tokens, seconds from the first token to the last, trips over the path, wei paid."""

    ids: tuple[int, ...]
    seconds: float
    steps: int
    paid: int
    drafted: int
    held: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How rows go and who guesses: `in_flight` steps with guesses before an answer, 0 for rounds."""

    chain: bool = True
    drafts: int = 0
    in_flight: int = 0
    model: bool = False


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="name from the catalogue, or a GGUF file")
    parser.add_argument("--draft-model", default="coarser", help="GGUF file, coarser, or none")
    parser.add_argument("--providers", type=int, default=4)
    parser.add_argument(
        "--delay", type=float, action="append", help="ms one way on every link; default 0, 10, 25 and 50"
    )
    parser.add_argument("--drafts", type=int, default=8, help="tokens guessed ahead at most")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--text", choices=PROMPTS, action="append", help="which texts; default all")
    add_cache_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    rows = []
    for delay in options.delay or [0.0, 10.0, 25.0, 50.0]:
        with err.status(f"{delay:g} ms on every link"):
            rows += trio.run(bench, options, delay)
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(
        *COLUMNS,
        title=f"{options.model}: {options.providers} providers, up to {options.drafts} drafts, {options.rounds} rounds",
    )
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(highlight=False).print(table)


async def bench(options: argparse.Namespace, delay: float) -> list[dict[str, float | str]]:
    """Start a network behind proxies, measure on it, and end it."""
    home = options.cache / "drafts"
    [model] = named_models([options.model], Settings(home=home))
    ranges = partition(model.stored.manifest.layers, options.providers)
    ports = free_ports(2 * len(ranges))
    flags = ("--price-rule", "fixed", "--refresh", "5", "--sessions", "2", "--threads", "1")
    specs = [
        ProviderSpec(
            layers=f"{start}:{stop}",
            flags=(
                *flags,
                *("--direct", f"/ip4/127.0.0.1/tcp/{behind}"),
                *("--announce-direct", f"/ip4/127.0.0.1/tcp/{before}"),
            ),
        )
        for (start, stop), behind, before in zip(ranges, ports[::2], ports[1::2], strict=True)
    ]
    assert model.stored.source is not None
    pairs = list(zip(ports[1::2], ports[::2], strict=True))
    with (
        proxies(pairs, delay / 1000) as passed,
        running_network(home / "net", specs, model=model.stored.source) as network,
    ):
        return await measure(network, options, delay, passed)


async def measure(
    network: LocalNetwork, options: argparse.Namespace, delay: float, passed: Callable[[], int]
) -> list[dict[str, float | str]]:
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    [model] = named_models([options.model], Settings(home=options.cache / "drafts"))
    drafting = drafting_of(options, model.stored)
    kinds = {
        "relay": Kind(chain=False),
        "none": Kind(),
        "n-grams": Kind(drafts=options.drafts),
        "n-grams in flight": Kind(drafts=options.drafts, in_flight=MOST_IN_FLIGHT),
    }
    if drafting is not None:
        kinds["model"] = Kind(drafts=options.drafts, model=True)
        kinds["model in flight"] = replace(kinds["model"], in_flight=MOST_IN_FLIGHT)
    rows, began = [], 0
    async with joined(settings, network.chain, model.stored, purse, drafting=drafting) as client:
        await client.wait_for_path(120)
        draft_model = client.draft_model
        for text in options.text or PROMPTS:
            runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
            for number in track(range(options.rounds + 1), text, console=err, transient=True):
                for kind in sorted(runs, reverse=bool(number % 2)):
                    client.draft_model = draft_model if kinds[kind].model else None
                    run = await complete(client, PROMPTS[text], kinds[kind], options)
                    began += options.providers
                    runs[kind] += [run] if number else []
            rows += [
                {"delay": delay, "text": text, "drafts": kind, **compared(runs["relay"], runs[kind])}
                for kind in runs
            ]
        client.draft_model = draft_model
    if passed() < began:
        raise SystemExit(f"Of {began} connections only {passed()} went through the proxies.")
    return rows


def drafting_of(options: argparse.Namespace, stored: StoredModel) -> Drafting | None:
    """The draft model, made by llama.cpp where it is the model itself, coarser."""
    if options.draft_model == "none":
        return None
    file = Path(options.draft_model)
    if options.draft_model == "coarser":
        assert stored.source is not None
        file = options.cache / "drafts" / f"{stored.manifest.model_id[:16]}.q4_0.gguf"
        if not file.exists():
            made = file.with_suffix(".part")
            start()  # what llama.cpp says goes to its logger
            told = native.llama_model_quantize_default_params()
            told.ftype, told.allow_requantize = native.LLAMA_FTYPE_MOSTLY_Q4_0, True
            if native.llama_model_quantize(os.fsencode(stored.source), os.fsencode(made), told):
                raise SystemExit(f"llama.cpp cannot make Q4_0 of {stored.source}.")
            made.rename(file)
    drafting = Drafting(stored=open_model(file, options.cache / "drafts"), threads=1)
    drafting.check([stored])
    return drafting


async def complete(client: Client, prompt: str, kind: Kind, options: argparse.Namespace) -> Run:
    wishes = replace(
        client.wishes,
        drafts=kind.drafts,
        in_flight=kind.in_flight,
        chain=kind.chain,
        market=MarketParameters(alpha=options.alpha),
    )
    came: list[float] = []
    request = Request(prompt=prompt, allowance=Allowance(tokens=options.tokens), wishes=wishes)
    async with client.complete(request) as completing:
        async for event in completing:
            if isinstance(event, Token):
                came.append(time.perf_counter())
            elif isinstance(event, Finished) and event.error is not None:
                raise event.error
    done = completing.completion
    return Run(
        tuple(done.tokens),
        came[-1] - came[0],
        len(done.bills[-1].timing.total) - 1,
        done.spent_wei,
        done.drafted,
        done.draft_held,
    )


def compared(without: Sequence[Run], runs: Sequence[Run]) -> dict[str, float | str]:
    """Medians, and of the ratios to other runs round by round."""
    pairs = list(zip(without, runs, strict=True))
    rates = [((len(a.ids) - 1) / a.seconds, (len(b.ids) - 1) / b.seconds) for a, b in pairs]
    return {
        "tokens_per_s": statistics.median(b for _, b in rates),
        "ratio": statistics.median(b / a for a, b in rates),
        "tokens_a_trip": statistics.median((len(b.ids) - 1) / b.steps for b in runs),
        "held": f"{sum(b.held for b in runs)}/{sum(b.drafted for b in runs)}",
        "paid": statistics.median(b.paid / a.paid for a, b in pairs),
        "ids": "same" if all(a.ids == b.ids for a, b in pairs) else "OTHER",
    }


if __name__ == "__main__":
    main()
