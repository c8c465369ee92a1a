"""The bindings of disputes against the real contract: every method, end to end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import coincurve
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, DisputeTerms, Sender
from hypercluster.market.chain.disputes import (
    CaseOpened,
    CaseResolved,
    Committed,
    CommitteeDrawn,
    ContradictionProven,
    CreditsClaimed,
    Delisted,
    Demanded,
    DemandStatus,
    DisputeEvent,
    Enlisted,
    EquivocationProven,
    Outcome,
    Phase,
    Revealed,
    Served,
    Vote,
    Withheld,
    commitment_of,
)
from hypercluster.market.chain.disputes.statements import verdict_row
from hypercluster.market.chain.dues import claim, dues_of
from hypercluster.market.errors import InsufficientFunds, InvalidAmount, InvalidSignature, Reverted
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.merkle import proof, root
from hypercluster.market.trust.receipt import NO_RECEIPT, Finding, Receipt, Stage, Verdict

STAKE = 500 * HCT
ROWS = [bytes([number]) * 32 for number in range(5)]
PRINT, SALT = b"f" * 32, b"s" * 32
sessions = itertools.count()


@dataclass(frozen=True)
class Party:
    """An operator with a node key, both of which can send."""

    operator: Sender
    key: coincurve.PrivateKey
    node: Sender


def join(chain: Chain, accounts: list[LocalAccount], stake: int = STAKE) -> Party:
    """A new operator with stake, and its node key."""
    funds, key, boss = Sender(chain, accounts[0]), coincurve.PrivateKey(), Account.create()
    operator, node = Sender(chain, boss), Sender(chain, Account.from_key(key.secret))
    for each in (operator, node):
        funds.transact("to send coin", each.address, "0x", 10**19)
    chain.token.transfer(funds, operator.address, stake)
    chain.staking.stake(operator, stake)
    chain.staking.authorize(operator, key)
    return Party(operator, key, node)


@pytest.fixture(scope="module")
def accused(snapshot: None, chain: Chain, accounts: list[LocalAccount]) -> Party:
    return join(chain, accounts)


@pytest.fixture(scope="module")
def bench(snapshot: None, chain: Chain, accounts: list[LocalAccount]) -> dict[str, Party]:
    """Four verifiers on the list, by their node keys' addresses."""
    parties = [join(chain, accounts) for _ in range(4)]
    for party in parties:
        chain.disputes.cases.enlist(party.node)
    return {party.node.address: party for party in parties}


@pytest.fixture(scope="module")
def client(snapshot: None, chain: Chain, accounts: list[LocalAccount]) -> Sender:
    """An accuser with HCT."""
    chain.token.transfer(Sender(chain, accounts[0]), accounts[5].address, 1000 * HCT)
    return Sender(chain, accounts[5])


def receipt(chain: Chain, **changes: object) -> Receipt:
    """A receipt of a new stage, over ROWS in and out."""
    session = next(sessions).to_bytes(16, "big")
    stage = Stage(session, b"n" * 16, b"c" * 32, b"m" * 32, 4, 8, 2, b"p" * 32)
    figures = {"seq": 3, "position": 40, "tokens": 5, "outputs": 5, "previous": NO_RECEIPT}
    roots = {"in_root": root(ROWS), "out_root": root(ROWS)}
    return Receipt(**{"stage": stage, "issued": chain.timestamp(), **figures, **roots, **changes})  # type: ignore[arg-type]


def sign(chain: Chain, party: Party, statement: Receipt | Verdict) -> bytes:
    return chain.disputes.domain.sign(party.key, statement.struct_hash())


def wait_seconds(chain: Chain, seconds: int) -> None:
    """Move the chain's clock forward."""
    chain.web3.provider.make_request("evm_increaseTime", [seconds])  # type: ignore[arg-type]
    chain.web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]


