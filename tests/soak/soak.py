"""The whole of it: a storm, calm until all cases are decided and all seats are free, the end, and the reckoning."""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from hypercluster.market.chain.disputes import CaseOpened, CaseResolved
from hypercluster.node.home.running import RUNNING
from hypercluster.node.network.host import running_host
from hypercluster.node.wire.adverts import decode_advert
from hypercluster.node.wire.codec import decode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import ADVERT_PROTOCOL, SignedAdvert
from tests.soak.reckoning import reckon
from tests.soak.storm import Storm, storm, terms_of
from tests.soak.town import READY_SECONDS, Resident

CALM_SECONDS = 60.0
"""beyond the time that a case takes"""
FREE_SECONDS = 60.0


@dataclass
class Soaked:
    """What was killed, what was found, and a sentence for everything that is wrong."""

    seed: int
    kills: dict[str, int]
    lost: dict[str, int]
    answers: dict[str, int]
    figures: dict[str, int]
    wrong: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return vars(self)


def soak(
    home: Path,
    *,
    kills: int,
    seed: int,
    seconds: float = math.inf,
    slow: int = 1,
    on_kill: Callable[[int], None] = lambda count: None,
) -> Soaked:
    """Kill so often, for so long at most, let everything come to rest, and look at what is left.

    Everybody has `slow` times as long for what has a deadline.
    """
    with storm(home, seed, slow) as raging:
        raging.rage(kills, on_kill, seconds)
        town = raging.town
        standing = [each for each in town.of("provider", "verifier", "gateway") if each.honest]
        town.wait(standing, slow * READY_SECONDS)
        town.wait_for_payers(slow * READY_SECONDS)
        case_seconds = terms_of(slow).case_seconds + CALM_SECONDS
        _decided(raging, case_seconds)
        town.dismiss("client", "gateway")
        if not _decided(raging, 0.0):
            # An audit at the gateway opened one just before it ended: its next run sees that through.
            town.call_back("gateway")
            town.wait(town.of("gateway"), slow * READY_SECONDS)
            _decided(raging, case_seconds)
            town.dismiss("gateway")
        wrong = _stuck(standing)
        town.end()
        wrong += [f"a process was left: {each}" for each in _orphans(home)]
        found = reckon(town)
    return Soaked(
        seed,
        dict(raging.kills),
        dict(raging.lost),
        dict(raging.answers),
        dict(found.figures),
        wrong + found.wrong,
    )


def _decided(raging: Storm, seconds: float) -> bool:
    """Whether no case is open any more, or could be, once that is so or the time is over."""
    disputes = raging.town.network.chain.disputes
    deadline = time.monotonic() + seconds
    while True:
        events, _ = disputes.events_from(raging.town.network.chain.deployment.block)
        opened = {event.case_id for event in events if isinstance(event, CaseOpened)}
        if opened <= {event.case_id for event in events if isinstance(event, CaseResolved)}:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(1.0)


def _stuck(servers: Sequence[Resident]) -> list[str]:
    """A sentence for each node that has a seat taken though nobody is there; all have some time to find out."""
    deadline = time.monotonic() + FREE_SECONDS
    while (taken := trio.run(_taken, servers)) and time.monotonic() < deadline:
        time.sleep(2.0)
    return [f"{name} has {count} seats taken by nobody" for name, count in taken.items()]


async def _taken(servers: Sequence[Resident]) -> dict[str, int]:
    found = {}
    async with running_host(secrets.token_bytes(32)) as host:
        for each in servers:
            if each.kind == "gateway":
                continue
            told = json.loads((each.home / RUNNING).read_text())
            stream = await host.open_stream(
                told["peer"], ADVERT_PROTOCOL, [a.rsplit("/p2p/", 1)[0] for a in told["addresses"]], 10
            )
            try:
                signed = decode(await Frames(stream).receive(10))
            finally:
                await stream.close()
            assert isinstance(signed, SignedAdvert)
            advert = decode_advert(signed.body)
            if advert.free < advert.capacity:
                found[each.name] = advert.capacity - advert.free
    return found


def _orphans(home: Path) -> Iterator[str]:
    """Command lines of processes of this home that still run."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                told = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"HC_HOME={home}".encode() in told:
                yield command
