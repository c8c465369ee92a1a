"""A seat in a committee, whatever becomes of the blocks that it was drawn in and of the verifier that has it."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, DisputeTerms, Sender, deploy
from hypercluster.market.chain.disputes import CaseOpened, Outcome, Revealed, Vote
from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger import Duty, DutyPhase, Ledger
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.client.auditing import accuser as accusing
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.resuming import LeftOpen
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.discovery import Discovery
from hypercluster.node.network.eligibility import anyone
from hypercluster.node.network.host import Host
from hypercluster.node.network.orderbook import OrderBook
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from hypercluster.node.testnet.cheats import Tampering
from hypercluster.node.threads import Threads
from hypercluster.node.verifier.committee import Committee
from hypercluster.node.verifier.docket import Docket
from tests.market.chain.blocks import ask
from tests.node.helpers.dying import Dying, Killed
from tests.node.helpers.providers import new_wallet
from tests.node.helpers.stages import served, signed
from tests.node.helpers.verifiers import staked

MOMENTS = 100
"""at which a verifier is killed at most; a case takes less"""


@dataclass(eq=False)
class Bench:
    """A chain whose committees have one seat, the only verifier that can have it, and somebody who is accused."""

    chain: Chain
    replayer: Replayer
    node: LocalAccount
    accused: LocalAccount
    honest: Transcript
    cheating: Transcript
    accuser: Sender

    def of_a_new_session(self, transcript: Transcript) -> Transcript:
        record = replace(transcript.record, session=secrets.token_bytes(16))
        return signed(
            Transcript(record, transcript.steps), bytes(self.accused.key), self.chain.disputes.domain
        )

    def open(self, transcript: Transcript) -> int:
        disputes = self.chain.disputes
        receipt, signature = transcript.receipts(disputes.domain)[-1]
        mined = disputes.cases.open(self.accuser, receipt, signature)
        return next(e.case_id for e in disputes.events_in(mined) if isinstance(e, CaseOpened))

    def remember(self) -> object:
        """The chain as it is, for `forget`."""
        return ask(self.chain, "evm_snapshot")

    def forget(self, taken: object, ledger: Ledger) -> None:
        """Take everything back: with many cases behind it each look would take longer."""
        assert ask(self.chain, "evm_revert", taken)
        self.accuser = Sender(self.chain, self.accuser.account)
        for duty in ledger.trust.duties(
            self.chain.disputes.cases.address, self.chain.chain_id, open_only=False
        ):
            ledger.trust.drop_duty(duty)

    def opened(self, transcript: Transcript, start: int) -> list[CaseOpened]:
        """The cases about a transcript's last receipt, of this block and later ones."""
        receipt, _ = transcript.receipts(self.chain.disputes.domain)[-1]
        events, _ = self.chain.disputes.events_from(start)
        return [e for e in events if isinstance(e, CaseOpened) and e.receipt_hash == receipt.struct_hash()]

    def accusing(self) -> Accuser:
        """An accuser that reaches nobody: the evidence is where it has to be."""
        book = OrderBook(self.replayer.stored.manifest.model_id, anyone)
        nowhere = cast(Discovery, SimpleNamespace(book=book))
        account = self.accuser.account
        return Accuser(
            chain=self.chain,
            sender=lambda: Sender(self.chain, account),
            host=cast(Host, None),
            discovery=nowhere,
        )

    async def take_up(self, transcript: Transcript, start: int) -> None:
        """What the next run does: it goes on with what is open, and begins anew where nothing was opened."""
        left = LeftOpen(self.chain, self.accuser.address, 3600)
        left.look()
        cases = self.opened(transcript, start)
        if not cases:
            await self.accusing().accuse(transcript)
        elif cases[0].case_id in left.cases:
            await self.accusing().go_on(cases[0].case_id, transcript)

    def judge(self, transcript: Transcript) -> Judgement:
        return self.replayer.judge(transcript)

    def votes(self, case_id: int) -> list[Vote]:
        events, _ = self.chain.disputes.events_from(0)
        return [e.vote for e in events if isinstance(e, Revealed) and e.case_id == case_id]


