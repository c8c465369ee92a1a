"""Time 2, 4 and 8 completions at once on one path of providers against llama.cpp's batched decoding of the whole model.

    python scripts/bench_clients.py [--model 1b] [--clients 2,4,8] [--providers 4] [--rounds 3] [--json]

Every completion has sessions, vouchers and receipts of its own with every provider. All run in one client process: what
they use of the processor is there, as if each had come from a machine of its own. The other side decodes as many
sequences in one llama_decode per token, with threads on all cores, and samples nothing. Rates are the sum over all
completions from the moment when all prompts have been run; rounds alternate, and ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trio
from bench_cache import model_file
from bench_pipeline import FIND_SECONDS, Setting, add_path_options, serving, some_tokens
from rich.console import Console
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.engine.llama import Batch, Context, LoadedModel

if TYPE_CHECKING:
    from hypercluster.market.economics import Path as Route
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.pipeline import Pipeline
    from hypercluster.node.shards.store import StoredModel
    from hypercluster.node.testnet.localnet import LocalNetwork

err = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="1b", help="demo, 1b, 3b or a GGUF file (default 1b)")
    parser.add_argument("--clients", default="2,4,8", help="how many completions at once (default 2,4,8)")
    add_path_options(parser, prompt=64, rounds=3)
    told = parser.parse_args()
    counts, cores = [int(each) for each in told.clients.split(",")], os.cpu_count() or 2
    setting = Setting.of(told)
    model, load = model_file(told.model, told.cache), os.getloadavg()[0]
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        serving(model, told.cache / "net", setting, sessions=max(counts)) as (network, stored),
    ):
        rates = trio.run(measure, network, stored, model, setting, counts, pool)
    rows = [row(count, *rates[count]) for count in counts]
    if told.json:
        print(json.dumps({"model": told.model, "load_before": load, "cores": cores, "rows": rows}))
        return
    table = Table(
        *("completions at once", "path, tokens/s", "batched, tokens/s", "path/batched", "least to most"),
        title=f"{told.model}: {told.providers} providers of {told.threads} threads, the whole model on {cores}",
        caption=f"{told.rounds} rounds, prompt {told.prompt}, {told.tokens} tokens; load average before {load:.1f}",
    )
    for each in rows:
        spread = f"{each['least']:.2f} to {each['most']:.2f}"
        table.add_row(
            f"{each['clients']:.0f}",
            f"{each['path']:.1f}",
            f"{each['batched']:.1f}",
            f"{each['ratio']:.2f}",
            spread,
        )
    Console(highlight=False).print(table)


Rates = list[float]


async def measure(
    network: LocalNetwork,
    stored: StoredModel,
    model: Path,
    setting: Setting,
    counts: Sequence[int],
    pool: Executor,
) -> dict[int, tuple[Rates, Rates]]:
    """Tokens per second of path and of batched decoding by completions at once; the first round is dropped."""
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    prompt = some_tokens(stored, setting.prompt)
    rates: dict[int, tuple[Rates, Rates]] = {count: ([], []) for count in counts}
    async with joined(settings, network.chain, stored, purse) as client:
        route = await client.wait_for_path(FIND_SECONDS)
        for number in range(setting.rounds + 1):
            err.print(f"[dim]round {number} of {setting.rounds}[/]")
            for count in counts:
                ours = await of_path(client, route, prompt, count, setting.tokens)
                future = pool.submit(batched, model, prompt, count, setting.tokens, os.cpu_count() or 2)
                theirs = await trio.to_thread.run_sync(future.result)
                if number:
                    rates[count][0].append(ours)
                    rates[count][1].append(theirs)
    return rates


async def of_path(client: Client, route: Route, prompt: Sequence[int], count: int, tokens: int) -> float:
    """Tokens per second that `count` completions decode together over one path."""
    async with AsyncExitStack() as stack:
        first: list[tuple[Pipeline, int]] = []
        for number in range(count):
            pipeline = await client.open(
                route, capacity=len(prompt) + tokens, prompt=len(prompt), tokens=tokens
            )
            await stack.enter_async_context(pipeline)
            # Others for each, so that nothing is shared.
            best = await pipeline.run([*prompt[number:], *prompt[:number]])
            first.append((pipeline, int(best.ids[-1, 0])))
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for pipeline, token in first:
                nursery.start_soon(_decode, pipeline, token, tokens - 1)
        return count * (tokens - 1) / (time.perf_counter() - began)


async def _decode(pipeline: Pipeline, token: int, steps: int) -> None:
    for _ in range(steps):
        best = await pipeline.run([token])
        token = int(best.ids[-1, 0])


def batched(model: Path, prompt: Sequence[int], count: int, tokens: int, threads: int) -> float:
    """Tokens per second of the whole model, `count` sequences in one llama_decode per token."""
    with LoadedModel(model) as loaded:
        context = Context(loaded, len(prompt) + tokens, count, threads, len(prompt), len(prompt))
        try:
            batch = Batch(max(len(prompt), count))
            last = np.zeros(count, np.int32)
            for slot in range(count):
                n = len(prompt)
                batch.tokens[:n] = [*prompt[slot:], *prompt[:slot]]
                batch.positions[:n] = np.arange(n)
                batch.slots[:n] = slot
                batch.wanted[:n] = 0
                batch.wanted[n - 1] = 1
                context.decode(batch, n)
                last[slot] = int(context.logits(n - 1).argmax())
            batch.slots[:count] = np.arange(count)
            batch.wanted[:count] = 1
            began = time.perf_counter()
            for step in range(tokens - 1):
                batch.tokens[:count] = last
                batch.positions[:count] = len(prompt) + step
                context.decode(batch, count)
                last[:] = [int(context.logits(slot).argmax()) for slot in range(count)]
            return count * (tokens - 1) / (time.perf_counter() - began)
        finally:
            context.close()


def row(count: int, path: Rates, whole: Rates) -> dict[str, float]:
    """Medians, and the ratio round by round."""
    ratios = [ours / theirs for ours, theirs in zip(path, whole, strict=True)]
    return {
        "clients": count,
        "path": statistics.median(path),
        "batched": statistics.median(whole),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


if __name__ == "__main__":
    main()
