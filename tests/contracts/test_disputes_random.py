"""Random sequences of calls to disputes and the registry behind them; see `sequences`."""

from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.contracts.conftest import UNLIMITED
from tests.contracts.court import OUTCOMES, commitment, header_of, tree_path
from tests.contracts.dispute_market import ACCUSERS, ROWS, STAKE, TERMS, UNBONDING, DisputeMarket, terms_of
from tests.contracts.kinds import Account, Accounts, Chain, Deploy
from tests.contracts.reference_disputes import GREY, GUILTY, INNOCENT, UNSERVED
from tests.contracts.sequences import BUDGET, FUNDS, index, run_sequences, stray
from tests.contracts.signing import compact, sign_consent

PHASES = ("None", "Drawing", "Committing", "Revealing", "Closed")

where = st.tuples(index, st.integers(0, 1), st.integers(0, 3))
"""Whose receipt, of which stage and step."""
age = st.sampled_from([0, 0, 0, 0, 10, 40, 41, -5, -6])
vote = st.sampled_from([GUILTY, GUILTY, GUILTY, INNOCENT, INNOCENT, UNSERVED, UNSERVED, GREY])
turnout = st.sampled_from(
    [
        (GUILTY, GUILTY, GUILTY),
        (INNOCENT, INNOCENT, INNOCENT),
        (GUILTY, INNOCENT, GUILTY),
        (INNOCENT, UNSERVED, GREY),
        (UNSERVED, UNSERVED, UNSERVED),
        (GUILTY, None, GUILTY),
        (None, INNOCENT, INNOCENT),
        (UNSERVED, UNSERVED, None),
        (GUILTY, INNOCENT, GREY),
        (GREY, None, None),
        (None, None, None),
    ]
)
"""How the first seat votes, the second, and all others."""


