"""What strangers can do to honest people: their rate, time to the first token and CPU beside each attack.

    python scripts/bench_siege.py [--only NAME ...] [--strength 100 --strength 1000] [--seconds 4] [--rounds 1]
                                  [--quick] [--json]

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

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
Advance = Callable[[str], None]
Row = dict[str, Any]
Sides = AbstractContextManager[scenes.Scene]


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
    options: argparse.Namespace, side: Sides, where: str, attack: str, advance: Advance
) -> list[Row]:
    """An attack at each strength on a node of its own."""
    found = []
    with side as scene:
        async with scene.crowd(scene.target) as crowd:
            for strength in options.strength:
                advance(f"{attack} {strength} {where}".strip())
                rounds = [
                    row_of(
                        await besiege(
                            crowd,
                            attack,
                            strength,
                            options.seconds,
                            lead=options.lead,
                            newcomers=where not in ("verifier", "chain hangs"),
                            meanwhile=scene.meanwhile,
                        ),
                        where,
                    )
                    for _ in range(options.rounds)
                ]
                found.append(middle(rounds))
    return found


async def books(options: argparse.Namespace, network: LocalNetwork, advance: Advance) -> list[Row]:
    """Seconds until an honest newcomer is known, quiet and beside each flood."""
    found: list[Row] = []
    with running_target(network, "book") as target:
        for attack in ("", *BOOK):
            for strength in options.strength if attack else (0,):
                advance(f"book {attack or 'quiet'} {strength or ''}".strip())
                name = f"newcomer-{attack}-{strength}"
                try:
                    if not attack:
                        seconds: float | None = await scenes.seconds_until_known(network, target, name)
                    else:
                        async with attacking(target, attack, strength):
                            seconds = await scenes.seconds_until_known(network, target, name)
                except trio.TooSlowError:
                    seconds = None
                found.append({"attack": attack or "quiet", "strength": strength, "known_after_s": seconds})
    return found


async def honeypots(options: argparse.Namespace, network: LocalNetwork, advance: Advance) -> Row:
    """Requests with and without honeypots among honest providers."""
    honest, pots = (3, 15) if options.quick else (scenes.HONEST_NODES, 50)
    requests = 12 if options.quick else 60
    advance(f"honeypots {pots}")
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


async def measured(options: argparse.Namespace, network: LocalNetwork, advance: Advance) -> dict[str, Any]:
    """All that was asked for."""
    found: dict[str, Any] = {"attacks": [], "books": [], "honeypots": None}
    for index, name in enumerate(wanted(options)):
        home = f"{name}-{index}"
        if name in CHAINS:
            where, served = CHAINS[name]
            for attack in ON_CHAIN:
                side = served(network, f"{home}-{attack}")
                found["attacks"] += await sieges(options, side, where, attack, advance)
        elif name == "book":
            found["books"] = await books(options, network, advance)
        elif name == "honeypots":
            found["honeypots"] = await honeypots(options, network, advance)
        elif ATTACKS[name].role == "verifier":
            found["attacks"] += await sieges(options, scenes.judged(network, home), "verifier", name, advance)
        else:
            found["attacks"] += await sieges(options, scenes.served(network, home), "", name, advance)
    return found


def tables(found: dict[str, Any]) -> Iterator[Table | str]:
    """For people."""
    if found["attacks"]:
        table = Table(title="Honest payers beside each attack")
        columns = ("attack", "strength", "sessions/s", "kept", "first token, ms", "newcomer, s", "node CPU",
                   "attacker CPU", "HCT locked", "gas to begin", "gas/min", "HCT/min", "MB/min")  # fmt: skip
        for column in columns:
            table.add_column(column, justify="left" if column == "attack" else "right")
        for row in found["attacks"]:
            came = row["newcomer_s"]
            table.add_row(
                f"{row['what']}{', ' + row['where'] if 'chain' in row['where'] else ''}",
                f"{row['strength']:,}",
                f"{row['quiet_per_s']:.1f} -> {row['attacked_per_s']:.1f}",
                f"{row['kept']:.0%}",
                f"{row['quiet_first_token_ms']:.0f} -> {row['first_token_ms']:.0f}",
                f"{came:.1f}"
                if came is not None
                else "-"
                if row["where"] in ("verifier", "chain hangs")
                else "never",
                f"{row['quiet_node_cpu']:.2f} -> {row['node_cpu']:.2f}",
                f"{row['attacker_cpu']:.2f}",
                f"{row['locked_hct']:.3g}",
                f"{row['gas_to_begin']:,}",
                f"{row['gas_a_minute']:,.0f}",
                f"{row['spent_hct_a_minute']:.2g}",
                f"{row['mbytes_a_minute']:.1f}",
            )
        yield table
    if found["books"]:
        table = Table("flood", "adverts/s", "known after, s", title="A newcomer's advert in somebody's book")
        for row in found["books"]:
            after = row["known_after_s"]
            table.add_row(
                row["attack"], f"{row['strength']:,}", "not in 90" if after is None else f"{after:.1f}"
            )
        yield table
    if pots := found["honeypots"]:
        table = Table(
            "", "succeeded", "with a bill", "first token, s", "whole, s", "slowest, s", "hops lost", "HCT risked",
            title=f"Requests of a client that knows nobody, {pots['honest']} honest providers",
        )  # fmt: skip
        for name in ("quiet", "among"):
            row = pots[name]
            table.add_row(
                f"{pots['pots']} honeypots" if name == "among" else "no honeypots",
                f"{row['succeeded']:.0%} of {row['requests']}",
                f"{row['billed']:.0%}",
                f"{row['first_token_s']:.2f}",
                f"{row['seconds']:.2f}",
                f"{row['slowest_s']:.1f}",
                str(row["failures"]),
                f"{row['risked_hct']:.2g}",
            )
        yield table


def _steps(name: str, strengths: int) -> int:
    """How often `measured` tells of progress for an attack or a scene."""
    if name in CHAINS:
        return strengths * len(ON_CHAIN)
    return 1 + strengths * len(BOOK) if name == "book" else 1 if name == "honeypots" else strengths


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
    options = parser.parse_args(arguments)
    options.strength = options.strength or ([100] if options.quick else [100, 1000])
    if options.quick:
        options.seconds = min(options.seconds, 2.0)
    if min(options.strength) < 1 or options.seconds <= 0 or options.rounds < 1:
        parser.error("strength, seconds and rounds are numbers above zero")
    # So that nothing is left running by whoever stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console(stderr=True)
    total = sum(_steps(name, len(options.strength)) for name in wanted(options))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory(prefix="siege-") as home,
        running_field(Path(home)) as network,
    ):
        task = progress.add_task("starting", total=total)

        def advance(what: str) -> None:
            done = progress.tasks[0].description != "starting"
            progress.update(task, description=what, advance=int(done))

        found = trio.run(measured, options, network, advance)
        progress.update(task, completed=total)
    found["machine"] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        wide = Console(width=max(200, Console().width))
        for each in tables(found):
            wide.print(each)
    return 0


if __name__ == "__main__":
    sys.exit(main())