def judged(chain: Chain, bench: dict[str, Party], client: Sender, case: int, votes: list[Vote]) -> list[str]:
    """Take a case from its draw to its end. Returns the committee."""
    disputes = chain.disputes
    drawn = disputes.events_in(disputes.cases.draw(client, case))[0]
    assert isinstance(drawn, CommitteeDrawn)
    members = list(drawn.members)
    seats = [
        (seat, bench[member].node, vote)
        for seat, (member, vote) in enumerate(zip(members, votes, strict=True))
    ]
    for seat, node, vote in seats:
        disputes.cases.commit(node, case, seat, commitment_of(case, node.address, vote, PRINT, SALT))
    for seat, node, vote in seats:
        disputes.cases.reveal(node, case, seat, vote, PRINT, SALT)
    disputes.cases.resolve(client, case, members)
    return members


def opened(chain: Chain, client: Sender, accused: Party, **changes: object) -> tuple[int, Receipt]:
    said = receipt(chain, **changes)
    event = chain.disputes.events_in(chain.disputes.cases.open(client, said, sign(chain, accused, said)))[0]
    assert isinstance(event, CaseOpened)
    return event.case_id, said


def test_our_hashes_are_the_contracts(chain: Chain) -> None:
    disputes, said = chain.disputes, receipt(chain, seq=2**32 - 1, issued=2**40 - 1, previous=b"\xff" * 32)
    stage = said.stage
    ids = stage.session, stage.nonce, stage.channel_id, stage.model_id
    row = *ids, stage.layer_start, stage.layer_stop, stage.wire_dtype, stage.profile
    for contract in (disputes.cases, disputes.proofs, disputes.demands):
        assert contract._read("DOMAIN_SEPARATOR") == disputes.domain.separator
    assert disputes.proofs._read("stageHashOf", row) == stage.struct_hash()
    figures = said.seq, said.position, said.tokens, said.outputs
    fields = *figures, said.in_root, said.out_root, said.previous, said.issued
    digest = disputes.proofs._read("receiptDigest", stage.struct_hash(), fields)
    assert digest == disputes.domain.digest(said.struct_hash())
    verdict = Verdict(
        model_id=b"m" * 32,
        layer_start=4,
        layer_stop=8,
        wire_dtype=2,
        tail=True,
        profile=b"p" * 32,
        in_root=b"i" * 32,
        out_root=b"o" * 32,
        tokens=5,
        outputs=6,
        finding=Finding.GREY,
        tolerance=7,
        fingerprint=PRINT,
        job=b"j" * 32,
        issued=said.issued,
    )
    digest = disputes.proofs._read("verdictDigest", verdict_row(verdict))
    assert digest == disputes.domain.digest(verdict.struct_hash())


def test_the_terms_are_those_of_the_deployment(chain: Chain) -> None:
    terms = chain.disputes.terms
    assert terms == DisputeTerms(
        seats=3,
        evidence_window=3600,
        draw_window=600,
        commit_window=600,
        reveal_window=600,
        serve_window=600,
        draw_delay=0,
    )
    assert chain.disputes.keep_seconds == 900 + 3600 + 1800
    assert terms.longest_seconds == 900 + 3 * (3600 + 1800)
    assert chain.staking.slashers() == [
        chain.deployment.cases,
        chain.deployment.proofs,
        chain.deployment.demands,
    ]


def test_verifiers_come_and_go(chain: Chain, accounts: list[LocalAccount], bench: dict[str, Party]) -> None:
    disputes, party = chain.disputes, join(chain, accounts)
    address, operator = party.node.address, party.operator.address
    assert not disputes.cases.is_enlisted(address)
    assert disputes.cases.verifier_of(operator) is None
    (event,) = disputes.events_in(disputes.cases.enlist(party.node))
    assert isinstance(event, Enlisted)
    assert (event.verifier, event.operator) == (address, operator)
    assert disputes.cases.is_enlisted(address)
    assert disputes.cases.verifier_of(operator) == address
    assert {*disputes.cases.verifiers()} == {address, *bench}
    with pytest.raises(Reverted, match=f"AlreadyEnlisted.*{address}"):
        disputes.cases.enlist(party.node)
    (event,) = disputes.events_in(disputes.cases.delist(party.operator, address))
    assert isinstance(event, Delisted)
    assert {*disputes.cases.verifiers()} == {*bench}