class DisputeSequence(DisputeMarket):
    """Proofs, cases and demands beside their references."""

    def case(self, index: int, stray: bool, *phases: Any) -> int:
        """Number of a case in one of the phases, or of any, or of none."""
        cases = self.model.cases
        likely = [n for n, case in enumerate(cases, 1) if case.phase in phases]
        return self.pick(index, [] if stray else likely, list(range(len(cases) + 2)))

    def judging(self) -> bool:
        """Whether a committee sits."""
        return any(case.phase in ("Committing", "Revealing") for case in self.model.cases)

    # --------------------------------------------------------------- disputes

    @rule(where=where, who=index)
    def prove_equivocation(self, where: tuple[int, int, int], who: int) -> None:
        signer, stage, first = self.receipt(where, 0)
        second = first | {"inRoot": bytes(32)}
        sender = self.pick(who, [], self.people)
        self.agree(
            lambda now: self.proving.prove_equivocation(
                sender.address, signer.address, where[1], where[2], now
            ),
            self.proofs.proveEquivocation,
            self.hashes[where[1]],
            tuple(first.values()),
            self.signed(signer, stage, first),
            tuple(second.values()),
            self.signed(signer, stage, second),
            sender=sender,
        )

    @rule(who=index)
    def enlist(self, who: int) -> None:
        away = [key for key in self.keys if key.address not in self.model.enlisted]
        sender = self.pick(who, away, self.people)
        block = self.block
        self.agree(lambda now: self.model.enlist(sender.address, block), self.cases.enlist, sender=sender)

    @rule(who=index, stray=stray)
    def delist(self, who: int, stray: bool) -> None:
        number = who % len(self.operators)
        verifier = self.keys[number]
        sender = self.pick(who, [], self.people if stray else [verifier, self.operators[number]])
        self.agree(
            lambda now: self.model.delist(sender.address, verifier.address),
            self.cases.delist,
            verifier,
            sender=sender,
        )

    @rule(where=where, age=age, who=index)
    def open_case(self, where: tuple[int, int, int], age: int, who: int) -> None:
        signer, stage, receipt = self.receipt(where, age)
        sender = self.people[4] if who == 15 else self.accusers[who % 2]
        block = self.block
        self.agree(
            lambda now: self.model.open_case(
                sender.address, signer.address, where[1], where[2], receipt["issued"], now, block
            ),
            self.cases.openCase,
            tuple(stage.values()),
            tuple(receipt.values()),
            self.signed(signer, stage, receipt),
            sender=sender,
        )

    @rule(which=index, stray=stray)
    def draw(self, which: int, stray: bool) -> None:
        self._draw(self.case(which, stray, "Drawing"))

    def _draw(self, number: int) -> None:
        members = self.agree(
            lambda now: self.model.draw(number, now),
            self.cases.draw,
            number,
            header_of(self.token, self.cases.cases(number).drawBlock),
            sender=self.people[0],
        )
        if not isinstance(members, str):
            assert len({*members}) == self.terms.seats
            assert {*members} <= self.model.may_judge(number)
            for verifier in [*self.model.enlisted]:
                if not self.staking.is_eligible(verifier) and not self.cases.isEnlisted(verifier):
                    del self.model.enlisted[verifier]  # the draw came across it
            self.model.cases[number - 1].members = [*members]

    def members(self, number: int) -> list[Account]:
        """The committee of a case, or somebody in its place."""
        case = self.model.cases[number - 1] if 0 < number <= len(self.model.cases) else None
        return (
            [self.accounts[m] for m in case.members]
            if case and case.members
            else self.keys[: self.terms.seats]
        )

    def _commit(self, number: int, seat: int, member: Account) -> None:
        promise = commitment(number, member, self.cast[number, seat])
        self.agree(
            lambda now: self.model.commit(member.address, number, seat, promise, now),
            self.cases.commit,
            number,
            seat,
            promise,
            sender=member,
        )

    def _reveal(self, number: int, seat: int, member: Account, vote: int) -> None:
        promise = commitment(number, member, vote)
        self.agree(
            lambda now: self.model.reveal(member.address, number, seat, vote, promise, now),
            self.cases.reveal,
            number,
            seat,
            vote,
            bytes(32),
            b"s" * 32,
            sender=member,
        )

    def _resolve(self, number: int, members: list[str]) -> None:
        self.agree(
            lambda now: self.model.resolve(number, members, now),
            self.cases.resolve,
            number,
            members,
            sender=self.people[0],
        )

    @precondition(judging)
    @rule(which=index, stray=stray, astray=stray, seat=index, vote=vote)
    def commit(self, which: int, stray: bool, astray: bool, seat: int, vote: int) -> None:
        number, seat = self.case(which, stray, "Committing"), seat % self.terms.seats
        self.cast.setdefault((number, seat), vote)
        self._commit(number, seat, self.members(number)[(seat + astray) % self.terms.seats])

    @precondition(judging)
    @rule(which=index, stray=stray, astray=stray, seat=index, other=stray)
    def reveal(self, which: int, stray: bool, astray: bool, seat: int, other: bool) -> None:
        number, seat = self.case(which, stray, "Revealing", "Committing"), seat % (self.terms.seats + 1)
        vote = 0 if other else self.cast.get((number, seat), GUILTY)
        self._reveal(number, seat, self.members(number)[(seat + astray) % self.terms.seats], vote)

    @rule(which=index, stray=stray, wrong=stray)
    def resolve(self, which: int, stray: bool, wrong: bool) -> None:
        number = self.case(which, stray, "Revealing", "Committing", "Drawing")
        members = [member.address for member in self.members(number)]
        self._resolve(number, members[::-1] if wrong else members)

    @rule(where=where, who=index, votes=turnout)
    def judge(self, where: tuple[int, int, int], who: int, votes: tuple[int | None, ...]) -> None:
        """A case from its opening to its end: single calls seldom line up by chance."""
        votes += votes[2:] * (self.terms.seats - len(votes))
        number = len(self.model.cases) + 1
        self.open_case(where, 0, who)
        if len(self.model.cases) == number:
            self._draw(number)
        if len(self.model.cases) != number or self.model.cases[number - 1].phase != "Committing":
            return
        members = self.members(number)
        for seat, vote in enumerate(votes):
            if vote is not None:
                self.cast[number, seat] = vote
                self._commit(number, seat, members[seat])
        if None in votes:
            self.now += TERMS.commit_window
        for seat, vote in enumerate(votes):
            if vote is not None:
                self._reveal(number, seat, members[seat], vote)
        self._resolve(number, [member.address for member in members])

    @rule(where=where, age=age, output=st.booleans(), row=st.integers(0, 2), who=index)
    def demand(self, where: tuple[int, int, int], age: int, output: bool, row: int, who: int) -> None:
        signer, stage, receipt = self.receipt(where, age)
        sender = self.accusers[who % 2]
        size = receipt["outputs"] if output else receipt["tokens"]
        self.agree(
            lambda now: self.demanding.demand(
                sender.address, signer.address, *where[1:], output, row, size, receipt["issued"], now
            ),
            self.demands.demand,
            tuple(stage.values()),
            tuple(receipt.values()),
            self.signed(signer, stage, receipt),
            output,
            row,
            sender=sender,
        )

    def demand_number(self, index: int, stray: bool) -> int:
        demands = self.demanding.demands
        likely = [n for n, demand in enumerate(demands, 1) if demand.status == 1]
        return self.pick(index, [] if stray else likely, list(range(len(demands) + 2)))

    @rule(which=index, stray=stray, wrong=stray)
    def serve(self, which: int, stray: bool, wrong: bool) -> None:
        number = self.demand_number(which, stray)
        shown = self.demands.demands(number)
        rows = ROWS[: max(shown.size, 1)]
        data = b"no row" if wrong else rows[shown.row]
        self.agree(
            lambda now: self.demanding.serve(number, not wrong, now),
            self.demands.serve,
            number,
            data,
            tree_path(rows, shown.row),
            sender=self.people[which % len(self.people)],
        )

    @rule(which=index, stray=stray, patience=st.sampled_from([0, 0, TERMS.serve_window]))
    def lapse(self, which: int, stray: bool, patience: bool) -> None:
        number = self.demand_number(which, stray)
        self.now += patience
        self.agree(
            lambda now: self.demanding.lapse(number, now), self.demands.lapse, number, sender=self.people[0]
        )

    @rule(who=index, patience=st.sampled_from([0, UNBONDING]))
    def claim_credits(self, who: int, patience: bool) -> None:
        credited = [p for p in self.people if self.model.credits[p.address].amount]
        sender = self.pick(who, credited, self.people)
        self.now += patience
        self.agree(
            lambda now: self.model.claim_credits(sender.address, now),
            self.cases.claimCredits,
            sender=sender,
        )

    @initialize()
    def open_some(self) -> None:
        for seq in range(2):
            self.open_case((0, 0, seq), 0, seq)
            self.demand((1, 1, seq), 0, False, seq, seq)

    def figures_agree(self) -> None:
        self.registry_agrees()
        for account in self.people:
            credit = self.model.credits[account.address].figures(self.read_at)
            assert tuple(self.cases.credits(account)) == credit
            assert self.cases.isEnlisted(account) == (account.address in self.model.enlisted)
        for number, case in enumerate(self.model.cases, 1):
            shown, votes = self.cases.cases(number), [*case.votes.values()]
            assert (PHASES[shown.phase], OUTCOMES[shown.outcome]) == (case.phase, case.outcome)
            assert shown.bond == (0 if case.phase == "Closed" else self.terms.bond)
            assert (shown.accuser, shown.node, shown.openedBlock) == (case.accuser, case.node, case.block)
            assert (shown.committed, shown.revealed) == (len(case.committed), len(votes))
            counts = [votes.count(kind) for kind in (GUILTY, INNOCENT, UNSERVED)]
            assert [shown.guilty, shown.innocent, shown.unserved] == counts
        for number, demand in enumerate(self.demanding.demands, 1):
            shown = self.demands.demands(number)
            assert (shown.status, shown.deadline) == (demand.status, demand.deadline)
        for key in self.keys[:2]:
            for stage, stage_hash in enumerate(self.hashes):
                convicted = (key.address, stage) in self.model.convicted
                assert self.cases.isConvicted(key, stage_hash) == convicted

    @invariant()
    def no_wei_appears_or_disappears(self) -> None:
        assert self.token.balanceOf(self.cases) == self.model.held()
        assert self.token.balanceOf(self.demands) == self.demanding.held()
        assert self.token.balanceOf(self.proofs) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("seats", "examples"), [(3, 8), (5, 3), (7, 2)])
