"""Rows go from provider to provider: the same tokens, exact bills, receipts that fit; and around bad links."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.reputation import Evidence
from hypercluster.node.client import stepping
from hypercluster.node.client.blame import Then, judge, seen_in
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.limits import Spending
from hypercluster.node.client.opening import Opener, Terms, recipient_of
from hypercluster.node.client.own_layers import Ends, OwnLayers
from hypercluster.node.client.pipeline import Pipeline
from hypercluster.node.client.receipt_files import paid_session
from hypercluster.node.engine import reference
from hypercluster.node.evidence.bundle import SignedStep
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.host import running_host
from hypercluster.node.provider import awaiting
from hypercluster.node.provider.links import Outlet
from hypercluster.node.provider.process import HONEST
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.cheating_links import CheatingOutlet
from hypercluster.node.testnet.cheats import LINK_CHEATS
from hypercluster.node.wire.links import Rows
from hypercluster.node.wire.messages import CHAIN, LinkState
from tests.node.helpers.providers import (
    FREE,
    PRICE,
    PROMPT_PRICE,
    Served,
    Wallet,
    new_wallet,
    running_provider,
)

RANGES = ((0, 1), (1, 3), (3, 4))
PROMPT = [72, 101, 108, 108]
TOKENS = 12
STEP_TOKENS = 16
WAIT = 60.0


FROZEN = "frozen"
CUT = "cut"


class Moody(CheatingOutlet):
    """A link that is honest, cheats, is cut or freezes, as a test says."""

    def __init__(self, moods: list[str], frame_bound: int) -> None:
        super().__init__("stall", frame_bound)
        self._moods = moods

    async def send(self, rows: Rows) -> bool:
        mood = self._moods[-1] if self._moods else ""
        if mood == FROZEN:
            while self._moods:
                await trio.sleep(0.05)
        if mood == CUT and self._connection is not None:
            await self._connection.reset()
        if mood in LINK_CHEATS:
            self.cheat = mood
            return await super().send(rows)
        self._old = rows
        return await Outlet.send(self, rows)


@dataclass(eq=False)
class World:
    """Three providers of a path, the moods of the first, and what the unsplit model says."""

    chain: Chain
    stored: StoredModel
    path: list[Served]
    moods: list[str]
    greedy: list[int]

    @asynccontextmanager
    async def opened(
        self,
        wallet: Wallet,
        folder: Path,
        *,
        chain: bool = True,
        capacity: int = 100,
        own: OwnLayers | None = None,
        pay_ahead: int = 1,
        spending: Spending = FREE,
    ) -> AsyncIterator[tuple[Opener, Pipeline]]:
        manifest = self.stored.manifest
        adverts = [served.advert for served in self.path]
        if own is not None:
            adverts = [a for a in adverts if own.start <= a.layer_start and a.layer_stop <= own.stop]
        accounts = {recipient_of(served.advert): wallet.channel(served) for served in self.path}
        transcripts = TranscriptStore(folder / "transcripts", keep_seconds=3600, max_bytes=2**30)
        async with running_host(wallet.session_key) as host:
            opener = Opener(
                host,
                layers=manifest.layers,
                n_vocab=manifest.n_vocab,
                reads_tokens=manifest.reads_tokens,
                domain=self.chain.disputes.domain,
                transcripts=transcripts,
                own=own,
            )
            terms = Terms(
                capacity=capacity, top_k=8, wire_dtype=WireDtype.F32, chain=chain, pay_ahead=pay_ahead
            )
            with trio.fail_after(WAIT):
                async with await opener.open(adverts, accounts, terms, spending) as pipeline:
                    yield opener, pipeline


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    assert stored_tiny.source
    greedy = reference.generate(stored_tiny.source, PROMPT, 60, threads=1)
    folder = tmp_path_factory.mktemp("providers")
    terms = {"sessions": 3, "session_tokens": 100, "step_tokens": STEP_TOKENS}
    moods: list[str] = []
    with ExitStack() as stack:
        path: list[Served] = []
        for a, b in RANGES:
            ways = replace(HONEST, outlet=partial(Moody, [] if path else moods))
            path.append(
                stack.enter_context(
                    running_provider(chain, stored_tiny, folder / f"{a}", (a, b), ways=ways, **terms)
                )
            )
        yield World(chain, stored_tiny, path, moods, [int(token) for token in greedy.ids])


@pytest.fixture(autouse=True)
def honest(world: World) -> Iterator[None]:
    """Each test begins with honest links, and leaves no session behind."""
    yield
    world.moods.clear()

    async def emptied() -> None:
        with trio.fail_after(WAIT):
            while any(served.open_sessions for served in world.path):
                await trio.sleep(0.02)

    trio.run(emptied)


async def linked(pipeline: Pipeline) -> list[int]:
    """The first tokens, until all links stand."""
    taken: list[int] = []
    pending = list(PROMPT)
    while not taken or any(hop.link is not LinkState.STANDS for hop in pipeline.hops[:-1]):
        taken.append(int((await pipeline.run(pending)).ids[0, 0]))
        pending = taken[-1:]
        assert len(taken) < 40
        await trio.sleep(0.02)
    return taken


async def go_on(pipeline: Pipeline, taken: list[int], tokens: int) -> None:
    while len(taken) < tokens:
        taken.append(int((await pipeline.run(taken[-1:])).ids[0, 0]))


def exact(world: World, pipeline: Pipeline, steps: int) -> None:
    """Everybody was paid for the prompt and `steps` tokens, to the wei, and knows it."""
    cost = charge(PRICE, PROMPT_PRICE, len(PROMPT)) + steps * PRICE
    for served, hop in zip(world.path, pipeline.hops, strict=True):
        row = served.row(hop.account)
        assert (hop.paid_wei, hop.risked_wei, row.billed, row.best) == (cost, 0, cost, cost)


def steps_of(hop: Hop) -> tuple[SignedStep, ...]:
    return paid_session(hop).steps


async def test_rows_go_from_provider_to_provider(world: World, tmp_path: Path) -> None:
    assert all(CHAIN in served.advert.features for served in world.path)
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        before = len(taken)
        await go_on(pipeline, taken, before + TOKENS)
        # Guesses go as well, and back.
        wrong = [(token + 1) % 300 for token in world.greedy[len(taken) : len(taken) + 3]]
        best = await pipeline.run(taken[-1:], wrong)
        taken.append(int(best.ids[0, 0]))
        pipeline.rewind(len(PROMPT) + len(taken) - 1)
        await go_on(pipeline, taken, len(taken) + 3)
        receipts = [hop.receipts.last for hop in pipeline.hops]
    assert taken == world.greedy[: len(taken)]
    for one, other in pairwise(receipts):
        assert one is not None
        assert other is not None
        assert one.out_root == other.in_root


async def test_one_voucher_pays_for_several_tokens(world: World, tmp_path: Path) -> None:
    spent, risked = FREE.spent_wei, FREE.risked_wei
    async with world.opened(new_wallet(world.chain), tmp_path, pay_ahead=4) as (_, pipeline):
        taken = await linked(pipeline)
        await go_on(pipeline, taken, len(taken) + TOKENS)
        wrong = [(token + 1) % 300 for token in world.greedy[len(taken) : len(taken) + 3]]
        taken.append(int((await pipeline.run(taken[-1:], wrong)).ids[0, 0]))
        pipeline.rewind(len(PROMPT) + len(taken) - 1)
        await go_on(pipeline, taken, len(taken) + 3)
        for served, hop in zip(world.path, pipeline.hops, strict=True):
            row = served.row(hop.account)
            assert row.billed == hop.paid_wei
            assert row.best == hop.paid_wei + hop.at_risk_wei <= hop.paid_wei + 3 * PRICE
            vouchers = [step.cumulative_wei for step in steps_of(hop)]
            assert len(set(vouchers)) <= len(vouchers) / 2
    assert taken == world.greedy[: len(taken)]
    hops = pipeline.hops
    assert FREE.spent_wei - spent == sum(hop.paid_wei for hop in hops)
    assert FREE.risked_wei - risked == sum(hop.at_risk_wei for hop in hops) > 0


@pytest.mark.parametrize("ends", ["0:1", "3:4"])
async def test_between_own_layers_rows_go_from_provider_to_provider_as_well(
    world: World, tmp_path: Path, ends: str
) -> None:
    prompt = PROMPT + world.greedy[:40]
    with closing(OwnLayers(Ends(ranges=(ends,), threads=1), world.stored)) as own:
        async with world.opened(new_wallet(world.chain), tmp_path, own=own) as (_, pipeline):
            taken = await linked(pipeline)
            await go_on(pipeline, taken, len(taken) + TOKENS)
            pipeline.rewind(0)
            best = await pipeline.run(prompt)
            assert [hop.advert.layer_start for hop in pipeline.hops] == ([1, 3] if ends == "0:1" else [0, 1])
    assert taken == world.greedy[: len(taken)]
    assert int(best.ids[0, 0]) == world.greedy[40]


async def test_bills_are_exact(world: World, tmp_path: Path) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        await go_on(pipeline, taken, len(taken) + TOKENS)
    exact(world, pipeline, len(taken) - 1)


async def test_a_long_prompt_flows_over_links(world: World, tmp_path: Path) -> None:
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        pipeline.rewind(0)
        known = [*PROMPT, *world.greedy]
        best = await pipeline.run(known[: 3 * STEP_TOKENS + 2])
        assert int(best.ids[0, 0]) == known[3 * STEP_TOKENS + 2]
        assert all(hop.forwards for hop in pipeline.hops[:-1])
        assert taken


@pytest.mark.parametrize("mood", ["forward-wrong", "replay-old-rows", "stall", CUT])
async def test_a_bad_link_is_passed_by_and_nobody_pays_for_it_but_a_step(
    world: World, tmp_path: Path, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are right; what was computed of wrong rows is paid, of rows that never came nothing is."""
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.5)
    async with world.opened(new_wallet(world.chain), tmp_path) as (opener, pipeline):
        taken = await linked(pipeline)
        await go_on(pipeline, taken, len(taken) + 2)
        world.moods.append(mood)
        await go_on(pipeline, taken, len(taken) + 4)
        assert [hop.forwards for hop in pipeline.hops[:-1]] == [False, True]
        adverts = [served.advert for served in world.path]
        assert [joint.before for joint in opener.links.joints(adverts)] == [adverts[1]]
    assert taken == world.greedy[: len(taken)]
    steps = len(taken) - 1
    wrong = mood in ("forward-wrong", "replay-old-rows")
    for place, (served, hop) in enumerate(zip(world.path, pipeline.hops, strict=True)):
        cost = charge(PRICE, PROMPT_PRICE, len(PROMPT)) + steps * PRICE
        row = served.row(hop.account)
        assert (hop.risked_wei, row.billed, row.best) == (0, hop.paid_wei, hop.paid_wei)
        # Whoever comes after the one that got wrong rows may be told before it has them.
        again = ([0], [PRICE], [0, PRICE])[place] if wrong else [0]
        assert hop.paid_wei - cost in again