@dataclass(eq=False)
class Seated:
    """A verifier made of what is on its disk."""

    bench: Bench
    folder: Path
    ledger: Ledger

    def __post_init__(self) -> None:
        self.evidence = TranscriptStore(self.folder / "evidence", keep_seconds=3600, max_bytes=2**24)
        chain = self.bench.chain
        self.committee = Committee(
            chain=chain,
            sender=Sender(chain, self.bench.node),
            ledger=self.ledger,
            judge=self.bench.judge,
            evidence=self.evidence,
            model_id=self.bench.replayer.stored.manifest.model_id,
            computing=Threads(1),
        )
        # Nothing is left alone that would go on when the chain is another one.
        for held in (self.committee, self.committee._docket):
            held._on_chain = Threads(2)

    def dies_at(self, moment: int) -> None:
        dying = Dying(moment)
        for held in (self.committee, self.committee._docket):
            held._on_chain = held._in_thread = dying
        self.committee._computing = dying

    async def work(self) -> None:
        """Work for ever."""
        while True:
            await self.committee.work()
            await trio.sleep(0.01)

    async def until(self, case_id: int, phase: DutyPhase = DutyPhase.RESOLVED) -> None:
        """Work until the seat of that case is served so far."""
        contract, chain_id = self.bench.chain.disputes.cases.address, self.bench.chain.chain_id
        with trio.fail_after(120):
            while True:
                await self.committee.work()
                duties = self.ledger.trust.duties(contract, chain_id, open_only=False)
                if any((each.case_id, each.phase) == (case_id, phase) for each in duties):
                    return


@pytest.fixture(scope="module")
def bench(stored_tiny: StoredModel) -> Iterator[Bench]:
    from eth_account import Account

    terms = DisputeTerms(
        seats=1, commit_window=600, reveal_window=600, draw_window=600, serve_window=600, draw_delay=0
    )
    with running_anvil() as url:
        deployer = Account.from_key(DEPLOYER_KEY)
        seconds = terms.longest_seconds
        chain = Chain(url, deploy(url, deployer, grace_seconds=60, unbonding_seconds=seconds, terms=terms))
        (node, _), (accused, _) = staked(chain), staked(chain)
        chain.disputes.cases.enlist(Sender(chain, node))
        how: dict[str, Any] = {"key": bytes(accused.key), "domain": chain.disputes.domain}
        replayer = Replayer(stored_tiny, Bounds.conservative(stored_tiny.manifest.model_id), threads=1)
        yield Bench(
            chain,
            replayer,
            node,
            accused,
            served(stored_tiny, 0, 2, range(12), **how),
            served(stored_tiny, 0, 2, range(12), tamper=Tampering("truncate"), **how),
            new_wallet(chain, 10_000 * HCT).sender,
        )
        replayer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def ledger_in(folder: Path) -> Ledger:
    return Ledger(folder / "ledger.sqlite")


async def test_c9_a_duty_whose_number_a_reorganisation_gives_to_another_receipt(
    bench: Bench, folder: Path
) -> None:
    """C9: the case that it sits on is replaced by one about other work, with the same number: it judges that one, and
    says nothing in it of the first.
    """
    first, other = bench.of_a_new_session(bench.cheating), bench.of_a_new_session(bench.honest)
    with ledger_in(folder) as ledger:
        seat = Seated(bench, folder, ledger)
        seat.evidence.keep(first)
        taken = ask(bench.chain, "evm_snapshot")
        case_id = bench.open(first)
        await seat.until(case_id, DutyPhase.COMMITTED)
        assert ask(bench.chain, "evm_revert", taken)
        bench.accuser = Sender(bench.chain, bench.accuser.account)
        assert bench.open(other) == case_id
        seat.evidence.keep(other)
        await seat.until(case_id)
    assert bench.votes(case_id) == [Vote.INNOCENT]
    assert bench.chain.disputes.cases.state(case_id).outcome is Outcome.INNOCENT


async def test_c9_a_duty_of_another_receipt_is_dropped_after_a_restart(bench: Bench, folder: Path) -> None:
    """C9: the same where it was killed before the blocks were replaced."""
    first, other = bench.of_a_new_session(bench.cheating), bench.of_a_new_session(bench.honest)
    taken = ask(bench.chain, "evm_snapshot")
    with ledger_in(folder) as ledger:
        seat = Seated(bench, folder, ledger)
        seat.evidence.keep(first)
        case_id = bench.open(first)
        await seat.until(case_id, DutyPhase.COMMITTED)
    assert ask(bench.chain, "evm_revert", taken)
    bench.accuser = Sender(bench.chain, bench.accuser.account)
    assert bench.open(other) == case_id
    with ledger_in(folder) as ledger:
        seat = Seated(bench, folder, ledger)
        seat.evidence.keep(other)
        await seat.until(case_id)
    assert bench.votes(case_id) == [Vote.INNOCENT]


