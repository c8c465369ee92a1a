"""What strangers can do to honest people: their rate, time to the first token and CPU beside each attack.

    python scripts/bench_siege.py [--only NAME ...] [--strength 100 --strength 1000] [--seconds 4] [--rounds 1]
                                  [--quick] [--json | --markdown]

Everything is real: Anvil, contracts, `hc-provider` and `hc-verifier` processes on loopback with a tiny model. Honest
payers are in this process: two with channels of their own do paid sessions of 11 tokens one after the other, two more
ask for as much through a whole client, as a gateway does; at a verifier two have tokens audited. The attackers are a
process of their own at a lower priority, as people have machines of their own; a strength of 1,000 is 1,000
connections, or adverts a second, under 100 names. Each attack is measured beside two quiet stretches, one before and
one after; with --rounds, figures are medians over the rounds. Then the same with a chain that is 100 ms away, and one
that hangs; how long an honest newcomer waits for a place in a book; and requests of a client that knows nobody among
honeypots and ten honest providers.

NAME is an attack of the table, or far, hangs, book or honeypots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import trio
from bench_siege_tables import WITHOUT_NEWCOMER, markdown, tables, title
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hypercluster.market.money import HCT
from hypercluster.node.testnet.localnet import LocalNetwork

# The attackers belong to the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.siege import scenes
from tests.siege.asking import Asked
from tests.siege.attacks import ATTACKS
from tests.siege.nodes import running_field, running_target
from tests.siege.sieges import Siege, attacking, besiege

ON_CHAIN = ("open-nothing", "open-foreign", "hold")
"""measured once more with the chain far away, and with one that hangs"""
CHAINS = {
    "far": ("chain far", scenes.served_from_afar),
    "hangs": ("chain hangs", scenes.served_without_chain),
}
BOOK = ("gossip", "gossip-old", "gossip-forged", "one-stake")
SCENES = (*CHAINS, "book", "honeypots")
LEFT_OUT = ("honeypots",)
"""no attack on one node"""
Row = dict[str, Any]
Sides = AbstractContextManager[scenes.Scene]


class Telling(Protocol):
    """Progress, for whoever waits."""

    def begin(self, what: str) -> None:
        """The next step begins."""

    def say(self, sentence: str) -> None:
        """Something is done."""


def row_of(siege: Siege, where: str) -> Row:
    """One siege in figures; HCT, gas and bytes a minute are those of the attack once it was under way."""
    minutes = siege.seconds / 60
    began, tally = siege.began, siege.tally
    quiet = (siege.before, siege.after)
    return {
        "attack": siege.attack,
        "what": ATTACKS[siege.attack].what,
        "where": where,
        "strength": siege.strength,
        "quiet_per_s": siege.quiet_rate,
        "attacked_per_s": siege.during.rate,
        "kept": siege.kept,
        "failed": siege.during.failed,
        "quiet_first_token_ms": median(each.first_token_ms for each in quiet),
        "first_token_ms": siege.during.first_token_ms,
        "newcomer_s": siege.newcomer_seconds,
        "quiet_node_cpu": median(each.node_cpu for each in quiet),
        "node_cpu": siege.during.node_cpu,
        "attacker_cpu": (tally.cpu_seconds - began.cpu_seconds) / siege.seconds,
        "locked_hct": tally.locked_wei / HCT,
        "gas_to_begin": began.gas,
        "gas_a_minute": (tally.gas - began.gas) / minutes,
        "spent_hct_a_minute": (tally.spent_wei - began.spent_wei) / HCT / minutes,
        "mbytes_a_minute": (tally.sent_bytes - began.sent_bytes) / 1e6 / minutes,
        "answers": dict(tally.answers.most_common(4)),
    }


def middle(rows: Sequence[Row]) -> Row:
    """Medians of the same siege laid several times; what is no figure is that of the last."""
    found = dict(rows[-1])
    for name, value in found.items():
        several = [row[name] for row in rows if row[name] is not None]
        if isinstance(value, float) and several:
            found[name] = median(several)
    return found


async def sieges(
    options: argparse.Namespace,
    side: Sides,
    where: str,
    attack: str,
    found: dict[str, Any],
    progress: Telling,
) -> None:
    """An attack at each strength on a node of its own."""
    with side as scene:
        async with scene.crowd(scene.target) as crowd:
            for strength in options.strength:
                progress.begin(f"{attack} {strength} {where}".strip())
                rounds = [
                    await besiege(
                        crowd,
                        attack,
                        strength,
                        options.seconds,
                        lead=options.lead,
                        newcomers=where not in WITHOUT_NEWCOMER,
                        meanwhile=scene.meanwhile,
                    )
                    for _ in range(options.rounds)
                ]
                row = middle([row_of(each, where) for each in rounds])
                found["attacks"].append(row)
                progress.say(
                    f"{title(row)}, {strength:,}: {row['kept']:.0%} kept, {row['failed'] or 'none failed'}"
                )


async def books(
    options: argparse.Namespace, network: LocalNetwork, found: dict[str, Any], progress: Telling
) -> None:
    """Seconds until an honest newcomer is known, quiet and beside each flood."""
    with running_target(network, "book") as target:
        for attack in ("", *BOOK):
            for strength in options.strength if attack else (0,):
                progress.begin(f"book {attack or 'quiet'} {strength or ''}".strip())
                name = f"newcomer-{attack}-{strength}"
                try:
                    if not attack:
                        seconds: float | None = await scenes.seconds_until_known(network, target, name)
                    else:
                        async with attacking(target, attack, strength):
                            seconds = await scenes.seconds_until_known(network, target, name)
                except trio.TooSlowError:
                    seconds = None
                row = {"attack": attack or "quiet", "strength": strength, "known_after_s": seconds}
                found["books"].append(row)


async def honeypots(options: argparse.Namespace, network: LocalNetwork, progress: Telling) -> Row:
    """Requests with and without honeypots among honest providers."""
    honest, pots = (3, 15) if options.quick else (scenes.HONEST_NODES, 50)
    requests = 12 if options.quick else 60
    progress.begin(f"honeypots {pots}")
    with scenes.market(network, honest) as targets:
        quiet, among = await scenes.asked_among_honeypots(
            targets, network.home / "gateways", pots=pots, requests=requests, at_once=3
        )

    def told(asked: Sequence[Asked]) -> Row:
        good = [each for each in asked if each.ok]
        return {
            "requests": len(asked),
            "succeeded": len(good) / len(asked),
            "billed": sum(each.billed for each in asked) / len(asked),
            "first_token_s": median([each.first_token_seconds for each in good] or [0.0]),
            "seconds": median([each.seconds for each in good] or [0.0]),
            "slowest_s": max(each.seconds for each in asked),
            "failures": sum(len(each.failures) for each in asked),
            "paid_hct": sum(each.paid_wei for each in asked) / HCT,
            "risked_hct": sum(each.risked_wei for each in asked) / HCT,
            "why": sorted({each.why for each in asked if each.why}),
        }

    return {"honest": honest, "pots": pots, "quiet": told(quiet), "among": told(among)}


def wanted(options: argparse.Namespace) -> list[str]:
    """Attacks and scenes to go through."""
    every = [*(name for name in ATTACKS if name not in LEFT_OUT), *SCENES]
    return list(options.only or every)


async def measure(
    options: argparse.Namespace, network: LocalNetwork, found: dict[str, Any], progress: Telling
) -> None:
    """Fill in all that was asked for; what fails is told and left out."""
    for index, name in enumerate(wanted(options)):
        try:
            await _measure(options, network, name, f"{name}-{index}", found, progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other attacks are worth measuring
            found["not_measured"].append(name)
            progress.say(f"{name} was not measured: {error!r}")


async def _measure(
    options: argparse.Namespace,
    network: LocalNetwork,
    name: str,
    home: str,
    found: dict[str, Any],
    progress: Telling,
) -> None:
    if name in CHAINS:
        where, served = CHAINS[name]
        for attack in ON_CHAIN:
            await sieges(options, served(network, f"{home}-{attack}"), where, attack, found, progress)
    elif name == "book":
        await books(options, network, found, progress)
    elif name == "honeypots":
        found["honeypots"] = await honeypots(options, network, progress)
    elif ATTACKS[name].role == "verifier":
        await sieges(options, scenes.judged(network, home), "verifier", name, found, progress)
    else:
        await sieges(options, scenes.served(network, home), "", name, found, progress)


def _steps(name: str, strengths: int) -> int:
    """How often `measure` tells of progress for an attack or a scene."""
    if name in CHAINS:
        return strengths * len(ON_CHAIN)
    return 1 + strengths * len(BOOK) if name == "book" else 1 if name == "honeypots" else strengths


class Bar:
    """Progress on the terminal."""

    def __init__(self, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("starting", total=total)
        self._begun = 0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        """The next step begins."""
        self._progress.update(self._task, description=what, completed=self._begun)
        self._begun += 1

    def say(self, sentence: str) -> None:
        """Print above the bar."""
        self._progress.console.print(sentence, markup=False, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*(name for name in ATTACKS if name not in LEFT_OUT), *SCENES]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--strength", action="append", type=int, help="may be given several times")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stretch")
    parser.add_argument("--lead", type=float, default=3.0, help="seconds of attack before it is measured")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one strength, short stretches, few honeypots")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/security.md")
    options = parser.parse_args(arguments)
    options.strength = options.strength or ([100] if options.quick else [100, 1000])
    if options.quick:
        options.seconds = min(options.seconds, 2.0)
    if min(options.strength) < 1 or options.seconds <= 0 or options.rounds < 1:
        parser.error("strength, seconds and rounds are numbers above zero")
    found: dict[str, Any] = {"attacks": [], "books": [], "honeypots": None, "not_measured": []}
    # So that nothing is left running by whoever stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with (
        Bar(sum(_steps(name, len(options.strength)) for name in wanted(options))) as bar,
        tempfile.TemporaryDirectory(prefix="siege-") as home,
        running_field(Path(home)) as network,
    ):
        try:
            trio.run(measure, options, network, found, bar)
        except (KeyboardInterrupt, BaseExceptionGroup) as error:
            if not isinstance(error, KeyboardInterrupt) and not error.subgroup(KeyboardInterrupt):
                raise
            bar.say("Ended early: the rest was not measured.")
    found["machine"] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.markdown:
        print(markdown(found))
    else:
        wide = Console(width=max(200, Console().width))
        for each in tables(found):
            wide.print(each)
    return 0


if __name__ == "__main__":
    sys.exit(main())
