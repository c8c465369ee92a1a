"""What a watch finishes on chain without anybody's help: channels that are closing, demands that were not served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio

from hypercluster.market.chain import Chain, DisputeTerms, Sender, deploy
from hypercluster.market.chain.disputes import DemandStatus
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor, channel_salt
from hypercluster.node.client.auditing.resuming import LeftOpen
from hypercluster.node.client.watchtower import Finished, Watchtower
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.membership import Membership
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from tests.market.chain.blocks import ask, mining
from tests.node.helpers.providers import Wallet, new_wallet
from tests.node.helpers.stages import served
from tests.node.helpers.verifiers import staked

TERMS = DisputeTerms(
    seats=1, commit_window=600, reveal_window=600, draw_window=600, serve_window=2, draw_delay=0
)


@pytest.fixture(scope="module")
def brief() -> Iterator[Chain]:
    """A chain on which channels close, and demands end, within seconds."""
    from eth_account import Account

    with running_anvil() as url:
        deployer = Account.from_key(DEPLOYER_KEY)
        seconds = TERMS.longest_seconds
        yield Chain(url, deploy(url, deployer, grace_seconds=2, unbonding_seconds=seconds, terms=TERMS))


@pytest.fixture
def wallet(brief: Chain) -> Wallet:
    return new_wallet(brief, 100 * HCT)


async def nothing() -> bool:
    return False


async def finished(wallet: Wallet, folder: Path) -> list[Finished]:
    """What a watch that begins now finishes before nothing is left."""
    found: list[Finished] = []
    with Ledger(folder / "ledger.sqlite") as ledger:
        tower = Watchtower(
            chain=wallet.chain,
            wallet=wallet.sender.address,
            sender=lambda: Sender(wallet.chain, wallet.sender.account),
            ledger=ledger,
            transcripts=TranscriptStore(folder / "transcripts", keep_seconds=3600, max_bytes=2**20),
            membership=cast(Membership, None),  # there are no cases, so nothing is handed over
            eligible=anyone,
            tell=found.append,
            every=0.1,
        )
        with trio.fail_after(120), mining(wallet.chain):
            await tower.work(once=True, also=nothing)
    return found


def opened(wallet: Wallet, ledger: Ledger, payee: str, number: int) -> ChannelDescriptor:
    signer = address_of(wallet.signer)
    descriptor = ChannelDescriptor(wallet.sender.address, payee, signer, channel_salt(payee, number))
    ledger.payer.add(wallet.chain.channels.domain, descriptor, HCT)
    wallet.chain.channels.open(wallet.sender, descriptor, HCT)
    return descriptor


async def test_a_channel_that_was_closing_is_withdrawn_and_no_other_is_asked_to_close(
    brief: Chain, wallet: Wallet, tmp_path: Path
) -> None:
    """Also where the client was killed before it wrote down that it had asked."""
    payee = new_wallet(brief, 0).sender.address
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        closing, other = (opened(wallet, ledger, payee, number) for number in (1, 2))
        brief.channels.request_close(wallet.sender, closing)
    closing_id, other_id = (brief.channels.domain.channel_id(each) for each in (closing, other))
    assert [(each.what, each.which, each.outcome) for each in await finished(wallet, tmp_path)] == [
        ("channel", "0x" + closing_id.hex(), "withdrawn")
    ]
    assert brief.token.balance(wallet.sender.address) == 99 * HCT
    assert brief.channels.state(closing_id).closed
    state = brief.channels.state(other_id)
    assert (state.open, state.close_at) == (True, 0)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert [row.channel_id for row in ledger.payer.channels(ended=False)] == [other_id]
    assert await finished(wallet, tmp_path) == [], "nothing is done twice"


async def test_a_demand_that_nobody_served_is_ended(
    brief: Chain, wallet: Wallet, stored_tiny: StoredModel, tmp_path: Path
) -> None:
    node, operator = staked(brief)
    domain = brief.disputes.domain
    transcript = served(stored_tiny, 0, 2, range(9), key=bytes(node.key), domain=domain)
    receipt, signature = transcript.receipts(domain)[-1]
    brief.disputes.demands.demand(wallet.sender, receipt, signature, output=True, row=0)
    fault = TERMS.fault
    (done,) = await finished(wallet, tmp_path)
    assert (done.what, done.outcome, done.slashed_wei) == ("demand", "withheld", fault)
    assert brief.disputes.demands.state(int(done.which)).status is DemandStatus.LAPSED
    assert brief.staking.stake_of(operator.address).active == brief.staking.minimum - fault
    assert brief.token.balance(wallet.sender.address) == 100 * HCT, "the bond is back"
    assert await finished(wallet, tmp_path) == []


def test_c9_what_a_reorganisation_took_back_is_not_waited_for(
    brief: Chain, wallet: Wallet, stored_tiny: StoredModel
) -> None:
    node, _ = staked(brief)
    domain = brief.disputes.domain
    transcript = served(stored_tiny, 0, 2, range(9), key=bytes(node.key), domain=domain)
    left = LeftOpen(brief, wallet.sender.address, 3600)
    taken = ask(brief, "evm_snapshot")
    brief.disputes.demands.demand(wallet.sender, *transcript.receipts(domain)[-1], output=True, row=0)
    left.look()
    assert len(left.demands) == 1
    left.look()
    assert len(left.demands) == 1
    assert ask(brief, "evm_revert", taken)
    ask(brief, "evm_mine")
    left.look()
    assert left.demands == {}