def test_a_guilty_provider_pays(
    chain: Chain, accused: Party, bench: dict[str, Party], client: Sender
) -> None:
    disputes, start, held = chain.disputes, chain.block_number() + 1, chain.token.balance(client.address)
    stake = chain.staking.stake_of(accused.operator.address).active
    assert disputes.cases.state(10**6).phase is Phase.NONE
    case, said = opened(chain, client, accused)
    shown = disputes.cases.state(case)
    assert (shown.phase, shown.outcome, shown.bond_wei) == (Phase.DRAWING, Outcome.NONE, 20 * HCT)
    assert (shown.accuser, shown.node, shown.seq, shown.seats) == (client.address, accused.node.address, 3, 3)
    assert (shown.stage_hash, shown.receipt_hash) == (said.stage.struct_hash(), said.struct_hash())
    assert (shown.commit_seconds, shown.reveal_seconds) == (600, 600)
    members = judged(chain, bench, client, case, [Vote.GUILTY, Vote.GREY, Vote.GUILTY])
    shown = disputes.cases.state(case)
    assert (shown.phase, shown.outcome, shown.bond_wei) == (Phase.CLOSED, Outcome.GUILTY, 0)
    assert (shown.committed, shown.revealed, shown.guilty, shown.innocent, shown.unserved) == (3, 3, 2, 0, 0)
    assert disputes.cases.is_convicted(accused.node.address, said.stage.struct_hash())
    assert chain.staking.stake_of(accused.operator.address).active == stake - 100 * HCT
    assert chain.token.balance(client.address) == held
    assert chain.staking.reward_of(client.address).amount == 10 * HCT
    judges = [chain.staking.reward_of(bench[member].operator.address).amount for member in members]
    assert judges == [2 * HCT, 0, 2 * HCT]

    events, following = disputes.events_from(start)
    assert following == chain.block_number() + 1
    kinds = [CaseOpened, CommitteeDrawn, *[Committed] * 3, *[Revealed] * 3, CaseResolved]
    assert [type(event) for event in events] == kinds
    opening, drawn, votes, ending = events[0], events[1], events[5:8], events[-1]
    assert isinstance(opening, CaseOpened)
    assert (opening.case_id, opening.operator) == (case, accused.operator.address)
    assert (opening.model_id, opening.layer_start, opening.layer_stop) == (b"m" * 32, 4, 8)
    assert (opening.stage_hash, opening.receipt_hash) == (shown.stage_hash, shown.receipt_hash)
    assert isinstance(drawn, CommitteeDrawn)
    assert drawn.members == tuple(members)
    assert [(e.member, e.vote, e.fingerprint) for e in votes if isinstance(e, Revealed)] == [
        (members[0], Vote.GUILTY, PRINT),
        (members[1], Vote.GREY, PRINT),
        (members[2], Vote.GUILTY, PRINT),
    ]
    assert isinstance(ending, CaseResolved)
    assert (ending.outcome, ending.taken, ending.forfeited) == (Outcome.GUILTY, 100 * HCT, 0)
    assert disputes.events_from(following) == ([], following)


