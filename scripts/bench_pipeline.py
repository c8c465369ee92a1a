"""Time a path of provider processes against the unsplit model, run by llama.cpp itself.

    python scripts/bench_pipeline.py [--model demo|1b|3b|FILE.gguf]... [--providers 4] [--threads T] [--json]

Everything is real: Anvil, contracts, channels, N `hc-provider` processes on loopback, a voucher for each step,
stored on disk before the answer leaves, and llama.cpp's greedy sampler at the client. Rounds on the path and
rounds of the unsplit model alternate, and the ratio is taken round by round, so that a busy moment of the
machine hits both alike. Figures are medians over the rounds.

Threads: the unsplit model computes with T threads, and so does each provider. While a session generates, only
one stage computes at any time, so both use T threads in total. A prompt longer than a step (64 tokens) flows
through the providers in pieces that follow each other: there up to N stages compute at once, on N x T threads,
which is why its ratio may exceed 1 on a machine with that many cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from bench_cache import add_cache_option, model_file
from bench_pipeline_tables import PARTS, show
from processor_time import Used, a_token, used
from proxies import free_ports, proxies
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from hypercluster.market.economics import Path as Route
from hypercluster.market.money import HCT
from hypercluster.node.client.client import Client
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Wishes
from hypercluster.node.engine import reference
from hypercluster.node.engine.sampler import Sampler
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec

FIND_SECONDS = 60.0
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured: `prompt` tokens of prefill, then `tokens` generated, in each of `rounds`."""

    providers: int
    threads: int
    prompt: int
    tokens: int
    rounds: int
    wire: str = "f32"
    stream: str = "direct"
    relay: bool = False
    pay_ahead: int = 1
    delay_ms: float = 0.0

    @classmethod
    def of(cls, options: argparse.Namespace) -> Setting:
        """What a command line says, and the default of what it has no option for."""
        return cls(
            **{each: value for each, value in vars(options).items() if each in cls.__dataclass_fields__}
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One completion: its token ids, and its times in ms."""

    ids: list[int]
    prefill_ms: float
    decode_ms: list[float]

    @property
    def decode_rate(self) -> float:
        """Tokens per second over the whole run."""
        return 1e3 * len(self.decode_ms) / sum(self.decode_ms)


@dataclass(slots=True)
class Measured:
    """All rounds: ms of the decode steps of each hop by part, of what is outside all hops, and of the processor."""

    layers: list[str]
    path: list[Run] = field(default_factory=list)
    unsplit: list[Run] = field(default_factory=list)
    hops: list[dict[str, list[float]]] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)


def main() -> None:
    """Run the benchmark and print it."""
    options = arguments()
    setting = Setting.of(options)
    results = []
    # A process of its own: its idle threads cannot disturb the client, nor the client it.
    spawn = multiprocessing.get_context("spawn")
    for name in options.model or ["demo", "1b"]:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            load = os.getloadavg()[0]
            measured = bench(model_file(name, options.cache), options.cache / "net", setting, pool)
        results.append({"model": name, "load_before": load, **summary(measured, setting)})
        if not options.json:
            show(name, results[-1], setting)
    if options.json:
        print(json.dumps({"setting": asdict(setting), "cores": os.cpu_count(), "results": results}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        action="append",
        help="demo (the one that ships), 1b or 3b (16 layers x 2048 or 28 x 3072 with random Q4_0 weights, made by "
        "this script and kept in the cache), or a GGUF file; may be given several times; default: demo and 1b",
    )
    parser.add_argument("--wire", choices=["f32", "f16"], default="f32", help="how activations travel")
    parser.add_argument(
        "--stream",
        choices=["direct", "libp2p"],
        default="direct",
        help="a TCP connection of its own per hop under libp2p's Noise handshake, or a stream of libp2p's muxer",
    )
    parser.add_argument(
        "--relay",
        action="store_true",
        help="rows of every hop go through the client, not from provider to provider",
    )
    parser.add_argument(
        "--pay-ahead", type=int, default=1, help="tokens that one voucher pays for (default 1: each its own)"
    )
    parser.add_argument(
        "--delay-ms",
        type=float,
        default=0.0,
        help="one way on every direct connection, by proxies in this process (default 0: none)",
    )
    add_path_options(parser, prompt=256, rounds=7)
    return parser.parse_args()


def add_path_options(parser: argparse.ArgumentParser, *, prompt: int, rounds: int) -> None:
    """What every benchmark of a whole path asks for, with these defaults."""
    half = max(1, (os.cpu_count() or 2) // 2)
    parser.add_argument(
        "--providers", type=int, default=4, help="processes the layers are spread over (default 4)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=half,
        help=f"of the unsplit model and of each provider (default {half}: half of the cores, as for hc-provider)",
    )
    parser.add_argument("--prompt", type=int, default=prompt, help=f"tokens of a prompt (default {prompt})")
    parser.add_argument("--tokens", type=int, default=33, help="tokens to generate in a round (default 33)")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"rounds of each, after one to warm up (default {rounds})"
    )
    add_cache_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def bench(model: Path, home: Path, setting: Setting, pool: Executor) -> Measured:
    """Start a network for the model, measure on it, and end it."""
    with serving(model, home, setting) as (network, stored):
        return trio.run(measure, network, stored, model, setting, pool)


@contextmanager
def serving(
    model: Path, home: Path, setting: Setting, sessions: int = 2
) -> Iterator[tuple[LocalNetwork, StoredModel]]:
    """A network whose providers serve the model in ranges that follow each other, to so many at once."""
    with err.status("Cutting the model into shards"):
        stored = open_model(model, home)
        ranges = partition(stored.manifest.layers, setting.providers)
        for start, stop in ranges:
            stored.shard(start, stop)
        stored.vocabulary()
    flags = ["--threads", str(setting.threads), "--sessions", str(sessions)]
    flags += ["--price-rule", "fixed", "--refresh", "5"]
    if setting.stream == "libp2p":
        flags += ["--direct", "off"]
    ports = free_ports(2 * len(ranges)) if setting.delay_ms else []
    proxied: list[tuple[str, ...]] = [
        ("--direct", f"/ip4/127.0.0.1/tcp/{behind}", "--announce-direct", f"/ip4/127.0.0.1/tcp/{before}")
        for behind, before in zip(ports[::2], ports[1::2], strict=True)
    ] or [()] * len(ranges)
    specs = [
        ProviderSpec(layers=f"{start}:{stop}", flags=(*flags, *more))
        for (start, stop), more in zip(ranges, proxied, strict=True)
    ]
    with ExitStack() as stack:
        with err.status("Starting a chain and the providers"):
            if ports:
                pairs = list(zip(ports[1::2], ports[::2], strict=True))
                stack.enter_context(proxies(pairs, setting.delay_ms / 1000))
            # The folder of shards, so that each provider need not cut its own.
            network = stack.enter_context(running_network(home, specs, model=stored.folder))
        yield network, stored


async def measure(
    network: LocalNetwork, stored: StoredModel, model: Path, setting: Setting, pool: Executor
) -> Measured:
    """Alternate between the path and the unsplit model; the first round of each is dropped."""
    settings = network.client(10 * HCT)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    ranges = [spec.spec.layers for spec in network.providers]
    measured = Measured(ranges, hops=[{part: [] for part in PARTS} for _ in ranges])
    prompt = some_tokens(stored, setting.prompt)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    wishes = Wishes(
        wire_dtype=WireDtype.named(setting.wire), chain=not setting.relay, pay_ahead=setting.pay_ahead
    )
    pids = [each.process.pid for each in network.providers]
    async with joined(settings, network.chain, stored, purse, wishes=wishes) as client:
        route = await client.wait_for_path(FIND_SECONDS)
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(f"Measuring {model.stem}", total=2 * (setting.rounds + 1))
            for number in range(setting.rounds + 1):
                warm = number > 0
                for side in ("path", "unsplit") if number % 2 else ("unsplit", "path"):
                    if side == "path":
                        run = await run_path(
                            client, route, prompt, setting.tokens, pids, measured if warm else None
                        )
                    else:
                        run = await run_unsplit(pool, model, prompt, setting)
                    if warm:
                        getattr(measured, side).append(run)
                    progress.advance(task)
    return measured


def some_tokens(stored: StoredModel, count: int) -> list[int]:
    """A prompt of `count` ids that mean nothing."""
    return [(7 * i + 1) % (stored.manifest.n_vocab - 1) for i in range(count)]


async def run_unsplit(
    pool: Executor, model: Path, prompt: Sequence[int], setting: Setting, gpu_layers: int = -1
) -> Run:
    """The whole model in one process, with so many layers on devices, -1 for all; loading it is not timed."""
    generate = partial(reference.generate, gpu_layers=gpu_layers)
    future = pool.submit(generate, model, prompt, setting.tokens, setting.threads)
    done = await trio.to_thread.run_sync(future.result)
    return Run([int(token) for token in done.ids], done.prefill_ms, list(done.decode_ms))


async def run_path(
    client: Client,
    route: Route,
    prompt: Sequence[int],
    tokens: int,
    pids: Sequence[int],
    measured: Measured | None,
) -> Run:
    """The same over the providers; opening channels and sessions is not timed."""
    pipeline = await client.open(route, capacity=len(prompt) + tokens, prompt=len(prompt), tokens=tokens)
    async with pipeline:
        with Sampler(client.model.tokenizer.n_vocab) as greedy:
            times = []
            ids: list[int] = []
            pending = list(prompt)
            before: Used | None = None
            while len(ids) < tokens:
                if len(ids) == 1:
                    before = used(pids)
                start = time.perf_counter()
                token = greedy.sample(await pipeline.run(pending))
                times.append(1e3 * (time.perf_counter() - start))
                ids.append(token)
                pending = [token]
            after = used(pids)
    if measured is not None and after is not None and before is not None:
        measured.used.append(after.since(before))
    if measured is not None:
        steps = tokens - 1  # those before them were pieces of the prompt
        outside = list(times[1:])
        for parts, hop in zip(measured.hops, pipeline.hops, strict=True):
            timing = hop.timing
            rows = zip(timing.total, timing.compute, timing.sign, timing.waited, strict=True)
            for at, (total, compute, sign, waited) in enumerate(list(rows)[-steps:]):
                outside[at] -= total
                wire = total - compute - sign - waited
                for part, value in zip(PARTS, (compute, wire, sign, waited), strict=True):
                    parts[part].append(value)
        measured.client += outside
    return Run(ids, times[0], times[1:])


def summary(measured: Measured, setting: Setting) -> dict[str, Any]:
    """Medians over the rounds, in tokens/s and ms; ratios are path over unsplit, round by round."""
    median = statistics.median

    def pair(rate: Any) -> dict[str, float]:
        ours, theirs = [rate(run) for run in measured.path], [rate(run) for run in measured.unsplit]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        return {
            "path": median(ours),
            "unsplit": median(theirs),
            "ratio": median(ratios),
            "ratio_least": min(ratios),
            "ratio_most": max(ratios),
        }

    hops = [
        {"layers": layers, **{part: median(values) for part, values in parts.items()}}
        for layers, parts in zip(measured.layers, measured.hops, strict=True)
    ]
    same = [a.ids == b.ids for a, b in zip(measured.path, measured.unsplit, strict=True)]
    return {
        "decode_tokens_per_s": pair(lambda run: run.decode_rate),
        "decode_ms_median_step": pair(lambda run: median(run.decode_ms)),
        "prefill_tokens_per_s": pair(lambda run: 1e3 * setting.prompt / run.prefill_ms),
        "hops_ms": hops,
        "client_ms": median(measured.client),
        "processor_ms_a_token": a_token(measured.used, setting.tokens - 1),
        "identical_ids": all(same),
    }


if __name__ == "__main__":
    main()
