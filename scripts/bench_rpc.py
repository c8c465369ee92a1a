"""Time a path of providers, and llama.cpp's own RPC servers over the same ranges, against the same unsplit model.

    python scripts/bench_rpc.py [--model 1b] [--providers 4] [--rounds 5] [--json]

The first run builds llama.cpp's servers from the source of the locked llama-cpp-python, which takes minutes. Each round
runs all four in turn, and every ratio is taken against the unsplit model of its round. A path is paid, signed and kept
on disk as everywhere; RPC's servers take what comes. "one range local" is how llama.cpp itself would be used: the
machine that asks computes the first range, and one server less is there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import trio
from bench_cache import add_cache_option, model_file
from bench_pipeline import FIND_SECONDS, Setting, run_path, run_unsplit, serving, some_tokens
from llama_rpc import decode_rate, programs, servers
from rich.console import Console
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.localnet import LocalNetwork

UNSPLIT, PATH, RPC, NEAR = "unsplit", "path", "RPC", "RPC, one range local"
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Rival:
    """llama.cpp's programs, the servers that run, and the model's file."""

    folder: Path
    places: Sequence[str]
    model: Path


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="1b", help="demo, 1b, 3b or a GGUF file (default 1b)")
    parser.add_argument("--providers", type=int, default=4, help="ranges, and servers (default 4)")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=33, help="tokens to generate in a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, after one to warm up")
    add_cache_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    told = parser.parse_args()
    setting = Setting(
        providers=told.providers,
        threads=told.threads,
        wire="f32",
        stream="direct",
        relay=False,
        pay_ahead=1,
        delay_ms=0,
        prompt=told.prompt,
        tokens=told.tokens,
        rounds=told.rounds,
    )
    with err.status("Building llama.cpp's servers, if they are not there"):
        folder = programs(told.cache)
    model, load = model_file(told.model, told.cache), os.getloadavg()[0]
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        serving(model, told.cache / "net", setting) as (network, stored),
        servers(folder, told.providers, told.threads) as places,
    ):
        rates = trio.run(measure, network, stored, setting, pool, Rival(folder, places, model))
    rows = [row(rates, side) for side in (UNSPLIT, PATH, RPC, NEAR)]
    if told.json:
        print(json.dumps({"model": told.model, "load_before": load, "cores": os.cpu_count(), "rows": rows}))
        return
    table = Table(
        *("", "decode tokens/s", "of unsplit", "least to most"),
        title=f"{told.model}: {told.providers} ranges, {told.threads} threads each",
        caption=f"{told.rounds} rounds, prompt {told.prompt}, {told.tokens} tokens; load average before {load:.1f}",
    )
    for each in rows:
        spread = f"{each['least']:.2f} to {each['most']:.2f}"
        table.add_row(str(each["side"]), f"{each['tokens_per_s']:.1f}", f"{each['ratio']:.3f}", spread)
    Console(highlight=False).print(table)


async def measure(
    network: LocalNetwork, stored: StoredModel, setting: Setting, pool: Executor, rival: Rival
) -> dict[str, list[float]]:
    """Tokens per second of each side in each round; the first round is dropped."""
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    prompt = some_tokens(stored, setting.prompt)
    pids = [each.process.pid for each in network.providers]
    layers = stored.manifest.layers
    own = layers // setting.providers

    def rpc(places: Sequence[str], apart: int) -> Callable[[], float]:
        return lambda: decode_rate(
            rival.folder,
            rival.model,
            places,
            layers=apart,
            prompt=setting.prompt,
            tokens=setting.tokens,
            threads=setting.threads,
        )

    rates: dict[str, list[float]] = {side: [] for side in (UNSPLIT, PATH, RPC, NEAR)}
    async with joined(settings, network.chain, stored, purse) as client:
        route = await client.wait_for_path(FIND_SECONDS)
        for number in range(setting.rounds + 1):
            err.print(f"[dim]round {number} of {setting.rounds}[/]")
            once = {
                UNSPLIT: (await run_unsplit(pool, rival.model, prompt, setting)).decode_rate,
                PATH: (await run_path(client, route, prompt, setting.tokens, pids, None)).decode_rate,
                RPC: await trio.to_thread.run_sync(rpc(rival.places, layers)),
                NEAR: await trio.to_thread.run_sync(rpc(rival.places[1:], layers - own)),
            }
            for side, rate in once.items() if number else ():
                rates[side].append(rate)
    return rates


def row(rates: dict[str, list[float]], side: str) -> dict[str, str | float]:
    """Medians of one side, and its ratio to the unsplit model round by round."""
    ratios = [ours / whole for ours, whole in zip(rates[side], rates[UNSPLIT], strict=True)]
    return {
        "side": side,
        "tokens_per_s": statistics.median(rates[side]),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


if __name__ == "__main__":
    main()
