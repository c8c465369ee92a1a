"""What the gateway adds to a completion: time to the first token and per token, 50 streams at once, memory.

    python scripts/bench_gateway.py [--rounds 40] [--tokens 32] [--streams 50] [--requests 2000] [--model FILE]
                                    [--minutes 30] [--json]

Everything is real: Anvil, contracts, channels, two `hc-provider` processes on loopback, and a gateway over them in
this process. Whoever asks over HTTP is a process of its own. Rounds over HTTP and rounds that call the client directly
alternate, with the same request, so that a busy moment of the machine hits both alike. Figures are medians over the
rounds; "added" is the median of HTTP less that of the direct calls. Memory is this process's, after a tenth of the
requests and after all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hypercluster.market.money import HCT
from hypercluster.node.client import events
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.errors import NodeError
from hypercluster.node.gateway.running import GatewayOptions, serve_gateway
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import demo_model, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec
from hypercluster.node.threads import Threads
from hypercluster.node.traffic.entries import NamedModel
from hypercluster.node.traffic.market import Market
from hypercluster.node.traffic.opening import open_market

MODEL = "bench"
PROMPT = "ROMEO:\nBut soft, what light through yonder window breaks?"
FIND_SECONDS = 60.0
SESSIONS = 64
PATIENCE = 120.0
"""seconds that a stream may wait for sessions when there are more streams than SESSIONS"""


class NotMeasured(Exception):
    """Something did not work, so that figures would mean nothing."""


class Asker:
    """The process that asks over HTTP."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("bench_gateway_asker.py")
        pipe = subprocess.PIPE
        self._threads = Threads(1, abandon=True)
        self._process = subprocess.Popen([sys.executable, str(script)], stdin=pipe, stdout=pipe, text=True)

    async def do(self, what: str, **how: Any) -> Any:
        """Have it do something, and return what it says."""
        return await self._threads(self._do, {"do": what, **how})

    def _do(self, command: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        if not (line := self._process.stdout.readline()):
            raise NotMeasured("The process that asks over HTTP ended; what it said of it stands above.")
        return json.loads(line)

    async def stream(self, **how: Any) -> dict[str, Any]:
        """One stream that is answered with text."""
        answer: dict[str, Any] = await self.do("ask", **how)
        if answer["status"] != 200 or not answer["pieces"]:
            raise NotMeasured(f"The gateway did not answer with text, so nothing is measured: {answer}.")
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


async def direct(market: Market, prompt: str, tokens: int) -> dict[str, float]:
    """One completion of the client itself: ms to the first text, and between pieces of text."""
    request = Request(
        prompt=prompt,
        allowance=Allowance(tokens=tokens, patience=PATIENCE),
        sampling=Sampling(),
        model=market.model().model_id,
    )
    began = time.perf_counter()
    at: list[float] = []
    async with market.client().complete(request) as completing:
        async for event in completing:
            if isinstance(event, events.Token) and event.text:
                at.append(time.perf_counter())
            elif isinstance(event, events.Finished) and event.error is not None:
                raise event.error
    return {"first": 1000 * (at[0] - began), "each": 1000 * (at[-1] - at[0]) / max(1, len(at) - 1)}


async def alternate(market: Market, asker: Asker, options: argparse.Namespace, bar: Any) -> dict[str, Any]:
    """Rounds of both kinds in turn."""
    http: list[dict[str, float]] = []
    plain: list[dict[str, float]] = []
    for round_ in range(options.rounds + 2):
        pair = (
            await asker.stream(max_tokens=options.tokens),
            await direct(market, PROMPT, options.tokens),
        )
        if round_ >= 2:  # channels are opened and caches are warm
            http.append(pair[0])
            plain.append(pair[1])
        bar()
    found: dict[str, Any] = {}
    for what in ("first", "each"):
        over, alone = (statistics.median(each[what] for each in kind) for kind in (http, plain))
        found[what] = {"http_ms": over, "direct_ms": alone, "added_ms": over - alone, "ratio": over / alone}
    return found


async def crowd(market: Market, options: argparse.Namespace, bar: Any) -> tuple[float, Counter[str]]:
    """Many direct completions at once: seconds that they took, and how they ended."""
    ended: Counter[str] = Counter()

    async def one() -> None:
        try:
            await direct(market, PROMPT, options.tokens)
            ended["whole"] += 1
        except NodeError as error:
            ended[type(error).__name__] += 1
        bar(1)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(options.streams):
            nursery.start_soon(one)
    return time.perf_counter() - began, ended


async def at_once(market: Market, asker: Asker, options: argparse.Namespace, bar: Any) -> dict[str, Any]:
    """Many streams over HTTP, and as many direct completions; those of either kind wait for sessions."""
    await crowd(market, options, bar)  # what a crowd needs in its channels is deposited
    told = await asker.do("streams", n=options.streams)
    bar(options.streams)
    whole = [each for each in told["each"] if each.get("done") and each["pieces"]]
    if not whole:
        raise NotMeasured(f"None of the streams at once was answered: {told['each'][0]}.")
    seconds, ended = await crowd(market, options, bar)
    return {
        "streams": options.streams,
        "statuses": dict(Counter(str(each["status"]) for each in told["each"])),
        "whole": len(whole),
        "direct": dict(ended),
        "http_seconds": told["seconds"],
        "direct_seconds": seconds,
        "ratio": told["seconds"] / seconds,
        "first_ms": statistics.median(each["first"] for each in whole),
        "worst_first_ms": max(each["first"] for each in whole),
    }


def resident_mib() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def memory(asker: Asker, options: argparse.Namespace, bar: Any) -> dict[str, Any]:
    """Many short requests, one after the other."""
    early = 0.0
    began = time.perf_counter()
    for index in range(options.requests):
        if index == options.requests // 10:
            early = resident_mib()
        await asker.stream(max_tokens=2)
        bar()
    late = resident_mib()
    return {
        "requests": options.requests,
        "seconds": time.perf_counter() - began,
        "early_mib": early,
        "late_mib": late,
        "grown_kib_a_request": (late - early) * 1024 / max(1, options.requests - options.requests // 10),
    }


async def measure(network: LocalNetwork, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """All of it, over a network that runs. Raises NotMeasured."""
    found: dict[str, Any] = {}
    try:
        with trio.fail_after(60 * options.minutes):
            found = await measured(network, options, progress)
    except* NotMeasured as group:
        found["why"] = str(next(leaves(group)))
    except* trio.TooSlowError:
        found["why"] = f"Not done after {options.minutes} minutes: ask for less, or give it more --minutes."
    if "why" in found:
        raise NotMeasured(found["why"])
    return found


def leaves(group: BaseExceptionGroup[NotMeasured]) -> Iterator[NotMeasured]:
    """What is in a group and the groups within."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from leaves(each)
        else:
            yield each


async def measured(network: LocalNetwork, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The figures."""
    settings = network.client(100 * HCT)
    stored = open_model(options.model, settings.home)
    asker = Asker()
    bars = {
        "rounds": progress.add_task("Rounds", total=options.rounds + 2),
        "streams": progress.add_task("Streams at once, and direct", total=3 * options.streams),
        "requests": progress.add_task("Requests for memory", total=options.requests),
    }
    try:
        async with (
            open_market(
                settings,
                network.chain,
                purse_of(settings.home, network.chain, network.password_file.read_text()),
                [NamedModel(MODEL, stored)],
            ) as market,
            trio.open_nursery() as nursery,
        ):
            with trio.fail_after(FIND_SECONDS):
                while market.model().coverage < 1:
                    await trio.sleep(0.05)
            running = await nursery.start(
                serve_gateway, market, GatewayOptions(binds=("127.0.0.1:0",), patience=PATIENCE)
            )
            _, key = market.ledger.api_keys.create(MODEL, budget=None)
            body = {
                "model": MODEL,
                "prompt": PROMPT,
                "max_tokens": options.tokens,
                "temperature": 0,
                "stream": True,
            }
            await asker.do("set", url=running.urls[0], key=key, body=body)
            found = await alternate(market, asker, options, partial(progress.advance, bars["rounds"]))
            found["at_once"] = await at_once(
                market, asker, options, partial(progress.advance, bars["streams"])
            )
            found["memory"] = await memory(asker, options, partial(progress.advance, bars["requests"]))
            nursery.cancel_scope.cancel()
    finally:
        asker.close()
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="of each kind; 40")
    parser.add_argument("--tokens", type=int, default=32, help="that each round generates; 32")
    parser.add_argument("--streams", type=int, default=50, help="at once; 50")
    parser.add_argument("--requests", type=int, default=2000, help="over which memory is looked at; 2000")
    parser.add_argument("--model", type=Path, default=demo_model(), help="GGUF file; the demo model")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which it gives up; 30")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    return parser.parse_args()


def show(found: dict[str, Any], out: Console) -> None:
    """Print it for people."""
    table = Table("", "over HTTP", "direct", "added", "ratio")
    for what, name in (("first", "first token"), ("each", "each token")):
        each = found[what]
        figures = (f"{each[column]:.2f} ms" for column in ("http_ms", "direct_ms", "added_ms"))
        table.add_row(name, *figures, f"{each['ratio']:.2f}")
    out.print(table)
    many, kept = found["at_once"], found["memory"]
    out.print(
        f"{many['streams']} streams at once: {many['whole']} whole, in {many['http_seconds']:.1f} s "
        f"(direct {many['direct'].get('whole', 0)} whole, in {many['direct_seconds']:.1f} s, "
        f"ratio {many['ratio']:.2f}); first token after {many['first_ms']:.0f} ms, "
        f"{many['worst_first_ms']:.0f} ms at worst."
    )
    out.print(
        f"Memory over {kept['requests']} requests: {kept['early_mib']:.1f} MiB after a tenth, "
        f"{kept['late_mib']:.1f} MiB at the end, {kept['grown_kib_a_request']:.2f} KiB a request."
    )
    out.print(f"Load average before: {found['load_before']:.1f}.")


def main() -> None:
    """Measure and print."""
    options = arguments()
    load = os.getloadavg()[0]
    model = open_model(options.model, Path(tempfile.gettempdir()))
    flags = (
        "--sessions",
        str(SESSIONS),
        "--session-tokens",
        "256",
        "--price-rule",
        "fixed",
        "--refresh",
        "1",
    )
    specs = [
        ProviderSpec(layers=f"{start}:{stop}", flags=flags)
        for start, stop in partition(model.manifest.layers, 2)
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        running_network(Path(folder), specs, model=options.model) as network,
    ):
        try:
            found = {"load_before": load, **trio.run(measure, network, options, progress)}
        except NotMeasured as error:
            raise SystemExit(str(error)) from None
    if options.json:
        print(json.dumps(found))
    else:
        show(found, Console(highlight=False))


if __name__ == "__main__":
    main()