def test_an_innocent_provider_costs_the_bond(
    chain: Chain, accused: Party, bench: dict[str, Party], client: Sender
) -> None:
    disputes, held = chain.disputes, chain.token.balance(client.address)
    case, said = opened(chain, client, accused)
    members = judged(chain, bench, client, case, [Vote.INNOCENT, Vote.INNOCENT, Vote.GREY])
    assert disputes.cases.state(case).outcome is Outcome.INNOCENT
    assert chain.token.balance(client.address) == held - 20 * HCT
    with pytest.raises(Reverted, match=f"FoundInnocent.*caseId={case}"):
        disputes.cases.open(client, said, sign(chain, accused, said))
    judge = bench[members[0]].operator
    credit = disputes.cases.credit_of(judge.address)
    assert (credit.claimable, credit.waiting) == (0, 5 * HCT)
    assert credit.claimable_at == chain.timestamp() + 18_000
    with pytest.raises(Reverted, match="CreditsLocked"):
        disputes.cases.claim_credits(judge)
    assert claim(chain, judge, dues_of(chain, judge.address)) == {}
    wait_seconds(chain, 18_000)
    before = chain.token.balance(judge.address)
    (event,) = disputes.events_in(disputes.cases.claim_credits(judge))
    assert isinstance(event, CreditsClaimed)
    assert (event.operator, event.amount) == (judge.address, 5 * HCT)
    assert chain.token.balance(judge.address) == before + 5 * HCT
    other = bench[members[1]].operator
    # The draw decides who of them judged the case before as well, and was rewarded for it.
    reward = chain.staking.reward_of(other.address).amount
    assert [due.ripe for due in dues_of(chain, other.address)] == [reward > 0, True]
    paid = {"rewards": reward} if reward else {}
    assert claim(chain, other, dues_of(chain, other.address)) == {**paid, "credits": 5 * HCT}
    assert [due.owed.amount for due in dues_of(chain, other.address)] == [0, 0]


def test_what_may_be_done_when(chain: Chain, accused: Party, bench: dict[str, Party], client: Sender) -> None:
    """`may_reveal` and `may_resolve` say what the contract does at that second."""
    disputes, (case, _) = chain.disputes, opened(chain, client, accused)
    shown = disputes.cases.state(case)
    assert [shown.may_resolve(shown.deadline + late) for late in (0, 1)] == [False, True]
    assert not shown.may_reveal(shown.deadline + 1)
    drawn = disputes.events_in(disputes.cases.draw(client, case))[0]
    assert isinstance(drawn, CommitteeDrawn)
    members = list(drawn.members)
    shown = disputes.cases.state(case)
    assert shown.phase is Phase.COMMITTING
    assert [shown.may_resolve(shown.deadline + late) for late in (0, 1)] == [False, True]  # nobody committed
    node = bench[members[0]].node
    disputes.cases.commit(node, case, 0, commitment_of(case, node.address, Vote.GUILTY, PRINT, SALT))
    shown = disputes.cases.state(case)
    last = shown.deadline + 600
    assert [shown.may_reveal(second) for second in (shown.deadline, shown.deadline + 1, last, last + 1)] == [
        False,
        True,
        True,
        False,
    ]
    assert [shown.may_resolve(second) for second in (shown.deadline + 1, last, last + 1)] == [
        False,
        False,
        True,
    ]
    with pytest.raises(Reverted, match="WrongPhase"):
        disputes.cases.reveal(node, case, 0, Vote.GUILTY, PRINT, SALT)
    wait_seconds(chain, 601)
    with pytest.raises(Reverted, match="BadReveal"):
        disputes.cases.reveal(node, case, 0, Vote.INNOCENT, PRINT, SALT)
    disputes.cases.reveal(node, case, 0, Vote.GUILTY, PRINT, SALT)
    shown = disputes.cases.state(case)
    assert (shown.phase, shown.deadline) == (Phase.REVEALING, last)
    assert shown.may_resolve(chain.timestamp())
    disputes.cases.resolve(client, case, members)
    assert disputes.cases.state(case).outcome is Outcome.INCONCLUSIVE
    stakes = [chain.staking.stake_of(bench[member].operator.address).active for member in members]
    assert stakes[0] - stakes[1] == stakes[0] - stakes[2] == 5 * HCT