async def test_who_withholds_rows_and_does_not_show_them_is_left(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaiting, "LEAST_SECONDS", 0.5)
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        world.moods.append("withhold-rows")
        with pytest.raises(HopFailed) as failure:
            await pipeline.run(taken[-1:])
        assert failure.value.peer == world.path[0].advert.peer
        found = judge(failure.value, absent=False, clock_confirmed=True, tried=0)
        assert (found.then, found.evidence) == (Then.LEAVE, Evidence.REFUSAL)
        assert not any(hop.unanswered for hop in pipeline.hops)
    for served, hop in zip(world.path[1:], pipeline.hops[1:], strict=True):
        row = served.row(hop.account)
        assert (row.billed, hop.risked_wei) == (hop.paid_wei, 0)
        # They have the voucher of the step that nobody brought rows for, and nothing follows that it pays for.
        assert row.best == hop.paid_wei + hop.at_risk_wei == hop.paid_wei + PRICE


async def test_a_frozen_provider_holds_nobody_up_behind_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone is blamed; the others are at rest, unpaid for the step, and could go on."""
    monkeypatch.setattr(stepping, "STEP_SECONDS", 1.0)
    async with world.opened(new_wallet(world.chain), tmp_path) as (_, pipeline):
        taken = await linked(pipeline)
        before = [hop.position for hop in pipeline.hops]
        world.moods.append(FROZEN)
        with pytest.raises(HopFailed) as failure:
            await pipeline.run(taken[-1:])
        assert failure.value.peer == world.path[0].advert.peer
        assert seen_in(failure.value) is Evidence.SILENCE
        assert [hop.position for hop in pipeline.hops] == before
        assert [hop.risked_wei for hop in pipeline.hops] == [PRICE, 0, 0]
        # The second is asked over again, by the client, with what the first put out before.
        for served, hop in zip(world.path[1:], pipeline.hops[1:], strict=True):
            assert served.row(hop.account).billed == hop.paid_wei
