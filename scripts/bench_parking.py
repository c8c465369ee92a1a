"""Time the second turn of a talk over sessions that were kept, next to running its whole prompt.

    python scripts/bench_parking.py [--model smollm2|FILE.gguf] [--providers 4] [--history 1500] [--rounds 5] [--json]
    python scripts/bench_parking.py --model verse --parked 250 [--json]

Everything is real: Anvil, contracts, N `hc-provider` processes. Each round has a text of its own of random tokens: a
first turn of `--history` tokens, and a second one that adds a few to it and to the answer, once over the path that was
parked and once anew, in alternating order. Medians over the rounds, of the time to the first token and of its price.

With `--parked` so many sessions of 40 tokens are left with each provider. Its own memory (with that of llama.cpp's
process, where the cache is reserved at the start) and its time on the processor are compared before and after.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import psutil  # type: ignore[import-untyped]
import trio
from bench_cache import add_cache_option
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import partition
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from hypercluster.node.traffic.connecting import named_models

ANSWER, MORE = 16, 24
"""tokens of an answer, and of what is said after it"""
SETTLE_SECONDS, IDLE_SECONDS = 5.0, 30.0
err = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2", help="name from the catalogue, or a GGUF file")
    parser.add_argument("--providers", type=int, default=4)
    parser.add_argument("--history", type=int, default=1500, help="tokens of the first turn")
    parser.add_argument("--rounds", type=int, default=5)
    add_cache_option(parser)
    parser.add_argument("--parked", type=int, default=0, help="sessions to leave with each provider")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    row = trio.run(leave if options.parked else bench, options)
    if options.json:
        print(json.dumps(row))
        return
    what = "parked sessions" if options.parked else f"{options.history} tokens of history"
    table = Table(title=f"{options.model}: {options.providers} providers, {what}")
    for name in row:
        table.add_column(name)
    table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(highlight=False).print(table)


async def bench(options: argparse.Namespace) -> dict[str, float | str]:
    """Start a network, measure on it, and end it."""
    home = options.cache / "parking"
    [model] = named_models([options.model], Settings(home=home))
    length = options.history + 2 * (ANSWER + MORE)
    flags = ("--price-rule", "fixed", "--refresh", "5", "--sessions", "4", "--threads", "1")
    specs = [
        ProviderSpec(layers=f"{start}:{stop}", flags=(*flags, "--session-tokens", str(length)))
        for start, stop in partition(model.stored.manifest.layers, options.providers)
    ]
    assert model.stored.source is not None
    with running_network(home / "net", specs, model=model.stored.source) as network:
        return await measure(network, options)


async def measure(network: LocalNetwork, options: argparse.Namespace) -> dict[str, float | str]:
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    [model] = named_models([options.model], Settings(home=options.cache / "parking"))
    kept: list[tuple[float, int]] = []
    anew: list[tuple[float, int]] = []
    same = True
    async with joined(settings, network.chain, model.stored, purse) as client:
        await client.wait_for_path(120)
        for number in track(range(options.rounds + 1), "rounds", console=err, transient=True):
            draw = np.random.default_rng(number)
            first = [
                int(token) for token in draw.integers(10, model.stored.manifest.n_vocab, options.history)
            ]
            more = [int(token) for token in draw.integers(10, model.stored.manifest.n_vocab, MORE)]
            turn, _ = await complete(client, first, stays=True)
            prompt = [*first, *turn.tokens, *more]
            ids = []
            for stays in (True, False) if number % 2 else (False, True):
                done, seconds = await complete(client, prompt, tokens=1, stays=stays)
                assert (done.cached > 0) is stays
                ids.append(done.tokens)
                if number:
                    (kept if stays else anew).append((seconds, done.spent_wei))
            same &= ids[0] == ids[1]
    return {
        "anew, s": statistics.median(seconds for seconds, _ in anew),
        "kept, s": statistics.median(seconds for seconds, _ in kept),
        "of the time": statistics.median(k / a for (k, _), (a, _) in zip(kept, anew, strict=True)),
        "of the price": statistics.median(k / a for (_, k), (_, a) in zip(kept, anew, strict=True)),
        "ids": "same" if same else "OTHER",
    }


async def leave(options: argparse.Namespace) -> dict[str, float | str]:
    """Start a network, leave sessions with it, and measure what they take."""
    home = options.cache / "parking"
    [model] = named_models([options.model], Settings(home=home))
    pace = ("--price-rule", "fixed", "--refresh", "5", "--threads", "1", "--park", "3600")
    flags = (*pace, "--sessions", str(options.parked), "--session-tokens", "64")
    ranges = partition(model.stored.manifest.layers, options.providers)
    specs = [ProviderSpec(layers=f"{start}:{stop}", flags=flags) for start, stop in ranges]
    assert model.stored.source is not None
    with running_network(home / "net", specs, model=model.stored.source) as network:
        settings = network.client(10 * HCT)
        purse = purse_of(settings.home, network.chain, network.password_file.read_text())
        async with joined(settings, network.chain, model.stored, purse) as client:
            await client.wait_for_path(120)
            draw = np.random.default_rng(1)
            await complete(client, [1] * 40, tokens=1, stays=False)
            before = await taken(network)
            for _ in track(range(options.parked), "sessions", console=err, transient=True):
                prompt = [int(token) for token in draw.integers(10, model.stored.manifest.n_vocab, 40)]
                await complete(client, prompt, tokens=1, stays=True)
            after = await taken(network)
    count = options.parked * len(ranges)
    return {
        "parked": count,
        "KiB each": (after[0] - before[0]) / 1024 / count,
        "ms/s before": before[1] / len(ranges),
        "ms/s after": after[1] / len(ranges),
    }


async def taken(network: LocalNetwork) -> tuple[float, float]:
    """Bytes of memory that all providers have for themselves, and ms a second that they run while nobody asks."""
    processes = [psutil.Process(each.process.pid) for each in network.providers]
    processes += [child for each in processes for child in each.children(recursive=True)]

    def ran() -> float:
        return sum(sum(each.cpu_times()[:2]) for each in processes)

    await trio.sleep(SETTLE_SECONDS)
    began = ran()
    await trio.sleep(IDLE_SECONDS)
    return sum(each.memory_full_info().uss for each in processes), 1000 * (ran() - began) / IDLE_SECONDS


async def complete(
    client: Client, prompt: list[int], *, tokens: int = ANSWER, stays: bool
) -> tuple[Completion, float]:
    """A completion, and the seconds until its first token came."""
    request = Request(
        prompt=tuple(prompt),
        allowance=Allowance(tokens=tokens),
        wishes=replace(client.wishes, stays=stays),
    )
    began, first = time.perf_counter(), 0.0
    async with client.complete(request) as completing:
        async for event in completing:
            if isinstance(event, Token) and not first:
                first = time.perf_counter() - began
    done = completing.completion
    if done.error is not None:
        raise done.error
    return done, first


if __name__ == "__main__":
    main()