def test_a_case_that_is_not_drawn_is_void(chain: Chain, accused: Party, client: Sender) -> None:
    disputes, (case, _) = chain.disputes, opened(chain, client, accused)
    wait_seconds(chain, 601)
    with pytest.raises(Reverted, match="WrongPhase"):
        disputes.cases.draw(client, case)
    disputes.cases.resolve(client, case, [])
    assert disputes.cases.state(case).outcome is Outcome.VOID


def test_two_receipts_for_one_step_are_proven(chain: Chain, accused: Party, client: Sender) -> None:
    disputes, first = chain.disputes, receipt(chain)
    second = replace(first, out_root=b"x" * 32)
    signed = sign(chain, accused, first), sign(chain, accused, second)
    stage_hash = first.stage.struct_hash()
    assert not disputes.proofs.is_equivocator(accused.node.address, stage_hash, 3)
    mined = disputes.proofs.prove_equivocation(client, first, signed[0], second, signed[1])
    (event,) = disputes.events_in(mined)
    assert isinstance(event, EquivocationProven)
    assert (event.node, event.stage_hash, event.seq) == (accused.node.address, stage_hash, 3)
    assert (event.reporter, event.taken) == (client.address, 100 * HCT)
    assert disputes.proofs.is_equivocator(accused.node.address, stage_hash, 3)
    with pytest.raises(Reverted, match="AlreadyProven"):
        disputes.proofs.prove_equivocation(client, first, signed[0], second, signed[1])
    with pytest.raises(InvalidAmount, match="one stage"):
        disputes.proofs.prove_equivocation(client, first, signed[0], receipt(chain), signed[1])


def test_a_lazy_verifier_is_proven(chain: Chain, accounts: list[LocalAccount], client: Sender) -> None:
    disputes, lazy = chain.disputes, join(chain, accounts)
    one, minus_one = b"\x00\x3c" * 8, b"\x00\xbc" * 8  # binary16
    good, bad = [one] * 5, [one] * 4 + [minus_one]
    first = Verdict(
        model_id=b"m" * 32,
        layer_start=0,
        layer_stop=4,
        wire_dtype=2,
        tail=False,
        profile=b"p" * 32,
        in_root=root(ROWS),
        out_root=root(good),
        tokens=5,
        outputs=5,
        finding=Finding.PASS,
        tolerance=10_000,
        fingerprint=PRINT,
        job=b"j" * 32,
        issued=chain.timestamp(),
    )
    second = replace(first, out_root=root(bad))
    signed = first, sign(chain, lazy, first), second, sign(chain, lazy, second)
    with pytest.raises(Reverted, match="RowsAgree"):
        disputes.proofs.prove_contradiction(client, *signed, 0, (one, proof(good, 0)), (one, proof(bad, 0)))
    with pytest.raises(Reverted, match="BadProof"):
        disputes.proofs.prove_contradiction(
            client, *signed, 4, (one, proof(good, 3)), (minus_one, proof(bad, 4))
        )
    mined = disputes.proofs.prove_contradiction(
        client, *signed, 4, (one, proof(good, 4)), (minus_one, proof(bad, 4))
    )
    (event,) = disputes.events_in(mined)
    assert isinstance(event, ContradictionProven)
    assert (event.node, event.operator) == (lazy.node.address, lazy.operator.address)
    assert (event.in_root, event.taken) == (root(ROWS), 100 * HCT)
    assert disputes.proofs.is_contradictor(lazy.node.address, root(ROWS))
    assert not disputes.proofs.is_contradictor(client.address, root(ROWS))


