"""Attacks in a process of their own, and the honest rate before, during and after."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.siege.honest import Crowd, Measured
from tests.siege.tally import Tally
from tests.siege.target import Target

ROOT = Path(__file__).resolve().parents[2]
LOG = "attackers.log"
"""beside the deployment file: what attackers complain of"""


@dataclass(eq=False)
class Attackers:
    """A running attack."""

    process: subprocess.Popen[str]
    since: float
    """time.perf_counter() when it was under way"""

    async def tally(self) -> Tally:
        """What it got and cost so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Tally.from_json(await self._line())

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = await trio.to_thread.run_sync(self.process.stdout.readline)
        assert line, "the attackers ended: see attackers.log beside the deployment file"
        return line


@asynccontextmanager
async def attacking(target: Target, attack: str, strength: int) -> AsyncIterator[Attackers]:
    """The attack of that name, under way until the end of the block."""
    with (Path(target.deployment).parent / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.siege.attacker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        order = {"attack": attack, "target": target.to_json(), "strength": strength}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        attackers = Attackers(process, 0.0)
        assert (await attackers._line()).strip() == "under way"
        attackers.since = time.perf_counter()
        yield attackers
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Siege:
    """Honest payers beside an attack: before it, during it, and after it."""

    attack: str
    strength: int
    before: Measured
    during: Measured
    after: Measured
    tally: Tally
    """of the whole attack, over `seconds`"""
    seconds: float

    @property
    def quiet_rate(self) -> float:
        """Sessions/s without the attack."""
        return (self.before.rate + self.after.rate) / 2

    @property
    def kept(self) -> float:
        """The share of their rate that honest payers kept, 1 for all of it."""
        return self.during.rate / self.quiet_rate


async def besiege(
    crowd: Crowd, attack: str, strength: int, seconds: float, *, lead: float = 2.0, rest: float = 1.0
) -> Siege:
    """Measure for `seconds` each: quiet, attacked, quiet. The attack has been on for `lead` s when measuring begins,
    and over for `rest` s when the last one does.
    """
    before = await crowd.measure(seconds)
    async with attacking(crowd.target, attack, strength) as attackers:
        await trio.sleep(lead)
        during = await crowd.measure(seconds)
        tally, lasted = await attackers.tally(), time.perf_counter() - attackers.since
    await trio.sleep(rest)
    after = await crowd.measure(seconds)
    return Siege(
        attack=attack,
        strength=strength,
        before=before,
        during=during,
        after=after,
        tally=tally,
        seconds=lasted,
    )
