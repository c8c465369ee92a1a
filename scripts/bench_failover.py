"""Time how long a completion stands still when one of its providers is killed (SIGKILL) or frozen (SIGSTOP).

    python scripts/bench_failover.py [--model demo|1b|FILE.gguf] [--context 256] [--rounds 3] [--spare] [--json]

Everything is real: Anvil, contracts, channels, four `hc-provider` processes on loopback, one of each of the two in the
middle waiting to take over. After `--context` tokens the third is killed or frozen, and the time counts until the next
token is there. In the first round the channel to who takes over has to be opened as well; in the others it is there.
With `--whole` no path is mended: all sessions are opened anew, and all layers read the text again. With `--spare` the
two that wait stand by, and have read the text before the third is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio
from random_model import LlamaShape, write_random_llama
from rich.console import Console
from rich.table import Table

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money import HCT
from hypercluster.node.client.events import ChannelsOpened, HopReplaced, Prefilled, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.looking import Looking
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling, Wishes
from hypercluster.node.client.spare import Spare
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec

HOPS, VICTIM = 4, 2
AFTER = 16
"""tokens that are generated after the provider is gone"""
WAIT_SECONDS = 600
FLAGS = ("--refresh", "1", "--claim-multiple", "0", "--price-rule", "fixed")


@dataclass(frozen=True, slots=True)
class Stop:
    """One time that a provider was lost: all in seconds from that moment on."""

    how: str
    noticed: float
    channel: float | None
    """when the channel to who takes over stood, where one had to be opened"""
    read: float
    """when the text had been read again"""
    token: float
    steps_ms: float
    """of a token before"""
    sessions: int
    """that were opened in all"""


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="1b")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--signal", choices=("kill", "stop", "both"), default="both")
    parser.add_argument("--threads", type=int, default=1)
    ways_back = parser.add_mutually_exclusive_group()
    ways_back.add_argument("--whole", action="store_true")
    ways_back.add_argument("--spare", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.whole:
        Looking.mended = nobody  # type: ignore[method-assign, assignment]
    ways = {"kill": [signal.SIGKILL], "stop": [signal.SIGSTOP]}.get(
        options.signal, [signal.SIGKILL, signal.SIGSTOP]
    )
    stops: list[Stop] = []
    with tempfile.TemporaryDirectory(prefix="hc-failover-") as folder:
        model = model_of(options.model, Path(folder))
        stored = open_model(model, Path(folder) / "stored")
        ranges = partition(stored.manifest.layers, HOPS)
        flags = (*FLAGS, "--threads", str(options.threads), "--session-tokens", str(options.context + 64))
        specs = [ProviderSpec(layers=f"{a}:{b}", price="1", flags=flags) for a, b in ranges]
        specs += [ProviderSpec(layers=f"{a}:{b}", price="2", flags=flags) for a, b in ranges[1:3]]
        with running_network(Path(folder) / "network", specs, model=model) as network:
            for number in range(options.rounds):
                for way in ways:
                    name = f"client {way.name}"
                    stops.append(trio.run(lost, network, stored, way, options.context, name, options.spare))
                    if number + 1 < options.rounds or way is not ways[-1]:
                        replace_victim(network, model)
    if options.json:
        print(json.dumps([asdict(stop) for stop in stops], indent=1))
    else:
        show(stops)


async def nobody(*_arguments: Any) -> None:
    """In place of a path that is mended."""


def model_of(name: str, folder: Path) -> Path:
    """The file of a model by name."""
    if name == "demo":
        return demo_model()
    return write_random_llama(folder / "1b.gguf", LlamaShape()) if name == "1b" else Path(name)


async def lost(
    network: LocalNetwork,
    stored: StoredModel,
    way: signal.Signals,
    context: int,
    name: str,
    spare: bool,
) -> Stop:
    """Generate, lose the provider after so many tokens of text, and say how it went on."""
    level = Level(partition(stored.manifest.layers, HOPS)[VICTIM]) if spare else None
    settings = network.client(10 * HCT, name)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    victim = network.providers[VICTIM]
    wishes = Wishes(market=MarketParameters(alpha=1.0, risk_weight=0.0), spare=spare)
    prompt = tuple(3 + each % 200 for each in range(context - AFTER))
    request = Request(
        prompt=prompt,
        allowance=Allowance(tokens=2 * AFTER),
        # The end of a text is none here.
        sampling=Sampling(logit_bias=tuple((token, -100.0) for token in ends(stored))),
    )
    at: dict[str, float] = {}
    before: list[float] = []
    moment = 0.0
    with trio.fail_after(WAIT_SECONDS):
        async with joined(settings, network.chain, stored, purse, wishes=wishes) as client:
            while len({advert.peer for advert in client.adverts() if advert.free}) < HOPS + 2:
                await trio.sleep(0.1)
            async with client.complete(request) as completing:
                async for event in completing:
                    since = time.perf_counter() - moment
                    if isinstance(event, Token):
                        if moment and "token" not in at:
                            at["token"] = since
                        elif not moment:
                            before.append(event.ms)
                            if len(before) == AFTER:
                                while level is not None and level.rows < context - AFTER:
                                    await trio.sleep(0.05)
                                os.kill(victim.process.pid, way)
                                moment = time.perf_counter()
                    elif moment and isinstance(event, HopReplaced):
                        at.setdefault("noticed", since)
                    elif moment and isinstance(event, ChannelsOpened):
                        at.setdefault("channel", since)
                    elif moment and isinstance(event, Prefilled):
                        at.setdefault("read", since)
            done = completing.completion
    if done.error is not None:
        raise done.error
    return Stop(
        "killed" if way is signal.SIGKILL else "frozen",
        at["noticed"],
        at.get("channel"),
        at["read"],
        at["token"],
        statistics.median(before[1:]),
        len(done.bills),
    )


class Level:
    """How many rows were sent to who stands by for some layers."""

    def __init__(self, layers: tuple[int, int]) -> None:
        self.rows = 0
        step = Spare._step

        async def counted(spare: Spare, tokens: Any, *given: Any, **named: Any) -> None:
            await step(spare, tokens, *given, **named)
            self.rows += len(tokens) if (spare.start, spare.stop) == layers else 0

        Spare._step = counted  # type: ignore[method-assign, assignment]


def ends(stored: StoredModel) -> list[int]:
    """Tokens that end a text."""
    from hypercluster.node.engine.tokenizer import Tokenizer

    with Tokenizer(stored.vocabulary()) as tokenizer:
        return sorted(tokenizer.end_ids)


def replace_victim(network: LocalNetwork, model: Path) -> None:
    """Start the provider that was lost again."""
    victim = network.providers[VICTIM]
    victim.kill()
    network.providers.remove(victim)
    again = network.start(victim.spec, victim.home, victim.operator, model=model)
    network.providers.remove(again)
    network.providers.insert(VICTIM, again)
    network.wait(again)


def show(stops: list[Stop]) -> None:
    """Print a table."""
    table = Table(title="A provider lost in mid-completion, seconds from then on")
    for column in (
        "how",
        "noticed",
        "channel open",
        "text read",
        "next token",
        "ms a token before",
        "sessions",
    ):
        table.add_column(column, justify="right")
    for stop in stops:
        channel = "" if stop.channel is None else f"{stop.channel:.2f}"
        figures = (f"{stop.noticed:.2f}", channel, f"{stop.read:.2f}", f"{stop.token:.2f}")
        table.add_row(stop.how, *figures, f"{stop.steps_ms:.1f}", str(stop.sessions))
    Console().print(table)


if __name__ == "__main__":
    main()
