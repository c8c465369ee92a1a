"""Time several answers to one prompt that share it, next to as many requests that do not.

    python scripts/bench_siblings.py [--model smollm2|verse|FILE.gguf] [--providers 4] [--prompt 512] [--answers 4]
                                     [--tokens 32] [--rounds 3] [--json]

Everything is real: Anvil, contracts, N `hc-provider` processes. Each round has a prompt of its own of random tokens,
and seeds that are the same for each way: *together*, side by side with one prompt; *apart*, side by side with a
prompt each; *in turn*, one after the other over a path that is parked in between. Medians over the rounds, of the time
until all are whole, of that until all have begun, and of what was paid. The first round counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import trio
from bench_cache import add_cache_option
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client.client import Client
from hypercluster.node.client.events import Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.client.siblings import Siblings
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import partition
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from hypercluster.node.traffic.connecting import named_models

WAYS = ("together", "apart", "in turn")
err = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="name from the catalogue, or a GGUF file")
    parser.add_argument("--providers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    add_cache_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    rows = bench(options)
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"{options.model}: {options.answers} answers to {options.prompt} tokens")
    for name in ("", *rows[WAYS[0]]):
        table.add_column(name)
    for way, row in rows.items():
        table.add_row(way, *(f"{value:.3g}" if isinstance(value, float) else value for value in row.values()))
    Console(highlight=False).print(table)


def bench(options: argparse.Namespace) -> dict[str, dict[str, float | str]]:
    """Start a network, measure on it, and end it."""
    home = options.cache / "siblings"
    [model] = named_models([options.model], Settings(home=home))
    pace = ("--price-rule", "fixed", "--refresh", "5", "--threads", "1")
    flags = (
        *pace,
        "--sessions",
        str(options.answers),
        "--session-tokens",
        str(options.prompt + options.tokens),
    )
    specs = [
        ProviderSpec(layers=f"{start}:{stop}", flags=flags)
        for start, stop in partition(model.stored.manifest.layers, options.providers)
    ]
    assert model.stored.source is not None
    with running_network(home / "net", specs, model=model.stored.source) as network:
        return trio.run(measure, network, options)


async def measure(network: LocalNetwork, options: argparse.Namespace) -> dict[str, dict[str, float | str]]:
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    [model] = named_models([options.model], Settings(home=options.cache / "siblings"))
    found: dict[str, list[tuple[float, float, int]]] = {way: [] for way in WAYS}
    texts: dict[str, list[list[int]]] = {way: [] for way in WAYS}
    async with joined(settings, network.chain, model.stored, purse) as client:
        await client.wait_for_path(120)
        for number in track(range(options.rounds + 1), "rounds", console=err, transient=True):
            draw = np.random.default_rng(number)
            prompt = tuple(
                int(each) for each in draw.integers(10, model.stored.manifest.n_vocab, options.prompt)
            )
            for way in WAYS if number % 2 else WAYS[::-1]:
                answers = Answers(client, prompt, options)
                row = await answers.run(way)
                texts[way] += answers.tokens
                if number:
                    found[way].append(row)
    return {
        way: {
            "all whole, s": statistics.median(row[0] for row in rows),
            "all begun, s": statistics.median(row[1] for row in rows),
            "of the price apart": statistics.median(
                row[2] / apart[2] for row, apart in zip(rows, found["apart"], strict=True)
            ),
            "ids": "same" if texts[way] == texts["apart"] else "OTHER",
        }
        for way, rows in found.items()
    }


class Answers:
    """To one prompt, with one seed after the other."""

    def __init__(self, client: Client, prompt: tuple[int, ...], options: argparse.Namespace) -> None:
        self._client, self._prompt, self._options = client, prompt, options
        self.tokens: list[list[int]] = [[] for _ in range(options.answers)]
        self._begun: list[float] = []
        self._spent = 0

    async def run(self, way: str) -> tuple[float, float, int]:
        """Seconds until all are whole, and until all have begun, and the price in wei."""
        began = time.perf_counter()
        siblings = Siblings() if way == "together" else None
        if way == "in turn":
            for number in range(self._options.answers):
                await self._answer(number, None, stays=True)
        else:
            async with trio.open_nursery() as nursery:
                for number in range(self._options.answers):
                    nursery.start_soon(self._answer, number, siblings)
        return time.perf_counter() - began, max(self._begun) - began, self._spent

    async def _answer(self, number: int, siblings: Siblings | None, stays: bool = False) -> None:
        request = Request(
            prompt=self._prompt,
            allowance=Allowance(tokens=self._options.tokens),
            sampling=Sampling(temperature=1.0, seed=number),
            wishes=replace(self._client.wishes, stays=stays),
        )
        async with self._client.complete(request, "", siblings) as completing:
            async for event in completing:
                if isinstance(event, Token) and not self.tokens[number]:
                    self._begun.append(time.perf_counter())
                if isinstance(event, Token):
                    self.tokens[number].append(event.id)
        if completing.completion.error is not None:
            raise completing.completion.error
        self._spent += completing.completion.spent_wei


if __name__ == "__main__":
    main()
