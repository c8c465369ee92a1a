"""Attacks in a process of their own, and the honest rate before, during and after."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import trio

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from tests.siege.honest import Crowd, Measured, newcomer
from tests.siege.tally import Tally
from tests.siege.target import Target

ROOT = Path(__file__).resolve().parents[2]
LOG = "attackers.log"
"""beside the deployment file: what attackers complain of"""


@dataclass(eq=False)
class Attackers:
    """A running attack."""

    process: subprocess.Popen[str]
    since: float = 0.0
    """time.perf_counter() when it was under way"""
    began: Tally = field(default_factory=Tally)
    """what it cost until then"""

    async def tally(self) -> Tally:
        """What it got and cost so far."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Tally.from_json(await self._line())

    async def felt(self) -> None:
        """Return when something came of it, or nothing in 10 s."""
        with trio.move_on_after(10):
            while not (await self.tally()).acts:
                await trio.sleep(0.05)

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
        attackers = Attackers(process)
        assert (await attackers._line()).strip() == "under way"
        attackers.began, attackers.since = await attackers.tally(), time.perf_counter()
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
    began: Tally
    """what the attack cost until it was under way"""
    tally: Tally
    """the same at its end, `seconds` later"""
    seconds: float
    newcomer_seconds: float | None
    """from a wallet to the first token during the attack; None where that failed, or was not tried"""

    @property
    def quiet_rate(self) -> float:
        """Sessions/s without the attack."""
        return (self.before.rate + self.after.rate) / 2

    @property
    def kept(self) -> float:
        """The share of their rate that honest payers kept, 1 for all of it."""
        return self.during.rate / self.quiet_rate if self.quiet_rate else 0.0


async def besiege(
    crowd: Crowd,
    attack: str,
    strength: int,
    seconds: float,
    *,
    least: int = 0,
    lead: float = 2.0,
    rest: float = 1.0,
    newcomers: bool = False,
    meanwhile: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Siege:
    """Measure for `seconds` each, and until `least` sessions were tried: quiet, attacked, quiet.

    The attack has got answers for `lead` s when measuring begins, and over for `rest` s when the last one does. With
    `newcomers`, somebody tries to get in while it lasts; `meanwhile` is entered once it is under way.
    """
    before = await crowd.measure(seconds, least=least)
    async with attacking(crowd.target, attack, strength) as attackers:
        with meanwhile():
            await attackers.felt()
            await trio.sleep(lead)
            during = await crowd.measure(seconds, least=least)
            tally, lasted = await attackers.tally(), time.perf_counter() - attackers.since
            came = await _newcomer(crowd.target) if newcomers else None
    await trio.sleep(rest)
    after = await crowd.measure(seconds, least=least)
    return Siege(
        attack=attack,
        strength=strength,
        before=before,
        during=during,
        after=after,
        began=attackers.began,
        tally=tally,
        seconds=lasted,
        newcomer_seconds=came,
    )


async def _newcomer(target: Target) -> float | None:
    try:
        return await newcomer(target)
    except (NodeError, MarketError, OSError, trio.TooSlowError):
        return None