async def test_c7_a_seat_is_served_whenever_its_verifier_is_killed(bench: Bench, folder: Path) -> None:
    """C7: killed at each moment at which it waits for chain, disk or engine, when that was done and before it heard of
    it, it goes on from its disk: it votes once, what it found, and reveals it.
    """
    stake = bench.chain.staking.stake_of(bench.node.address)
    with ledger_in(folder) as ledger:
        for moment in itertools.count(1):
            assert moment <= MOMENTS
            taken = bench.remember()
            transcript = bench.of_a_new_session(bench.honest)
            case_id = bench.open(transcript)
            seat = Seated(bench, folder, ledger)
            seat.evidence.keep(transcript)
            seat.dies_at(moment)
            killed = False
            try:
                await seat.until(case_id)
            except Killed:
                killed = True
                await Seated(bench, folder, ledger).until(case_id)
            case = bench.chain.disputes.cases.state(case_id)
            assert (bench.votes(case_id), case.outcome) == ([Vote.INNOCENT], Outcome.INNOCENT), moment
            assert bench.chain.staking.stake_of(bench.node.address) == stake, moment
            if not killed:
                break
            bench.forget(taken, ledger)
    assert moment > 10, "a case has more moments than that"


async def test_c7_an_accusation_goes_on_whenever_its_client_is_killed(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7: killed at each moment at which it waits for the chain, what it opened is found by its next run and seen to
    its end: one case, one fault, and the bond is back.
    """
    monkeypatch.setattr(accusing, "LOOK_SECONDS", 0.05)
    chain, disputes, wallet = bench.chain, bench.chain.disputes, bench.accuser.address
    with ledger_in(folder) as ledger:
        seat = Seated(bench, folder, ledger)
        for moment in itertools.count(1):
            assert moment <= MOMENTS
            node, operator = staked(chain)
            key = bytes(node.key)
            record = replace(bench.cheating.record, session=secrets.token_bytes(16), peer=peer_of_key(key))
            transcript = signed(Transcript(record, bench.cheating.steps), key, disputes.domain)
            seat.evidence.keep(transcript)
            before, start = chain.token.balance(wallet), chain.block_number()
            first = bench.accusing()
            first._on_chain = Dying(moment)
            killed = False
            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(seat.work)
                    try:
                        await first.accuse(transcript)
                    except Killed:
                        killed = True
                        await bench.take_up(transcript, start)
                    while (
                        chain.disputes.cases.is_convicted(node.address, record.stage.struct_hash()) is False
                    ):
                        await trio.sleep(0.01)
                    nursery.cancel_scope.cancel()
            assert len(bench.opened(transcript, start)) == 1, moment
            assert chain.staking.stake_of(operator.address).active == 0, moment
            assert chain.token.balance(wallet) == before, moment
            if not killed:
                break
    assert moment > 5, "a case has more moments than that"


async def test_seats_are_read_again_once_they_were_written() -> None:
    seats, reads = ["first"], 0

    def duties(_contract: str, _chain: int, *, open_only: bool) -> list[str]:
        nonlocal reads
        reads += 1
        return list(seats)

    def save(seat: str) -> None:
        seats.append(seat)
        if seat == "third":
            raise LedgerError("The disk is full.")

    chain = SimpleNamespace(disputes=SimpleNamespace(cases=SimpleNamespace(address="")), chain_id=1)
    docket = Docket(
        chain=cast(Chain, chain),
        node="",
        ledger=cast(Ledger, SimpleNamespace(trust=SimpleNamespace(duties=duties, save_duty=save))),
        model_id="",
        on_chain=Threads(1),
        in_thread=Threads(2),
    )
    for _ in range(3):
        assert await docket.duties() == cast(list[Duty], ["first"])
    assert reads == 1
    await docket.save(cast(Duty, "second"))
    assert await docket.duties() == cast(list[Duty], ["first", "second"])
    with pytest.raises(LedgerError):
        await docket.save(cast(Duty, "third"))
    # It may be there all the same.
    assert await docket.duties() == cast(list[Duty], seats)