def test_rows_are_demanded_served_and_withheld(chain: Chain, accused: Party, client: Sender) -> None:
    disputes, said = chain.disputes, receipt(chain)
    signature, held = sign(chain, accused, said), chain.token.balance(client.address)
    numbers = []
    for output, row in ((False, 4), (True, 2)):
        mined = disputes.demands.demand(client, said, signature, output=output, row=row)
        (event,) = disputes.events_in(mined)
        assert isinstance(event, Demanded)
        assert (event.node, event.output, event.row, event.seq) == (accused.node.address, output, row, 3)
        shown = disputes.demands.state(event.demand_id)
        assert (shown.status, shown.demander, shown.node) == (
            DemandStatus.OPEN,
            client.address,
            accused.node.address,
        )
        assert (shown.row, shown.size, shown.root) == (row, 5, root(ROWS))
        assert shown.deadline == event.deadline
        numbers.append(event.demand_id)
    served, withheld = numbers
    with pytest.raises(Reverted, match=f"DemandExists.*demandId={served}"):
        disputes.demands.demand(client, said, signature, output=False, row=4)
    with pytest.raises(Reverted, match="BadProof"):
        disputes.demands.serve(accused.node, served, ROWS[3], proof(ROWS, 4))
    (event,) = disputes.events_in(disputes.demands.serve(accused.node, served, ROWS[4], proof(ROWS, 4)))
    assert isinstance(event, Served)
    assert event.demand_id == served
    assert disputes.demands.state(served).status is DemandStatus.SERVED
    with pytest.raises(Reverted, match="WrongStatus"):
        disputes.demands.lapse(client, withheld)
    wait_seconds(chain, 601)
    (event,) = disputes.events_in(disputes.demands.lapse(client, withheld))
    assert isinstance(event, Withheld)
    assert (event.operator, event.taken) == (accused.operator.address, 100 * HCT)
    assert disputes.demands.state(withheld).status is DemandStatus.LAPSED
    assert chain.token.balance(client.address) == held - HCT


def test_refusals(chain: Chain, accused: Party, client: Sender, accounts: list[LocalAccount]) -> None:
    disputes, said = chain.disputes, receipt(chain)
    signature = sign(chain, accused, said)
    foreign = replace(disputes.domain, chain_id=1).sign(accused.key, said.struct_hash())
    with pytest.raises(Reverted, match="UnknownNode"):
        disputes.cases.open(client, said, foreign)
    stale = receipt(chain, issued=chain.timestamp() - 4000)
    with pytest.raises(Reverted, match="StaleReceipt"):
        disputes.cases.open(client, stale, sign(chain, accused, stale))
    for short in (b"", signature[:63], signature + b"\0"):
        with pytest.raises(InvalidSignature, match="64"):
            disputes.cases.open(client, said, short)
        with pytest.raises(InvalidSignature, match="64"):
            disputes.demands.demand(client, said, short, output=True, row=0)
    with pytest.raises(InsufficientFunds, match="holds 0 HCT and needs 20 HCT to open a case"):
        disputes.cases.open(Sender(chain, accounts[9]), said, signature)
    with pytest.raises(InvalidAmount, match="32 bytes"):
        commitment_of(1, client.address, Vote.GUILTY, b"", SALT)


def test_the_chain_is_looked_back_as_far_as_a_case_lasts(chain: Chain, snapshot: None) -> None:
    disputes, seconds = chain.disputes, chain.disputes.terms.case_seconds
    wait_seconds(chain, seconds + 100)
    first = chain.block_number()
    wait_seconds(chain, seconds - 50)
    assert disputes.lookback_blocks == chain.block_number() - first
    wait_seconds(chain, 51)
    assert disputes.lookback_blocks == chain.block_number() - first - 1


def test_events_are_read_in_pages(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, bench: dict[str, Party]
) -> None:
    start = chain.deployment.block
    whole, following = chain.disputes.events_from(start)
    assert len([event for event in whole if isinstance(event, Enlisted)]) >= len(bench)
    monkeypatch.setattr("hypercluster.market.chain.rpc.MOST_BLOCKS", 7)
    paged: tuple[list[DisputeEvent], int] = chain.disputes.events_from(start)
    assert paged == (whole, following)
