"""A market whose registry is called at random beside its reference; disputes are added in test_disputes_random."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.contracts.court import tree_root
from tests.contracts.kinds import Account, Chain, Contract, Struct
from tests.contracts.reference import StakingRegistry
from tests.contracts.reference_disputes import DisputeCases, DisputeDemands, DisputeProofs, Terms
from tests.contracts.sequences import FUNDS, Sequence, index
from tests.contracts.signing import compact, sign_consent, sign_receipt, words

ACCUSERS = 2
AGREED = 30
"""Receipts of so many seconds are the same, or there would never be two cases about one."""
STAKE = 40
UNBONDING = 260
TERMS = Terms(
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
    draw_delay=0,
)


def terms_of(seats: int) -> Terms:
    """Terms for committees of three, five or seven under which no member's part is rounded to nothing."""
    fault = 10 if seats == 3 else 20
    return replace(TERMS, seats=seats, fault=fault, member_bps=10_000 // fault, bond=3 * seats - 2)


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


class DisputeMarket(Sequence):
    """Operators with a node key each, the first two of whom work and may be accused, and two accusers.

    `people` are operators, as many node keys, and the accusers. The minimum stake is a fault.
    """

    def __init__(
        self,
        chain: Chain,
        token: Contract,
        registry: Contract,
        cases: Contract,
        proofs: Contract,
        demands: Contract,
        people: list[Account],
        terms: Terms,
    ) -> None:
        super().__init__(chain, token, people)
        self.terms, operators = terms, (len(people) - ACCUSERS) // 2
        self.registry, self.supply = registry, token.totalSupply()
        self.cases, self.proofs, self.demands = cases, proofs, demands
        self.operators = people[:operators]
        self.keys = people[operators : 2 * operators]
        self.accusers = people[-ACCUSERS:]
        self.accounts = {account.address: account for account in people}
        self.hashes = [proofs.stageHashOf(tuple(stage.values())) for stage in STAGES]
        slashers = {contract.address for contract in (cases, proofs, demands)}
        self.staking = StakingRegistry(registry.address, self.books, slashers, UNBONDING, terms.fault)
        shared = self.books, self.staking, terms
        self.model = DisputeCases(cases.address, *shared)
        self.proving = DisputeProofs(proofs.address, *shared)
        self.demanding = DisputeDemands(demands.address, *shared)
        for operator, key in zip(self.operators, self.keys, strict=True):
            self.staking.stake(operator.address, STAKE, 0)
            self.staking.authorize(operator.address, key.address, terms.fault, 0, True, 0)
            self.model.enlist(key.address, 0)
        self.cast: dict[tuple[int, int], int] = {}

    @property
    def block(self) -> int:
        """Number of the next block."""
        return self.chain.blocks.height + 1

    @property
    def second(self) -> int:
        """Time of the next call."""
        return self.now + 1

    def receipt(self, where: tuple[int, int, int], age: int) -> tuple[Account, Struct, Struct]:
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
            "issued": self.second // AGREED * AGREED - age,
        }
        return signer, STAGES[stage], receipt

    def signed(self, signer: Account, stage: Struct, receipt: Struct) -> tuple[bytes, bytes]:
        return words(sign_receipt(signer.private_key, self.cases.address, stage, receipt))

    @rule(seconds=st.sampled_from([1, 5, TERMS.reveal_window, UNBONDING]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    # --------------------------------------------------------------- registry

    @rule(who=index, more=st.sampled_from([1, 5, 10]))
    def stake(self, who: int, more: int) -> None:
        sender = self.pick(who, [], self.operators)
        self.agree(
            lambda now: self.staking.stake(sender.address, more, now),
            self.registry.stake,
            more,
            sender=sender,
        )

    @rule(who=index, rest=st.sampled_from([0, 4, 5, 13, 25]))
    def unstake(self, who: int, rest: int) -> None:
        sender = self.pick(who, [], self.operators)
        amount = max(0, self.staking.accounts[sender.address].active - rest)
        self.agree(
            lambda now: self.staking.unstake(sender.address, amount, now),
            self.registry.unstake,
            amount,
            sender=sender,
        )

    @rule(who=index)
    def withdraw(self, who: int) -> None:
        thawing = [o for o in self.operators if self.staking.accounts[o.address].thawing]
        sender = self.pick(who, thawing, self.operators)
        self.agree(
            lambda now: self.staking.withdraw(sender.address, now),
            self.registry.withdraw,
            sender=sender,
        )

    @rule(who=index)
    def revoke_or_return(self, who: int) -> None:
        """A node key leaves its operator, or comes back."""
        number = who % len(self.operators)
        operator, key = self.operators[number], self.keys[number]
        if key.address in self.staking.operators:
            self.agree(
                lambda now: self.staking.revoke(operator.address, key.address),
                self.registry.revoke,
                key,
                sender=operator,
            )
            return
        consent = sign_consent(key.private_key, self.registry.address, operator.address, key.address, 2**40)
        self.agree(
            lambda now: self.staking.authorize(
                operator.address, key.address, self.terms.fault, 2**40, True, now
            ),
            self.registry.authorize,
            key,
            self.terms.fault,
            2**40,
            compact(consent),
            sender=operator,
        )

    @rule(who=index)
    def claim_rewards(self, who: int) -> None:
        rewarded = [p for p in self.people if self.staking.accounts[p.address].rewards.amount]
        sender = self.pick(who, rewarded, self.people)
        self.agree(
            lambda now: self.staking.claim_rewards(sender.address, now),
            self.registry.claimRewards,
            sender=sender,
        )

    def registry_agrees(self) -> None:
        """Stakes and rewards are those of the reference, and no wei appears or disappears."""
        staked = sum(own.active + own.thawing + own.rewards.amount for own in self.staking.accounts.values())
        assert self.token.balanceOf(self.registry) == staked
        burned = FUNDS * len(self.people) - sum(self.books.balances.values())
        assert self.token.totalSupply() == self.supply - burned
        for account in self.people:
            own = self.staking.accounts[account.address]
            assert tuple(self.registry.stakes(account)) == (own.active, own.thawing, own.thaw_end)
            assert tuple(self.registry.rewards(account)) == own.rewards.figures(self.read_at)
