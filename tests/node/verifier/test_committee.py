"""Disputes from end to end: real verifiers draw, judge, commit, reveal and resolve on a chain of their own."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.chain.disputes import Vote
from hypercluster.market.errors import ChainError, Reverted
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.receipt import Finding
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.client.watching import watch
from hypercluster.node.client.watchtower import Finished
from hypercluster.node.engine.steps import StepOutput
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.home.settings import Settings
from hypercluster.node.replay.replayer import Judgement, Replayer
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet import cheating
from hypercluster.node.testnet.cheats import Tampering
from tests.market.proxy import Answer, proxy
from tests.node.helpers.courts import BOND, FAULT, SILENCE, Court, new_court
from tests.node.helpers.providers import Wallet, new_wallet, running_provider
from tests.node.helpers.stages import signed
from tests.node.helpers.verifiers import AUDIT_PRICE, running_verifier, staked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def court(stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    with new_court(stored_tiny, tmp_path_factory.mktemp("court")) as court:
        for name in ("one", "two", "three"):
            court.start(name)
        yield court


@pytest.fixture(autouse=True)
def three(court: Court) -> None:
    """Three members can be drawn: whoever was fined holds too little from then on, and another takes its place."""
    for name, (node, operator) in list(court.keys.items()):
        fined = not court.chain.staking.is_eligible(node.address)
        if fined:
            court.chain.disputes.cases.delist(Sender(court.chain, operator), node.address)
            if name in court.running:
                court.stop(name)
            del court.keys[name], court.verifiers[name]
            shutil.rmtree(court.folder / name)
        if name not in court.running:
            court.start(name)


@pytest.fixture
def wallet(court: Court) -> Wallet:
    return new_wallet(court.chain, 100 * HCT)


@pytest.fixture
def accused(court: Court) -> tuple[LocalAccount, LocalAccount]:
    """Node key and operator of a staked provider."""
    return staked(court.chain)


@contextmanager
def nobody_else_loses(court: Court) -> Iterator[None]:
    """No verifier loses stake meanwhile."""
    before = {operator: court.stake(operator) for operator in court.judges}
    yield
    assert {operator: court.stake(operator) for operator in court.judges} == before


async def test_a_cheat_is_convicted_once(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    node, operator = accused
    transcript = court.served(node, tamper=Tampering("noise"))
    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, transcript)
    assert (ruling.outcome, ruling.slashed_wei) == ("guilty", FAULT)
    assert court.stake(operator.address) == court.chain.staking.minimum - FAULT
    assert set(court.votes(ruling.case_id or 0).values()) == {Vote.GUILTY}
    assert court.chain.token.balance(wallet.sender.address) == 100 * HCT  # the bond is back
    assert court.chain.staking.reward_of(wallet.sender.address).amount == FAULT // 10
    with pytest.raises(Reverted, match=r"AlreadyConvicted|CaseExists|NothingAtStake"):
        await court.accuse(wallet, tmp_path, transcript)


async def test_an_honest_provider_is_acquitted_and_the_bond_is_lost(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    node, operator = accused
    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, court.served(node))
    assert (ruling.outcome, ruling.slashed_wei) == ("innocent", 0)
    assert court.stake(operator.address) == court.chain.staking.minimum
    assert court.chain.token.balance(wallet.sender.address) == 100 * HCT - BOND
    credits = [court.chain.disputes.cases.credit_of(judge).amount for judge in court.judges]
    assert all(credits)
    assert sum(credits) <= BOND // 2 * len({c.case_id for c in _opened(court)})


@pytest.mark.parametrize("outcome", ["innocent", "guilty"])
async def test_a_stage_that_went_back_is_judged_by_what_it_still_held(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path, outcome: str
) -> None:
    """Guilty is one whose rows go on as if nothing had been forgotten, each of them computed. All travel as q8."""
    node, operator = accused
    honest = court.served(node, places=[(0, 12), (12, 6), (6, 5), (11, 1)], dtype=WireDtype.Q8)
    kept = court.served(node, places=[(0, 12), (12, 6), (18, 5), (23, 1)], dtype=WireDtype.Q8)
    steps = [replace(step, output=other.output) for step, other in zip(honest.steps, kept.steps, strict=True)]
    wrong = signed(Transcript(honest.record, tuple(steps)), bytes(node.key), court.chain.disputes.domain)
    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, wrong if outcome == "guilty" else honest)
    assert (ruling.outcome, ruling.slashed_wei) == (outcome, FAULT if outcome == "guilty" else 0)
    assert court.stake(operator.address) == court.chain.staking.minimum - ruling.slashed_wei


def _opened(court: Court) -> list[Any]:
    from hypercluster.market.chain.disputes import CaseOpened

    return [e for e in court.chain.disputes.events_from(0)[0] if isinstance(e, CaseOpened)]


async def test_a_doubt_punishes_nobody(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    node, operator = accused
    limits = court.bounds.of("body", "foreign")
    share = (limits.accept_median + limits.reject_median) / 2

    def slightly(slot: int, output: StepOutput) -> StepOutput:
        assert output.activations is not None
        draw = np.random.default_rng(0).standard_normal(output.activations.shape)
        draw /= np.linalg.norm(draw, axis=1, keepdims=True)
        size = np.linalg.norm(output.activations, axis=1, keepdims=True)
        return replace(output, activations=(output.activations + share * size * draw).astype(np.float32))

    plain = court.served(node, tamper=slightly)
    record = replace(plain.record, profile="some accelerator")
    transcript = signed(Transcript(record, plain.steps), bytes(node.key), court.chain.disputes.domain)
    replayer = Replayer(court.stored, court.bounds, threads=1)
    assert replayer.judge(transcript).finding is Finding.GREY
    replayer.close()
    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, transcript)
    assert (ruling.outcome, ruling.slashed_wei) == ("inconclusive", 0)
    assert set(court.votes(ruling.case_id or 0).values()) == {Vote.GREY}
    assert court.stake(operator.address) == court.chain.staking.minimum
    assert court.chain.token.balance(wallet.sender.address) == 100 * HCT


async def test_who_accuses_and_brings_no_evidence_pays(
    court: Court,
    wallet: Wallet,
    accused: tuple[LocalAccount, LocalAccount],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, operator = accused

    async def nothing(*_: Any) -> None:
        return None

    def mute(accuser: Accuser) -> None:
        monkeypatch.setattr(accuser, "_serve", nothing)

    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, court.served(node), mute)
    assert (ruling.outcome, ruling.slashed_wei) == ("unserved", 0)
    assert set(court.votes(ruling.case_id or 0).values()) == {Vote.UNSERVED}
    assert court.stake(operator.address) == court.chain.staking.minimum
    assert court.chain.token.balance(wallet.sender.address) == 100 * HCT - BOND


async def test_stake_that_thaws_is_cut_and_nobody_is_accused_without_stake(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    node, operator = accused
    court.chain.staking.unstake(Sender(court.chain, operator), court.chain.staking.minimum)
    transcript = court.served(node, tamper=Tampering("truncate"))
    ruling = await court.accuse(wallet, tmp_path, transcript)
    assert (ruling.outcome, ruling.slashed_wei) == ("guilty", FAULT)
    assert court.stake(operator.address) == 0
    for stranger, error in ((operator, "UnknownNode"), (node, "NothingAtStake")):
        with pytest.raises(Reverted, match=error):
            await court.accuse(wallet, tmp_path, court.served(stranger))
    assert court.chain.token.balance(wallet.sender.address) == 100 * HCT


async def test_evidence_of_something_else_is_refused_by_every_member(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    """The accuser hands over a changed transcript: nobody takes it, so it is as if there were none."""
    node, operator = accused
    honest = court.served(node)
    steps = list(honest.steps)
    steps[3] = replace(steps[3], output=bytes(len(steps[3].output)))

    def swap(accuser: Accuser) -> None:
        hand_over = accuser._hand_over

        async def changed(case_id: int, member: Any, transcript: Transcript) -> None:
            await hand_over(case_id, member, Transcript(transcript.record, tuple(steps)))

        accuser._hand_over = changed  # type: ignore[method-assign]

    ruling = await court.accuse(wallet, tmp_path, honest, swap)
    assert (ruling.outcome, ruling.slashed_wei) == ("unserved", 0)
    assert court.stake(operator.address) == court.chain.staking.minimum


class Down(Chain):
    """A chain whose node takes no reveals for a while."""

    def lock(self) -> threading.Event:
        opened = threading.Event()
        reveal = self.disputes.cases.reveal

        def held(*arguments: Any) -> Any:
            if not opened.is_set():
                raise ChainError("The node is down.")
            return reveal(*arguments)

        vars(self.disputes)["reveal"] = held
        return opened


@pytest.mark.parametrize("known", ["committed", "judged"])
async def test_a_vote_survives_a_restart(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path, known: str
) -> None:
    """A verifier that dies between commitment and reveal goes on with the salt in its ledger, also where it died
    before it wrote down that its commitment is on chain.
    """
    node, _ = accused
    court.stop("one")
    down = Down(court.chain.url, court.chain.deployment)
    down.lock()
    court.start("one", chain=down)
    contract, chain_id = court.chain.disputes.cases.address, court.chain.chain_id

    def restart() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            duties = court.verifiers["one"].ledger.trust.duties(contract, chain_id)
            if any(duty.phase == "committed" for duty in duties):
                break
            time.sleep(0.05)
        ledger = court.verifiers["one"].ledger
        (duty,) = (each for each in ledger.trust.duties(contract, chain_id) if each.phase == "committed")
        court.stop("one")
        with Ledger(f"sqlite:///{court.folder / 'one' / 'ledger.sqlite'}") as ledger:
            ledger.trust.save_duty(replace(duty, phase=known))
        court.start("one")

    thread = threading.Thread(target=restart)
    thread.start()
    with nobody_else_loses(court):
        ruling = await court.accuse(wallet, tmp_path, court.served(node, tamper=Tampering("noise")))
    await trio.to_thread.run_sync(thread.join)
    assert ruling.outcome == "guilty"
    assert len(court.votes(ruling.case_id or 0)) == 3


async def test_a_lying_member_is_outvoted_and_a_silent_one_is_slashed(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    node, operator = accused
    court.stop("two")
    silent = court.keys["three"]
    replayer = Replayer(court.stored, court.bounds, threads=1)
    court.start("two", judge=cheating.lazy_judge(replayer))
    try:
        ruling = await court.accuse(wallet, tmp_path, court.served(node, tamper=Tampering("noise")))
        assert ruling.outcome == "guilty"
        votes = court.votes(ruling.case_id or 0)
        assert votes[court.keys["two"][0].address] is Vote.INNOCENT
        assert sorted(votes.values()) == [Vote.INNOCENT, Vote.GUILTY, Vote.GUILTY]
    finally:
        court.stop("two")
        court.start("two")
        replayer.close()
    # Now one is away when it is drawn: two of three still decide, and the one that is away pays.
    court.stop("three")
    before = court.stake(silent[1].address)
    other_node, other_operator = staked(court.chain)
    ruling = await court.accuse(wallet, tmp_path, court.served(other_node, tamper=Tampering("noise")))
    assert (ruling.outcome, court.stake(other_operator.address)) == ("guilty", 0)
    assert court.stake(silent[1].address) == before - SILENCE
    assert court.stake(operator.address) == 0


# --- with a real provider ----------------------------------------------------------------------------------------


async def complete(client: Client) -> Any:
    request = Request(prompt=(72, 101, 108), allowance=Allowance(tokens=5))
    with trio.fail_after(600):
        completion = await client.complete(request).finished()
        await client.reports(completion.request_id)
    return completion


async def test_a_provider_shows_rows_on_chain_or_loses_stake(
    court: Court, wallet: Wallet, tmp_path: Path
) -> None:
    through = (court.verifiers["one"].address,)
    terms = {
        "sessions": 2,
        "session_tokens": 60,
        "refresh_seconds": 2.0,
        "watch_seconds": 0.3,
        "bootstrap": through,
    }
    with running_provider(court.chain, court.stored, tmp_path / "provider", (0, 4), **terms) as whole:
        async with court.client(wallet, tmp_path / "client") as client:
            with trio.fail_after(300):
                while not client.adverts():
                    await trio.sleep(0.05)
            assert [report.finding for report in (await complete(client)).reports] == ["pass"]
            inspector = client.audits.inspector  # type: ignore[union-attr]
            assert inspector is not None
            accuser = inspector.accuser
            assert accuser is not None
            store = inspector._transcripts
            (path,) = store.folder.iterdir()
            transcript = store.load(bytes.fromhex(path.stem))
            for output in (True, False):
                ruling = await accuser.demand(transcript, output=output, row=0)
                assert (ruling.outcome, ruling.slashed_wei) == ("served", 0)
            assert court.stake(whole.operator) == court.chain.staking.minimum
            await complete(client)
            for kept in whole.provider.transcripts.folder.iterdir():
                kept.unlink()
            newest = max(store.folder.iterdir(), key=lambda each: each.stat().st_mtime)
            ruling = await accuser.demand(store.load(bytes.fromhex(newest.stem)), output=True, row=0)
            assert (ruling.outcome, ruling.slashed_wei) == ("withheld", FAULT)
            assert court.stake(whole.operator) == court.chain.staking.minimum - FAULT


async def test_an_equivocator_is_slashed_in_one_transaction(
    court: Court, wallet: Wallet, tmp_path: Path
) -> None:
    through = (court.verifiers["one"].address,)
    terms = {"sessions": 2, "session_tokens": 60, "refresh_seconds": 2.0, "bootstrap": through}
    ways = cheating.ways_of("equivocate")
    with running_provider(
        court.chain, court.stored, tmp_path / "provider", (0, 4), ways=ways, **terms
    ) as whole:
        async with court.client(wallet, tmp_path / "client") as client:
            with trio.fail_after(300):
                while not client.adverts():
                    await trio.sleep(0.05)
            (report,) = (await complete(client)).reports
            assert (report.finding, report.fault) == ("fail", whole.advert.peer)
            assert report.ruling is not None
            assert (report.ruling.outcome, report.ruling.slashed_wei) == ("equivocation", FAULT)
        assert court.stake(whole.operator) == court.chain.staking.minimum - FAULT


async def test_c8_an_accuser_outlasts_a_chain_that_loses_an_answer_and_is_away_for_a_while(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path
) -> None:
    """The case is on chain, the accuser never hears so, and nobody answers it for three seconds: no bond is lost."""
    node, operator = accused
    away = [0.0]

    def behave(method: str, ask: Callable[[], bytes]) -> Answer:
        if method == "eth_sendRawTransaction" and not away[0]:
            ask()
            away[0] = time.monotonic() + 3.0
        return None if time.monotonic() < away[0] else (200, ask())

    with proxy(court.chain.url, behave) as url:
        shaky = Chain(url, court.chain.deployment)

        def hook(accuser: Accuser) -> None:
            accuser._disputes = shaky.disputes
            accuser._unlock = lambda: Sender(shaky, wallet.sender.account)

        ruling = await court.accuse(wallet, tmp_path, court.served(node, tamper=Tampering("noise")), hook)
    assert ruling.outcome == "guilty"
    assert court.stake(operator.address) == 0
    assert court.chain.token.balance(wallet.sender.address) > 100 * HCT - BOND


@pytest.mark.parametrize("by", ["next run", "watch"])
async def test_c8_a_case_that_a_killed_client_opened_is_seen_through(
    court: Court, wallet: Wallet, accused: tuple[LocalAccount, LocalAccount], tmp_path: Path, by: str
) -> None:
    """Opened, and nobody had the evidence: the next run or a watch finds both, and hands it over."""
    node, operator = accused
    transcript = court.served(node, tamper=Tampering("noise"))
    home = Settings(home=tmp_path)
    await trio.to_thread.run_sync(client_transcripts(home, court.chain, 2**20).keep, transcript)
    receipt, signature = transcript.receipts(court.chain.disputes.domain)[-1]
    court.chain.disputes.cases.open(wallet.sender, receipt, signature)
    if by == "watch":
        (done,) = await watched(court, wallet, tmp_path)
        assert (done.what, done.outcome, done.slashed_wei) == ("case", "guilty", FAULT)
    else:
        async with court.client(wallet, tmp_path) as client:
            assert client.audits is not None
            assert client.audits.cases is not None
            with trio.fail_after(300):
                await client.audits.cases.done.wait()
            assert len(client.audits.cases.found or ()) == 1
    assert court.stake(operator.address) == 0
    assert court.chain.token.balance(wallet.sender.address) > 100 * HCT - BOND


async def watched(court: Court, wallet: Wallet, home: Path) -> list[Finished]:
    """What a watch over a home finishes before nothing is left."""
    found: list[Finished] = []
    with trio.fail_after(300):
        await watch(
            Settings(home=home, bootstrap=(next(iter(court.verifiers.values())).address,)),
            court.chain,
            wallet.purse,
            Auditing(policy=Policy(disputes=True), auditor="verifier"),
            models=lambda model_id: court.stored,
            on_finished=found.append,
            on_report=lambda *report: None,
            once=True,
            every=0.2,
        )
    return found


# --- one verifier's word ------------------------------------------------------------------------------------------


async def test_a_verifier_that_cries_fault_costs_no_bond(
    court: Court, wallet: Wallet, tmp_path: Path
) -> None:
    """The cheapest verifier fails honest work: two others pass it, so it is passed, and nothing goes to the chain."""
    replayer = Replayer(court.stored, court.bounds, threads=1)

    def failing(transcript: Transcript) -> Judgement:
        return replace(replayer.judge(transcript), finding=Finding.FAIL)

    through = (court.verifiers["one"].address,)
    terms = {"sessions": 2, "session_tokens": 60, "refresh_seconds": 2.0, "bootstrap": through}
    before = len(_opened(court))
    with (
        running_provider(court.chain, court.stored, tmp_path / "provider", (0, 4), **terms) as whole,
        running_verifier(
            court.chain,
            court.stored,
            court.bounds,
            tmp_path / "liar",
            judge=failing,
            bootstrap=through,
            price_wei=AUDIT_PRICE // 2,
        ) as liar,
    ):
        async with court.client(wallet, tmp_path / "client", auditor="verifier", source=False) as client:
            with trio.fail_after(300):
                while not client.adverts() or liar.advert.peer not in {a.peer for a in client.verifiers()}:
                    await trio.sleep(0.05)
            done = await complete(client)
            (report,) = done.reports
            assert (report.finding, report.fault, report.ruling) == ("pass", "", None), report
            assert (report.auditor, not done.doubtful) == (liar.advert.peer, True)
            # The three of them were paid, and that is on the bill.
            rows = report.tokens
            assert report.cost_wei == rows * (AUDIT_PRICE // 2 + 2 * AUDIT_PRICE)
        assert court.stake(whole.operator) == court.chain.staking.minimum
    replayer.close()
    assert len(_opened(court)) == before
    with Ledger(tmp_path / "client" / "ledger.sqlite") as ledger:
        said = {(event.peer, event.kind) for event in ledger.trust.events()}
    assert (liar.advert.peer, "audit_grey") in said
    assert (whole.advert.peer, "audit_passed") in said
    assert (whole.advert.peer, "lie") not in said


async def test_what_one_verifier_found_goes_to_the_chain_when_another_finds_it(
    court: Court, wallet: Wallet, tmp_path: Path
) -> None:
    through = (court.verifiers["one"].address,)
    terms = {"sessions": 2, "session_tokens": 60, "refresh_seconds": 2.0, "bootstrap": through}
    ways = cheating.ways_of("noise")
    with running_provider(
        court.chain, court.stored, tmp_path / "provider", (0, 4), ways=ways, **terms
    ) as whole:
        async with court.client(wallet, tmp_path / "client", auditor="verifier", source=False) as client:
            with trio.fail_after(300):
                while not client.adverts():
                    await trio.sleep(0.05)
            (report,) = (await complete(client)).reports
            assert (report.finding, report.fault) == ("fail", whole.advert.peer)
            assert report.cost_wei == 2 * report.tokens * AUDIT_PRICE
            assert "Two verifiers" in report.note
            assert report.ruling is not None
            assert report.ruling.outcome == "guilty"
