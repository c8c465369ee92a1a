"""Time 2, 4 and 8 completions at once on one path of providers against llama.cpp's batched decoding of the whole model.

    python scripts/bench_clients.py [--model 1b] [--clients 2,4,8] [--providers 4] [--rounds 3] [--json]
    python scripts/bench_clients.py --rows

Every completion has sessions, vouchers and receipts of its own with every provider. All run in one client process: what
they use of the processor is there, as if each had come from a machine of its own. The other side decodes as many
sequences in one llama_decode per token, with threads on all cores, and samples nothing. Rates are the sum over all
completions from the moment when all prompts have been run; rounds alternate, and ratios are taken round by round.
Beside them stands what a token took of the processor, llama.cpp's processes apart from all others.

With --rows no path is timed, but what a row costs llama.cpp on one thread, by the number of rows in one llama_decode.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trio
from bench_cache import model_file
from bench_pipeline import FIND_SECONDS, Setting, add_path_options, serving, some_tokens
from processor_time import Used, a_token, used
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
    parser.add_argument(
        "--rows", action="store_true", help="what 1 to 8 rows cost in one llama_decode, no path"
    )
    add_path_options(parser, prompt=64, rounds=3)
    told = parser.parse_args()
    counts, cores = [int(each) for each in told.clients.split(",")], os.cpu_count() or 2
    setting = Setting.of(told)
    model, load = model_file(told.model, told.cache), os.getloadavg()[0]
    if told.rows:
        costs = of_rows(model, setting)
        if told.json:
            print(json.dumps({"model": told.model, "load_before": load, "ms_a_row": costs}))
            return
        show_rows(costs, f"{told.model}: one thread, {told.rounds} rounds; load average before {load:.1f}")
        return
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        serving(model, told.cache / "net", setting, sessions=max(counts)) as (network, stored),
    ):
        runs = trio.run(measure, network, stored, model, setting, counts, pool)
    rows = [row(count, runs[count], setting.tokens) for count in counts]
    if told.json:
        print(json.dumps({"model": told.model, "load_before": load, "cores": cores, "rows": rows}))
        return
    table = Table(
        *("at once", "path", "batched", "ratio", "least to most"),
        *("llama.cpp", "others", "batched, ms"),
        title=f"{told.model}: {told.providers} providers of {told.threads} threads, the whole model on {cores}",
        caption="Tokens/s in all; then ms of the processor a token: of the path by llama.cpp and all others, batched. "
        f"{told.rounds} rounds, prompt {told.prompt}, {told.tokens} tokens; load average before {load:.1f}",
    )
    for each in rows:
        spread = f"{each['least']:.2f} to {each['most']:.2f}"
        table.add_row(
            f"{each['clients']:.0f}",
            f"{each['path']:.1f}",
            f"{each['batched']:.1f}",
            f"{each['ratio']:.2f}",
            spread,
            *(
                "-" if (ms := each[part]) is None else f"{ms:.1f}"
                for part in ("llama", "beside", "batched_ms")
            ),
        )
    Console(highlight=False).print(table)


@dataclass(frozen=True, slots=True)
class Both:
    """One round with so many completions: tokens per second of either side, and what the processor did for them."""

    path: float
    used: Used | None
    batched: float
    batched_ms: float
    """of the processor, for a token"""


async def measure(
    network: LocalNetwork,
    stored: StoredModel,
    model: Path,
    setting: Setting,
    counts: Sequence[int],
    pool: Executor,
) -> dict[int, list[Both]]:
    """Path and batched decoding in turn, by completions at once; the first round is dropped."""
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    prompt, cores = some_tokens(stored, setting.prompt), os.cpu_count() or 2
    nodes = [each.process.pid for each in network.providers]
    runs: dict[int, list[Both]] = {count: [] for count in counts}
    async with joined(settings, network.chain, stored, purse) as client:
        route = await client.wait_for_path(FIND_SECONDS)
        for number in range(setting.rounds + 1):
            err.print(f"[dim]round {number} of {setting.rounds}[/]")
            for count in counts:
                ours = await of_path(client, route, prompt, count, setting.tokens, nodes)
                future = pool.submit(batched, model, prompt, count, setting.tokens, cores)
                theirs = await trio.to_thread.run_sync(future.result)
                if number:
                    runs[count].append(Both(*ours, *theirs))
    return runs


async def of_path(
    client: Client, route: Route, prompt: Sequence[int], count: int, tokens: int, nodes: Sequence[int]
) -> tuple[float, Used | None]:
    """Tokens per second that `count` completions decode together over one path, and what the processor did then."""
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
        before, began = used(nodes), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for pipeline, token in first:
                nursery.start_soon(_decode, pipeline, token, tokens - 1)
        rate = count * (tokens - 1) / (time.perf_counter() - began)
        after = used(nodes)
        return rate, None if after is None or before is None else after.since(before)


async def _decode(pipeline: Pipeline, token: int, steps: int) -> None:
    for _ in range(steps):
        best = await pipeline.run([token])
        token = int(best.ids[-1, 0])


def batched(model: Path, prompt: Sequence[int], count: int, tokens: int, threads: int) -> tuple[float, float]:
    """Tokens per second of the whole model, `count` sequences in one llama_decode per token; and ms of the processor
    for each.
    """
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
            began, before = time.perf_counter(), time.process_time()
            for step in range(tokens - 1):
                batch.tokens[:count] = last
                batch.positions[:count] = len(prompt) + step
                context.decode(batch, count)
                last[:] = [int(context.logits(slot).argmax()) for slot in range(count)]
            made = count * (tokens - 1)
            return made / (time.perf_counter() - began), 1e3 * (time.process_time() - before) / made
        finally:
            context.close()


def row(count: int, runs: Sequence[Both], tokens: int) -> dict[str, float | None]:
    """Medians, and the ratio round by round."""
    ratios = [each.path / each.batched for each in runs]
    ours = a_token([each.used for each in runs if each.used is not None], count * (tokens - 1))
    return {
        "clients": count,
        "path": statistics.median(each.path for each in runs),
        "batched": statistics.median(each.batched for each in runs),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "llama": sum(ours["llama"]) if ours else None,
        "beside": ours["beside_llama"] if ours else None,
        "batched_ms": statistics.median(each.batched_ms for each in runs),
    }


def of_rows(model: Path, setting: Setting) -> dict[int, float]:
    """Median ms of the processor that llama.cpp takes for a row on one thread, by rows in one llama_decode."""
    prompt = [1 + number % 100 for number in range(setting.prompt)]
    found: dict[int, list[float]] = {count: [] for count in range(1, 9)}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number in range(setting.rounds + 1):
            for count, costs in found.items():
                _, ms = pool.submit(batched, model, prompt, count, setting.tokens, 1).result()
                if number:
                    costs.append(ms)
    return {count: statistics.median(costs) for count, costs in found.items()}


def show_rows(costs: dict[int, float], title: str) -> None:
    """Print what `of_rows` found."""
    table = Table("rows", "ms a row", "of a row alone", title=title)
    for count, ms in costs.items():
        table.add_row(str(count), f"{ms:.1f}", f"{ms / costs[1]:.2f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
