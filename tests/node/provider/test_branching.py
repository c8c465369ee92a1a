"""A session that begins with a copy of what another one holds is a stage as any other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Role
from hypercluster.market.money.voucher import charge
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.engine import reference
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.provider import parking
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.replay.replayer import Replayer
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.messages import BRANCH, Error
from tests.node.helpers.providers import PRICE, PROMPT_PRICE, Served, new_wallet, running_provider
from tests.node.helpers.visits import CACHED_PRICE, Session
from tests.node.provider.test_parking import left, visit

PROMPT = [72, 101, 108, 108, 111, 32]


@pytest.fixture(scope="module")
def provider(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with running_provider(
        chain, stored_tiny, tmp_path_factory.mktemp("branching"), (0, 4), sessions=4, session_tokens=60
    ) as provider:
        yield provider


@pytest.fixture(scope="module")
def replayer(stored_tiny: StoredModel) -> Iterator[Replayer]:
    replayer = Replayer(stored_tiny, calibrate(stored_tiny, texts=1, tokens=40), threads=1)
    yield replayer
    replayer.close()


@pytest.fixture(scope="module")
def greedy(stored_tiny: StoredModel) -> list[int]:
    assert stored_tiny.source
    return [int(token) for token in reference.generate(stored_tiny.source, PROMPT, 12, threads=1).ids]


async def branch(
    host: Host, provider: Served, account: OutgoingAccount, of: Session, position: int, steps: int = 0
) -> Session:
    return await visit(host, provider, account, of, position, branch=steps or len(of.steps))


async def test_a_branch_is_a_stage_of_its_own(
    chain: Chain, provider: Served, replayer: Replayer, greedy: list[int]
) -> None:
    """Off a session that goes on, that goes back behind there, and that is parked."""
    assert BRANCH in provider.advert.features
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host:
        first = await visit(host, provider, account)
        assert await first.step(0, PROMPT) == greedy[0]
        second = await branch(host, provider, account, first, 6)
        assert (second.accepted.position, second.accepted.cached_price_wei) == (6, CACHED_PRICE)
        assert second.record.session != first.record.session
        assert await first.step(6, greedy[:1]) == greedy[1]
        other = await second.step(6, [5])
        assert await first.step(7, greedy[1:2]) == greedy[2]
        # Of steps that went on meanwhile, as of a time before them.
        third = await branch(host, provider, account, first, 6, steps=1)
        assert third.accepted.position == 6
        assert await third.step(6, [5]) == other
        assert await first.park() == 600
        fourth = await branch(host, provider, account, first, 7)
        assert fourth.accepted.position == 7
        assert await fourth.step(7, greedy[1:3]) == greedy[3]
        # A branch of a branch.
        assert await second.park() == 600
        fifth = await branch(host, provider, account, second, 7)
        assert fifth.accepted.position == 7
        assert not isinstance(await fifth.step(7, [7]), Error)
        sessions = [first, second, third, fourth, fifth]
        for each in sessions[2:]:
            await each.park()
    prices = charge(PRICE, PROMPT_PRICE, 6), charge(PRICE, PROMPT_PRICE, 2)
    paid = prices[0] + 5 * PRICE + prices[1] + CACHED_PRICE * (6 + 6 + 7 + 7)
    row = provider.row(account)
    assert row.billed == row.best == paid
    rows = {
        each.session_id: each.billed
        for each in provider.ledger.history.sessions(role=Role.PROVIDER)
        if each.channel_id == account.channel_id
    }
    assert sum(rows.values()) == paid
    assert rows[third.record.session] == CACHED_PRICE * 6 + PRICE
    lengths = []
    for each in sessions:
        transcript = provider.provider.transcripts.load(each.record.stage.struct_hash())
        # Every receipt is signed over the stage's own name and its own rows, and all of it can be computed again.
        assert len(transcript.receipts(chain.disputes.domain)) == len(each.steps)
        assert transcript.steps == tuple(each.steps)
        assert replayer.judge(transcript).finding is Finding.PASS
        lengths.append(len(transcript.steps))
    assert lengths == [3, 2, 2, 4, 3]


async def test_what_is_not_there_any_more_is_not_begun_with(
    chain: Chain, provider: Served, greedy: list[int]
) -> None:
    """Nor what never was, is somebody else's, or is not signed for yet: a new session begins, and holds nothing."""
    wallet, stranger = new_wallet(chain), new_wallet(chain)
    account, theirs = wallet.channel(provider), stranger.channel(provider)
    async with running_host(wallet.session_key) as host, running_host(stranger.session_key) as other:
        first = await visit(host, provider, account)
        assert await first.step(0, PROMPT) == greedy[0]
        assert not isinstance(await first.step(6, [5, 6, 7]), Error)
        # Back before what the first two steps left.
        assert await first.step(4, [*PROMPT[4:], greedy[0]]) == greedy[1]
        for who, whose, position, steps in (
            (host, account, 6, 1),  # the third step changed what was behind 4
            (host, account, 9, 2),
            (host, account, 7, 4),  # there were three
            (host, account, 8, 3),  # they came to 7
            (other, theirs, 4, 1),
        ):
            session = await branch(who, provider, whose, first, position, steps)
            assert session.accepted.position == 0, (position, steps)
            await session._connection.close()
        before = await branch(host, provider, account, first, 4, 1)
        assert before.accepted.position == 4
        # Without a paid step it is nothing that another one could begin with.
        early = await branch(host, provider, account, before, 4, 1)
        assert early.accepted.position == 0
        await early._connection.close()
        assert await before.step(4, [*PROMPT[4:], greedy[0]]) == greedy[1]
        for each in (first, before):
            await each._connection.close()
        await left(first, provider)


async def test_a_branch_is_paid_for_before_anything_is_signed(chain: Chain, provider: Served) -> None:
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    folder = provider.provider.transcripts.folder
    async with running_host(wallet.session_key) as host:
        first = await visit(host, provider, account)
        await first.step(0, PROMPT)
        files = {*folder.iterdir()}
        second = await branch(host, provider, account, first, 6)
        refused = await second.step(6, [5], short_of=1)
        assert isinstance(refused, Error)
        assert {*folder.iterdir()} == files
        assert provider.row(account).billed == first.cost
        await first._connection.close()
        await left(second, provider)


async def test_what_is_too_long_to_be_read_again_is_not_begun_with(
    chain: Chain, provider: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = new_wallet(chain)
    account = wallet.channel(provider)
    async with running_host(wallet.session_key) as host:
        first = await visit(host, provider, account)
        await first.step(0, PROMPT)
        monkeypatch.setattr(parking, "MOST_BYTES", 1)
        second = await branch(host, provider, account, first, 6)
        assert second.accepted.position == 0
        monkeypatch.undo()
        third = await branch(host, provider, account, first, 6)
        assert third.accepted.position == 6
        for each in (first, second, third):
            await each._connection.close()
        await left(first, provider)
