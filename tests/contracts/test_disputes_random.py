"""Random sequences of calls to disputes and the registry behind them; see `sequences`."""

from dataclasses import astuple

import pytest
import reference
from conftest import NOBODY, UNLIMITED
from court import OUTCOMES, commitment, tree_path, tree_root
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test
from reference import GREY, GUILTY, INNOCENT, UNSERVED
from sequences import BUDGET, FUNDS, MIN_STAKE, UNBONDING, Sequence, index, stray
from signing import compact, sign_consent, sign_receipt, words

OPERATORS = 6
STAKE = 40
TERMS = reference.Terms(
    fault=10,
    silence=2,
    bond=7,
    demand_bond=3,
    reward_bps=1500,
    member_bps=1000,
    seats=3,
    skew=5,
    evidence_window=40,
    draw_window=15,
    commit_window=15,
    reveal_window=15,
    serve_window=20,
)
PHASES = ("None", "Drawing", "Committing", "Revealing", "Closed")
ROWS = [b"a row", b"another"]
STAGES = [
    {
        "session": bytes([number]) * 16,
        "nonce": bytes(16),
        "channelId": bytes(32),
        "modelId": bytes(32),
        "layerStart": 0,
        "layerStop": 4,
        "wireDtype": 1,
        "profile": bytes(32),
    }
    for number in range(2)
]

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