def test_disputes_do_as_the_reference(
    chain: Chain, deploy: Deploy, accounts: Accounts, deployer: Account, seats: int, examples: int
) -> None:
    operators, terms = seats + 3, terms_of(seats)
    people = [accounts.generate_test_account() for _ in range(2 * operators + ACCUSERS)]
    money = deploy("HyperToken", deployer, FUNDS * len(people))
    registry = deploy("StakingRegistry", money, UNBONDING, terms.fault, 1)
    cases = deploy("DisputeCases", registry, astuple(terms))
    three = cases, deploy("DisputeProofs", cases), deploy("DisputeDemands", cases)
    registry.setSlashers(three, sender=deployer)
    for account in people:
        account.balance = 10**20
        money.transfer(account, FUNDS, sender=deployer)
        for contract in (registry, *three):
            money.approve(contract, UNLIMITED, sender=account)
    for operator, key in zip(people[:operators], people[operators : 2 * operators], strict=True):
        registry.stake(STAKE, sender=operator)
        consent = sign_consent(key.private_key, registry.address, operator.address, key.address, 2**40)
        registry.authorize(key, terms.fault, 2**40, compact(consent), sender=operator)
        cases.enlist(sender=key)
    run_sequences(
        lambda: DisputeSequence(chain, money, registry, *three, people, terms),
        settings(BUDGET, max_examples=examples),
    )
