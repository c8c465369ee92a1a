"""Whoever knows a stage on trial, as the accused does, dialled all eight places for its evidence first and sent a step
now and then: the accuser heard FULL until the time was over, and the case came to nothing. Now the accuser, whom the
chain names, has a place of its own, and of the others the slowest goes.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import coincurve
import numpy as np
import pytest
import trio
from eth_account import Account as Accounts
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, DisputeTerms, Sender, deploy
from hypercluster.market.chain.disputes import CaseOpened
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.delivery import delivery_hash
from hypercluster.node.client.auditing.accuser import NO_CHANNEL
from hypercluster.node.client.auditing.delivery import opening_for
from hypercluster.node.errors import ErrorCode
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from hypercluster.node.testnet.faucet import give
from hypercluster.node.verifier.places import GRACE_SECONDS
from hypercluster.node.verifier.process import DELIVERIES
from hypercluster.node.wire.audit import AUDIT_PROTOCOL, AuditEnd, AuditOpen
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.messages import Accept, Error
from tests.node.helpers.stages import served
from tests.node.helpers.verifiers import Judging, running_verifier, staked

pytestmark = pytest.mark.slow

TEXT = [int(token) for token in np.random.default_rng(5).integers(0, 256, 24)]


@dataclass(frozen=True, eq=False)
class Trial:
    """A case before a committee on which a running verifier sits; its accuser, and what the evidence is."""

    chain: Chain
    member: Judging
    accuser: LocalAccount
    case_id: int
    evidence: Transcript


@pytest.fixture(scope="module")
def bounds(stored_tiny: StoredModel) -> Bounds:
    return calibrate(stored_tiny, texts=1, tokens=40)


@pytest.fixture
def trial(stored_tiny: StoredModel, bounds: Bounds, tmp_path: Path) -> Iterator[Trial]:
    terms = DisputeTerms(
        seats=3,
        evidence_window=900,
        draw_window=600,
        commit_window=600,
        reveal_window=600,
        serve_window=600,
        draw_delay=0,
    )
    with running_anvil() as url:
        deployer = Accounts.from_key(DEPLOYER_KEY)
        chain = Chain(url, deploy(url, deployer, grace_seconds=60, unbonding_seconds=10_000, terms=terms))
        keys = [staked(chain) for _ in range(3)]
        for node, _ in keys[1:]:
            chain.disputes.cases.enlist(Sender(chain, node))
        with running_verifier(chain, stored_tiny, bounds, tmp_path, keys=keys[0], committees=True) as member:
            accused, _ = staked(chain)
            evidence = served(stored_tiny, 0, 2, TEXT, key=bytes(accused.key), domain=chain.disputes.domain)
            accuser = Accounts.create()
            give(chain, accuser.address, 100 * HCT)
            receipt, signature = evidence.receipts(chain.disputes.domain)[-1]
            mined = chain.disputes.cases.open(Sender(chain, accuser), receipt, signature)
            case_id = next(e.case_id for e in chain.disputes.events_in(mined) if isinstance(e, CaseOpened))
            yield Trial(chain, member, accuser, case_id, evidence)


async def drawn(trial: Trial) -> None:
    """Until the verifier has drawn the committee, and knows that it sits on it, as one of three."""
    duties, cases = trial.member.ledger.trust.duties, trial.chain.disputes.cases
    with trio.fail_after(300):
        while not await trio.to_thread.run_sync(duties, cases.address, trial.chain.chain_id):
            await trio.sleep(0.2)


@asynccontextmanager
async def delivery(
    trial: Trial, host: Host, wallet: LocalAccount | None = None
) -> AsyncIterator[tuple[Connection, Message]]:
    """A connection on which evidence was announced, with the proof of `wallet` if given, and the answer."""
    advert, evidence = trial.member.advert, trial.evidence
    proof = b""
    if wallet is not None:
        said = delivery_hash(trial.case_id, address_of_peer(advert.peer), address_of_peer(host.peer))
        proof = trial.chain.disputes.domain.sign(coincurve.PrivateKey(bytes(wallet.key)), said)
    opening = opening_for(evidence, secrets.token_bytes(16), NO_CHANNEL)
    opened = AuditOpen(
        opening, secrets.token_bytes(32), evidence.record.profile, trial.case_id, evidence.record, proof
    )
    connection = Connection(await host.open_stream(advert.peer, AUDIT_PROTOCOL, advert.addrs, 20))
    try:
        await connection.send(opened, 20)
        answer = await connection.receive(20)
        connection.raise_bound(1 << 24)
        yield connection, answer
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await connection.close()


async def hand_over(trial: Trial, connection: Connection) -> Message:
    for step in trial.evidence.steps:
        await connection.send(step, 20)
    await connection.send(AuditEnd(), 20)
    return await connection.receive(60)


async def test_c5_the_accuser_has_a_place_whoever_holds_the_others(trial: Trial) -> None:
    await drawn(trial)
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(running_host(secrets.token_bytes(32)))
            for _ in range(DELIVERIES + 1)
        ]
        held = []
        for host in hosts[:DELIVERIES]:
            connection, answer = await stack.enter_async_context(delivery(trial, host))
            assert isinstance(answer, Accept)
            held.append(connection)
            await connection.send(trial.evidence.steps[0], 20)
        # Somebody else's word is worth no place of its own: it waits for the slowest to lose one.
        other = Accounts.create()
        async with delivery(trial, hosts[-1], other) as (_, answer):
            if isinstance(answer, Error):
                assert answer.code is ErrorCode.FULL
                assert 0 < answer.wait_ms <= 1000 * GRACE_SECONDS
        async with delivery(trial, hosts[-1], trial.accuser) as (connection, answer):
            assert isinstance(answer, Accept)
            # A second delivery of its own takes the place of the first, which may be a dead connection.
            async with delivery(trial, hosts[-1], trial.accuser) as (second, again):
                assert isinstance(again, Accept)
                lost = await connection.receive(20)
                assert isinstance(lost, Error)
                assert lost.code is ErrorCode.FULL
                assert isinstance(await hand_over(trial, second), AuditEnd)


async def test_of_those_who_are_not_the_accuser_the_slowest_goes(trial: Trial) -> None:
    """A client whose wallet another one's case names still gets its evidence in."""
    await drawn(trial)
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(running_host(secrets.token_bytes(32)))
            for _ in range(DELIVERIES + 1)
        ]
        for host in hosts[:DELIVERIES]:
            connection, answer = await stack.enter_async_context(delivery(trial, host))
            assert isinstance(answer, Accept)
            await connection.send(trial.evidence.steps[0], 20)
        await trio.sleep(GRACE_SECONDS)
        async with delivery(trial, hosts[-1]) as (connection, answer):
            assert isinstance(answer, Accept)
            assert isinstance(await hand_over(trial, connection), AuditEnd)
