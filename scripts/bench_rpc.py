"""Time a path of providers, and llama.cpp's own RPC servers over the same ranges, against the same unsplit model.

    python scripts/bench_rpc.py [--model 1b] [--providers 4] [--rounds 5] [--json]

The first run builds llama.cpp's RPC backend from the source of the locked llama-cpp-python (seconds), for the same
libraries that compute everywhere else. Each round runs all four in turn, and every ratio is taken against the unsplit
model of its round. A path is paid, signed and kept on disk as everywhere; RPC's servers take what comes. "one range
local" is how llama.cpp itself would be used: the machine that asks computes the first range, and one server less is
there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import trio
from bench_cache import model_file
from bench_pipeline import (
    FIND_SECONDS,
    Setting,
    add_path_options,
    run_path,
    run_unsplit,
    serving,
    some_tokens,
)
from llama_rpc import add, backend, servers
from rich.console import Console
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.localnet import LocalNetwork

UNSPLIT, PATH, RPC, NEAR = "unsplit", "path", "RPC", "RPC, one range local"
SIDES = (UNSPLIT, PATH, RPC, NEAR)
err = Console(stderr=True, highlight=False)


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="1b", help="demo, 1b, 3b or a GGUF file (default 1b)")
    add_path_options(parser, prompt=64, rounds=5)
    told = parser.parse_args()
    setting = Setting.of(told)
    with err.status("Building llama.cpp's RPC backend, if it is not there"):
        library = backend(told.cache)
    model, load = model_file(told.model, told.cache), os.getloadavg()[0]
    with (
        serving(model, told.cache / "net", setting) as (network, stored),
        servers(library, told.providers, told.threads) as places,
        _process() as whole,
        _process(library, places) as rpc,
        _process(library, places[1:]) as near,
    ):
        rates = trio.run(measure, network, stored, model, setting, (whole, rpc, near))
    rows = [row(rates, side) for side in SIDES]
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


def _process(library: Path | None = None, places: Sequence[str] = ()) -> ProcessPoolExecutor:
    """A process of its own, whose models are on such servers."""
    spawn = multiprocessing.get_context("spawn")
    if library is None:
        return ProcessPoolExecutor(1, mp_context=spawn)
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=add, initargs=(library, places))


async def measure(
    network: LocalNetwork, stored: StoredModel, model: Path, setting: Setting, processes: Sequence[Executor]
) -> dict[str, list[float]]:
    """Tokens per second of each side in each round; the first round is dropped.

    `processes` run the whole model, that on as many servers as there are ranges, and that on one less.
    """
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    prompt = some_tokens(stored, setting.prompt)
    pids = [each.process.pid for each in network.providers]
    layers = stored.manifest.layers
    # The head counts as one more, and the last ones go to the servers.
    apart = (0, layers + 1, layers - layers // setting.providers + 1)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    async with joined(settings, network.chain, stored, purse) as client:
        route = await client.wait_for_path(FIND_SECONDS)
        for number in range(setting.rounds + 1):
            err.print(f"[dim]round {number} of {setting.rounds}[/]")
            path = await run_path(client, route, prompt, setting.tokens, pids, None)
            once = {PATH: path.decode_rate}
            for side, process, count in zip((UNSPLIT, RPC, NEAR), processes, apart, strict=True):
                once[side] = (await run_unsplit(process, model, prompt, setting, count)).decode_rate
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