class DisputeSequence(Sequence):
    """Six operators with a node key each, the first two of whom work and may be accused, and two accusers."""

    def __init__(self, chain, token, registry, disputes, people):
        super().__init__(chain, token, people)
        self.registry, self.disputes, self.supply = registry, disputes, token.totalSupply()
        self.operators = people[:OPERATORS]
        self.keys = people[OPERATORS : 2 * OPERATORS]
        self.accusers = people[2 * OPERATORS :]
        self.accounts = {account.address: account for account in people}
        self.hashes = [disputes.stageHashOf(tuple(stage.values())) for stage in STAGES]
        staking = reference.StakingRegistry(
            registry.address, self.books, disputes.address, UNBONDING, MIN_STAKE
        )
        self.model = reference.DisputeManager(disputes.address, self.books, staking, TERMS)
        for operator, key in zip(self.operators, self.keys, strict=True):
            staking.stake(operator.address, STAKE)
            staking.authorize(operator.address, key.address, 0, True, 0)
            self.model.enlist(key.address, 0)
        self.cast = {}

    @property
    def block(self):
        """Number of the next block."""
        return self.chain.blocks.height + 1

    @property
    def second(self):
        """Time of the next call."""
        return self.now + 1

    def receipt(self, where, age):
        """Signer, stage and receipt with its signature, as calls take them."""
        who, stage, seq = where
        signer = self.accusers[0] if who == 15 else self.keys[who % 2]
        receipt = {
            "seq": seq,
            "position": 0,
            "tokens": 2,
            "outputs": 1,
            "inRoot": tree_root(ROWS),
            "outRoot": tree_root(ROWS[:1]),
            "previous": bytes(32),
            "issued": self.second - age,
        }
        return signer, STAGES[stage], receipt

    def signed(self, signer, stage, receipt):
        return words(sign_receipt(signer.private_key, self.disputes.address, stage, receipt))

    def case(self, index, stray, *phases):
        """Number of a case in one of the phases, or of any, or of none."""
        cases = self.model.cases
        likely = [n for n, case in enumerate(cases, 1) if case.phase in phases]
        return self.pick(index, [] if stray else likely, range(len(cases) + 2))

    @rule(seconds=st.sampled_from([1, 5, TERMS.reveal_window, UNBONDING]))
    def wait(self, seconds):
        self.now += seconds

    def judging(self):
        """Whether a committee sits."""
        return any(case.phase in ("Committing", "Revealing") for case in self.model.cases)

    # --------------------------------------------------------------- registry

    @rule(who=index, more=st.sampled_from([1, 5, 10]))
    def stake(self, who, more):
        sender = self.pick(who, [], self.operators)
        self.agree(
            lambda now: self.model.registry.stake(sender.address, more),
            self.registry.stake,
            more,
            sender=sender,
        )

    @rule(who=index, rest=st.sampled_from([0, 4, 5, 13, 25]))
    def unstake(self, who, rest):
        sender = self.pick(who, [], self.operators)
        amount = max(0, self.model.registry.accounts[sender.address].active - rest)
        self.agree(
            lambda now: self.model.registry.unstake(sender.address, amount, now),
            self.registry.unstake,
            amount,
            sender=sender,
        )

    @rule(who=index)
    def withdraw(self, who):
        thawing = [o for o in self.operators if self.model.registry.accounts[o.address].thawing]
        sender = self.pick(who, thawing, self.operators)
        self.agree(
            lambda now: self.model.registry.withdraw(sender.address, now),
            self.registry.withdraw,
            sender=sender,
        )

    @rule(who=index)
    def revoke_or_return(self, who):
        """A node key leaves its operator, or comes back."""
        number = who % OPERATORS
        operator, key = self.operators[number], self.keys[number]
        if key.address in self.model.registry.operators:
            self.agree(
                lambda now: self.model.registry.revoke(operator.address, key.address),
                self.registry.revoke,
                key,
                sender=operator,
            )
            return
        consent = sign_consent(key.private_key, self.registry.address, operator.address, key.address, 2**40)
        self.agree(
            lambda now: self.model.registry.authorize(operator.address, key.address, 2**40, True, now),
            self.registry.authorize,
            key,
            2**40,
            compact(consent),
            sender=operator,
        )

    @rule(who=index)
    def claim_rewards(self, who):
        rewarded = [p for p in self.people if self.model.registry.accounts[p.address].reward]
        sender = self.pick(who, rewarded, self.people)
        self.agree(
            lambda now: self.model.registry.claim_rewards(sender.address, now),
            self.registry.claimRewards,
            sender=sender,
        )

    # --------------------------------------------------------------- disputes

    @rule(where=where, who=index)
    def prove_equivocation(self, where, who):
        signer, stage, first = self.receipt(where, 0)
        second = first | {"inRoot": bytes(32)}
        sender = self.pick(who, [], self.people)
        self.agree(
            lambda now: self.model.prove_equivocation(
                sender.address, signer.address, where[1], where[2], now
            ),
            self.disputes.proveEquivocation,
            self.hashes[where[1]],
            tuple(first.values()),
            *self.signed(signer, stage, first),
            tuple(second.values()),
            *self.signed(signer, stage, second),
            sender=sender,
        )

    @rule(who=index)
    def enlist(self, who):
        away = [key for key in self.keys if key.address not in self.model.enlisted]
        sender = self.pick(who, away, self.people)
        block = self.block
        self.agree(lambda now: self.model.enlist(sender.address, block), self.disputes.enlist, sender=sender)

    @rule(who=index, stray=stray)
    def delist(self, who, stray):
        verifier = self.keys[who % OPERATORS]
        sender = self.pick(who, [], self.people if stray else [verifier, self.operators[who % OPERATORS]])
        self.agree(
            lambda now: self.model.delist(sender.address, verifier.address),
            self.disputes.delist,
            verifier,
            sender=sender,
        )

    @rule(where=where, age=age, who=index)
    def open_case(self, where, age, who):
        signer, stage, receipt = self.receipt(where, age)
        sender = self.people[4] if who == 15 else self.accusers[who % 2]
        block = self.block
        self.agree(
            lambda now: self.model.open_case(
                sender.address, signer.address, where[1], where[2], receipt["issued"], now, block
            ),
            self.disputes.openCase,
            tuple(stage.values()),
            tuple(receipt.values()),
            *self.signed(signer, stage, receipt),
            sender=sender,
        )

    @rule(which=index, stray=stray)
    def draw(self, which, stray):
        self._draw(self.case(which, stray, "Drawing"))

    def _draw(self, number):
        members = self.agree(
            lambda now: self.model.draw(number, now), self.disputes.draw, number, sender=self.people[0]
        )
        if not isinstance(members, str):
            assert len({*members}) == TERMS.seats
            assert {*members} <= self.model.may_judge(number)
            self.model.cases[number - 1].members = [*members]

    def members(self, number):
        """The committee of a case, or somebody in its place."""
        case = self.model.cases[number - 1] if 0 < number <= len(self.model.cases) else None
        return [self.accounts[m] for m in case.members] if case and case.members else self.keys[:3]

    def _commit(self, number, seat, member):
        promise = commitment(number, member, self.cast[number, seat])
        self.agree(
            lambda now: self.model.commit(member.address, number, seat, promise, now),
            self.disputes.commit,
            number,
            seat,
            promise,
            sender=member,
        )

    def _reveal(self, number, seat, member, vote):
        promise = commitment(number, member, vote)
        self.agree(
            lambda now: self.model.reveal(member.address, number, seat, vote, promise, now),
            self.disputes.reveal,
            number,
            seat,
            vote,
            bytes(32),
            b"s" * 32,
            sender=member,
        )

    def _resolve(self, number, members):
        self.agree(
            lambda now: self.model.resolve(number, members, now),
            self.disputes.resolve,
            number,
            members,
            sender=self.people[0],
        )

    @precondition(judging)
    @rule(which=index, stray=stray, astray=stray, seat=st.integers(0, 2), vote=vote)
    def commit(self, which, stray, astray, seat, vote):
        number = self.case(which, stray, "Committing")
        self.cast.setdefault((number, seat), vote)
        self._commit(number, seat, self.members(number)[(seat + astray) % 3])

    @precondition(judging)
    @rule(which=index, stray=stray, astray=stray, seat=st.integers(0, 3), other=stray)
    def reveal(self, which, stray, astray, seat, other):
        number = self.case(which, stray, "Revealing", "Committing")
        vote = 0 if other else self.cast.get((number, seat), GUILTY)
        self._reveal(number, seat, self.members(number)[(seat + astray) % 3], vote)

    @rule(which=index, stray=stray, wrong=stray)
    def resolve(self, which, stray, wrong):
        number = self.case(which, stray, "Revealing", "Committing", "Drawing")
        members = [member.address for member in self.members(number)]
        self._resolve(number, members[::-1] if wrong else members)

    @rule(where=where, who=index, votes=turnout)
    def judge(self, where, who, votes):
        """A case from its opening to its end: single calls seldom line up by chance."""
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
    def demand(self, where, age, output, row, who):
        signer, stage, receipt = self.receipt(where, age)
        sender = self.accusers[who % 2]
        size = receipt["outputs"] if output else receipt["tokens"]
        self.agree(
            lambda now: self.model.demand(
                sender.address, signer.address, *where[1:], output, row, size, receipt["issued"], now
            ),
            self.disputes.demand,
            tuple(stage.values()),
            tuple(receipt.values()),
            *self.signed(signer, stage, receipt),
            output,
            row,
            sender=sender,
        )

    def demand_number(self, index, stray):
        demands = self.model.demands
        likely = [n for n, demand in enumerate(demands, 1) if demand.status == 1]
        return self.pick(index, [] if stray else likely, range(len(demands) + 2))

    @rule(which=index, stray=stray, wrong=stray)
    def serve(self, which, stray, wrong):
        number = self.demand_number(which, stray)
        shown = self.disputes.demands(number)
        rows = ROWS[: max(shown.size, 1)]
        data = b"no row" if wrong else rows[shown.row]
        self.agree(
            lambda now: self.model.serve(number, not wrong, now),
            self.disputes.serve,
            number,
            data,
            tree_path(rows, shown.row),
            sender=self.people[which % len(self.people)],
        )

    @rule(which=index, stray=stray, patience=st.sampled_from([0, 0, TERMS.serve_window]))
    def lapse(self, which, stray, patience):
        number = self.demand_number(which, stray)
        self.now += patience
        self.agree(
            lambda now: self.model.lapse(number, now), self.disputes.lapse, number, sender=self.people[0]
        )

    @rule(who=index, patience=st.sampled_from([0, UNBONDING]))
    def claim_credits(self, who, patience):
        credited = [p for p in self.people if self.model.credits[p.address]]
        sender = self.pick(who, credited, self.people)
        self.now += patience
        self.agree(
            lambda now: self.model.claim_credits(sender.address, now),
            self.disputes.claimCredits,
            sender=sender,
        )

    @initialize()
    def open_some(self):
        for seq in range(2):
            self.open_case((0, 0, seq), 0, seq)
            self.demand((1, 1, seq), 0, False, seq, seq)

    def figures_agree(self):
        staked = sum(own.active + own.thawing + own.reward for own in self.model.registry.accounts.values())
        assert self.token.balanceOf(self.registry) == staked
        burned = FUNDS * len(self.people) - sum(self.books.balances.values())
        assert self.token.totalSupply() == self.supply - burned
        for account in self.people:
            own = self.model.registry.accounts[account.address]
            assert tuple(self.registry.stakes(account)) == (own.active, own.thawing, own.thaw_end)
            assert tuple(self.registry.rewards(account)) == (own.reward, own.claimable_at)
            credit = self.model.credits[account.address], self.model.claimable[account.address]
            assert tuple(self.disputes.credits(account)) == credit
            assert self.disputes.isEnlisted(account) == (account.address in self.model.enlisted)
        for number, case in enumerate(self.model.cases, 1):
            shown, votes = self.disputes.cases(number), [*case.votes.values()]
            assert (PHASES[shown.phase], OUTCOMES[shown.outcome]) == (case.phase, case.outcome)
            assert shown.bond == (0 if case.phase == "Closed" else TERMS.bond)
            assert (shown.accuser, shown.node, shown.openedBlock) == (case.accuser, case.node, case.block)
            assert (shown.committed, shown.revealed) == (len(case.committed), len(votes))
            counts = [votes.count(kind) for kind in (GUILTY, INNOCENT, UNSERVED)]
            assert [shown.guilty, shown.innocent, shown.unserved] == counts
        for number, demand in enumerate(self.model.demands, 1):
            shown = self.disputes.demands(number)
            assert (shown.status, shown.deadline) == (demand.status, demand.deadline)
        for key in self.keys[:2]:
            for stage, stage_hash in enumerate(self.hashes):
                convicted = (key.address, stage) in self.model.convicted
                assert self.disputes.isConvicted(key, stage_hash) == convicted

    @invariant()
    def no_wei_appears_or_disappears(self):
        assert self.token.balanceOf(self.disputes) == self.model.held()


@pytest.mark.slow
def test_disputes_do_as_the_reference(chain, deploy, accounts, deployer):
    people = [accounts.generate_test_account() for _ in range(2 * OPERATORS + 2)]
    money = deploy("HyperToken", deployer, FUNDS * len(people))
    registry = deploy("StakingRegistry", money, NOBODY, UNBONDING, MIN_STAKE)
    disputes = deploy("DisputeManager", money, registry, astuple(TERMS))
    registry.setSlasher(disputes, sender=deployer)
    for account in people:
        account.balance = 10**20
        money.transfer(account, FUNDS, sender=deployer)
        money.approve(registry, UNLIMITED, sender=account)
        money.approve(disputes, UNLIMITED, sender=account)
    for operator, key in zip(people[:OPERATORS], people[OPERATORS : 2 * OPERATORS], strict=True):
        registry.stake(STAKE, sender=operator)
        consent = sign_consent(key.private_key, registry.address, operator.address, key.address, 2**40)
        registry.authorize(key, 2**40, compact(consent), sender=operator)
        disputes.enlist(sender=key)
    run_state_machine_as_test(
        lambda: DisputeSequence(chain, money, registry, disputes, people),
        settings=settings(BUDGET, max_examples=8),
    )
