"""Random sequences of calls to channels and registry; see `sequences`.

After every call the contract also holds exactly what its books say.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from hypercluster.market.money.signing import NOBODY
from tests.contracts import reference
from tests.contracts.conftest import UNLIMITED
from tests.contracts.kinds import Account, Accounts, Chain, Contract, Deploy, Descriptor, Signature
from tests.contracts.sequences import (
    FUNDS,
    MIN_STAKE,
    UNBONDING,
    Sequence,
    amount,
    index,
    run_sequences,
    stray,
)
from tests.contracts.signing import compact, sign_consent, sign_voucher, words

GRACE = UNBONDING

growth = st.sampled_from([1, 2, 3, 1, 2, 5, 0, -1, 20, reference.MAX])
"""By how much a voucher exceeds what was settled."""
quality = st.sampled_from(["good"] * 6 + ["forged", "of another"])
row = st.tuples(index, stray, growth, quality)


class ChannelSequence(Sequence):
    """Sixteen channels: two payers, two payees, four salts. One account is both payer and payee."""

    def __init__(
        self, chain: Chain, token: Contract, channels: Contract, people: list[Account], signer: Account
    ) -> None:
        super().__init__(chain, token, people)
        self.channels, self.signer = channels, signer
        self.model = reference.PaymentChannels(channels.address, self.books, GRACE)
        self.accounts = {account.address: account for account in people}
        addresses = list(self.accounts)
        self.ids = {}
        for payer in addresses[:2]:
            for payee in addresses[1:]:
                for salt in range(4):
                    descriptor = (payer, payee, signer.address, salt.to_bytes(32, "big"))
                    self.ids[descriptor] = channels.channelIdOf(descriptor)

    def channel(self, index: int, stray: bool, status: int = 1) -> Descriptor:
        """A channel that is open (or in another status), or any."""
        likely = [] if stray else [c for c in self.ids if self.model.channels[c].status == status]
        return self.pick(index, likely, list(self.ids))

    def voucher(self, row: tuple[int, bool, int, str]) -> tuple[Descriptor, int, Signature, bool]:
        """Channel, cumulative sum, signature (v, r, s) and whether that is valid."""
        index, stray, growth, quality = row
        channel = self.channel(index, stray)
        cumulative = min(max(self.model.channels[channel].settled + growth, 0), reference.MAX)
        signer = self.people[0] if quality == "forged" else self.signer
        signed = next(c for c in self.ids if c != channel) if quality == "of another" else channel
        signature = sign_voucher(signer.private_key, self.channels.address, self.ids[signed], cumulative)
        return channel, cumulative, signature, quality == "good"

    def sender(self, address: str, index: int, stray: bool) -> Account:
        """The account that may call, or any."""
        return self.people[index % 3] if stray else self.accounts[address]

    @initialize()
    def open_some(self) -> None:
        for number in range(0, 24, 4):
            self.open(number, stray=False, deposit=8)

    @rule(index=index, stray=stray, deposit=amount)
    def open(self, index: int, stray: bool, deposit: int) -> None:
        payer, payee, signer, salt = self.channel(index, stray, status=0)
        self.agree(
            lambda now: self.model.open_many(payer, [(payee, signer, salt, deposit)]),
            self.channels.open,
            payee,
            signer,
            salt,
            deposit,
            sender=self.accounts[payer],
        )

    @rule(payer=st.integers(0, 1), openings=st.lists(st.tuples(index, stray, amount), max_size=3))
    def open_many(self, payer: int, openings: list[tuple[int, bool, int]]) -> None:
        rows = [(*self.channel(index, stray, status=0)[1:], deposit) for index, stray, deposit in openings]
        sender = self.people[payer]
        self.agree(
            lambda now: self.model.open_many(sender.address, rows),
            self.channels.openMany,
            rows,
            sender=sender,
        )

    @rule(index=index, stray=stray, astray=stray, amount=amount)
    def top_up(self, index: int, stray: bool, astray: bool, amount: int) -> None:
        channel = self.channel(index, stray)
        sender = self.sender(channel[0], index, astray)
        self.agree(
            lambda now: self.model.top_up(sender.address, channel, amount),
            self.channels.topUp,
            channel,
            amount,
            sender=sender,
        )

    @rule(index=index, row=row)
    def settle(self, index: int, row: tuple[int, bool, int, str]) -> None:
        channel, cumulative, signature, valid = self.voucher(row)
        self.agree(
            lambda now: self.model.settle(channel, cumulative, valid),
            self.channels.settle,
            channel,
            cumulative,
            compact(signature),
            sender=self.people[index % 3],
        )

    @rule(index=index, payee=st.integers(1, 2), rows=st.lists(row, max_size=5))
    def settle_batch(self, index: int, payee: int, rows: list[tuple[int, bool, int, str]]) -> None:
        paid = self.people[payee].address
        vouchers = [voucher for row in rows if (voucher := self.voucher(row))[0][1] == paid]
        claims = [
            (payer, signer, salt, cumulative, *words(signature))
            for (payer, _, signer, salt), cumulative, signature, _ in vouchers
        ]
        self.agree(
            lambda now: self.model.settle_batch(paid, [(c, sum, valid) for c, sum, _, valid in vouchers]),
            self.channels.settleBatch,
            paid,
            claims,
            sender=self.people[index % 3],
        )

    @rule(index=index, row=row, astray=stray)
    def close(self, index: int, row: tuple[int, bool, int, str], astray: bool) -> None:
        channel, cumulative, signature, valid = self.voucher(row)
        sender = self.sender(channel[1], index, astray)
        self.agree(
            lambda now: self.model.close(sender.address, channel, cumulative, valid),
            self.channels.close,
            channel,
            cumulative,
            compact(signature),
            sender=sender,
        )

    @rule(index=index, stray=stray, astray=stray)
    def request_close(self, index: int, stray: bool, astray: bool) -> None:
        channel = self.channel(index, stray)
        sender = self.sender(channel[0], index, astray)
        self.agree(
            lambda now: self.model.request_close(sender.address, channel, now),
            self.channels.requestClose,
            channel,
            sender=sender,
        )

    @rule(index=index, stray=stray, astray=stray)
    def withdraw(self, index: int, stray: bool, astray: bool) -> None:
        closing = [c for c in self.ids if self.model.channels[c].close_at]
        channel = self.pick(index, [] if stray else closing, list(self.ids))
        sender = self.sender(channel[0], index, astray)
        self.agree(
            lambda now: self.model.withdraw(sender.address, channel, now),
            self.channels.withdraw,
            channel,
            sender=sender,
        )

    def figures_agree(self) -> None:
        for channel, channel_id in self.ids.items():
            assert tuple(self.channels.channels(channel_id)) == self.model.channels[channel].figures

    @invariant()
    def no_wei_appears_or_disappears(self) -> None:
        locked = sum(channel.deposit - channel.settled for channel in self.model.channels.values())
        assert self.token.balanceOf(self.channels) == locked
        assert sum(self.books.balances.values()) == FUNDS * len(self.people)


class StakingSequence(Sequence):
    def __init__(
        self, chain: Chain, token: Contract, registry: Contract, people: list[Account], slasher: Account
    ) -> None:
        super().__init__(chain, token, people)
        self.registry, self.slasher, self.supply = registry, slasher, token.totalSupply()
        self.model = reference.StakingRegistry(
            registry.address, self.books, {slasher.address}, UNBONDING, MIN_STAKE
        )

    def account(self, index: int, stray: bool, likely: Callable[[Any], bool]) -> Account:
        """An account whose record is likely to do, or any."""
        fitting = [a for a in self.people if likely(self.model.accounts[a.address])]
        return self.pick(index, [] if stray else fitting, self.people)

    @rule(index=index, amount=amount)
    def stake(self, index: int, amount: int) -> None:
        sender = self.people[index % 3]
        self.agree(
            lambda now: self.model.stake(sender.address, amount, now),
            self.registry.stake,
            amount,
            sender=sender,
        )

    @rule(index=index, stray=stray, amount=amount)
    def unstake(self, index: int, stray: bool, amount: int) -> None:
        sender = self.account(index, stray, lambda own: own.active >= amount)
        self.agree(
            lambda now: self.model.unstake(sender.address, amount, now),
            self.registry.unstake,
            amount,
            sender=sender,
        )

    @rule(index=index, stray=stray)
    def cancel_unstake(self, index: int, stray: bool) -> None:
        sender = self.account(index, stray, lambda own: own.thawing)
        self.agree(
            lambda now: self.model.cancel_unstake(sender.address), self.registry.cancelUnstake, sender=sender
        )

    @rule(index=index, stray=stray)
    def withdraw(self, index: int, stray: bool) -> None:
        sender = self.account(index, stray, lambda own: own.thawing)
        self.agree(
            lambda now: self.model.withdraw(sender.address, now), self.registry.withdraw, sender=sender
        )

    @rule(index=index, stray=stray, reporter=st.integers(0, 3), requested=amount, reward=amount)
    def slash(self, index: int, stray: bool, reporter: int, requested: int, reward: int) -> None:
        sender = self.people[index % 3] if stray else self.slasher
        rewarded = self.people[reporter].address if reporter < 3 else NOBODY
        operator = self.account(index, stray, lambda own: own.active + own.thawing).address
        self.agree(
            lambda now: self.model.slash(sender.address, operator, requested, rewarded, reward, now),
            self.registry.slash,
            operator,
            requested,
            rewarded,
            reward,
            sender=sender,
        )

    @rule(index=index, stray=stray)
    def claim_rewards(self, index: int, stray: bool) -> None:
        sender = self.account(index, stray, lambda own: own.rewards.amount)
        self.agree(
            lambda now: self.model.claim_rewards(sender.address, now),
            self.registry.claimRewards,
            sender=sender,
        )

    @rule(index=index, stray=stray, key=index, share=amount, ahead=st.sampled_from([50, 50, 1, 0]))
    def authorize(self, index: int, stray: bool, key: int, share: int, ahead: int) -> None:
        sender, deadline = self.people[index % 3], self.now + ahead
        free = [a for a in self.people if self.model.may_authorize(sender.address, a.address)]
        node_key = self.pick(key, free, self.people)
        by = self.people[index % 3] if stray else node_key
        consent = sign_consent(
            by.private_key, self.registry.address, sender.address, node_key.address, deadline
        )
        self.agree(
            lambda now: self.model.authorize(
                sender.address, node_key.address, share, deadline, by == node_key, now
            ),
            self.registry.authorize,
            node_key,
            share,
            deadline,
            compact(consent),
            sender=sender,
        )

    @rule(index=index, stray=stray, share=amount)
    def reshare(self, index: int, stray: bool, share: int) -> None:
        bound = [a for a in self.people if a.address in self.model.operators]
        node_key = self.pick(index, bound, self.people)
        owners = [a for a in self.people if a.address == self.model.operators.get(node_key.address)]
        sender = self.pick(index, [] if stray else owners, self.people)
        self.agree(
            lambda now: self.model.reshare(sender.address, node_key.address, share),
            self.registry.reshare,
            node_key,
            share,
            sender=sender,
        )

    @rule(index=index, stray=stray)
    def revoke(self, index: int, stray: bool) -> None:
        bound = [a for a in self.people if a.address in self.model.operators]
        node_key = self.pick(index, bound, self.people)
        owners = [a for a in self.people if a.address == self.model.operators.get(node_key.address)]
        sender = self.pick(index, [] if stray else owners, self.people)
        self.agree(
            lambda now: self.model.revoke(sender.address, node_key.address),
            self.registry.revoke,
            node_key,
            sender=sender,
        )

    def figures_agree(self) -> None:
        for account in self.people:
            own = self.model.accounts[account.address]
            assert tuple(self.registry.stakes(account)) == (own.active, own.thawing, own.thaw_end)
            assert tuple(self.registry.rewards(account)) == own.rewards.figures(self.read_at)
            assert self.registry.operatorOf(account) == self.model.operators.get(account.address, NOBODY)
            assert self.registry.answersFor(account) == self.model.answers.get(account.address, NOBODY)
            assert self.registry.isEligible(account) == self.model.is_eligible(account.address)
            assert self.registry.shareOf(account) == self.model.shares.get(account.address, 0)
            assert self.registry.backingOf(account) == self.model.backing(account.address)
            assert self.registry.committed(account) == self.model.committed(account.address)
        found = [tuple(each) for each in self.registry.standings(self.people)]
        registry = self.registry
        assert found == [
            (registry.operatorOf(a), registry.backingOf(a), registry.isEligible(a)) for a in self.people
        ]

    @invariant()
    def no_wei_is_behind_two_keys(self) -> None:
        for operator in self.people:
            keys = [key for key, owner in self.model.operators.items() if owner == operator.address]
            active = self.registry.stakes(operator).active
            assert sum(self.registry.backingOf(key) for key in keys) <= active
            assert self.registry.committed(operator) == sum(self.registry.shareOf(key) for key in keys)

    @invariant()
    def no_wei_appears_or_disappears(self) -> None:
        held = sum(own.active + own.thawing + own.rewards.amount for own in self.model.accounts.values())
        assert self.token.balanceOf(self.registry) == held
        burned = FUNDS * len(self.people) - sum(self.books.balances.values())
        assert self.token.totalSupply() == self.supply - burned


@pytest.fixture
def people(accounts: Accounts, deployer: Account) -> list[Account]:
    return list(accounts[1:4])


@pytest.fixture
def money(deploy: Deploy, deployer: Account, people: list[Account]) -> Contract:
    """A token of its own, spread evenly."""
    money = deploy("HyperToken", deployer, FUNDS * len(people))
    for account in people:
        money.transfer(account, FUNDS, sender=deployer)
    return money


def allow(money: Contract, contract: Contract, people: list[Account]) -> None:
    for account in people:
        money.approve(contract, UNLIMITED, sender=account)


@pytest.mark.slow
def test_channels_do_as_the_reference(
    chain: Chain, deploy: Deploy, money: Contract, people: list[Account], accounts: Accounts
) -> None:
    channels = deploy("PaymentChannels", money, GRACE)
    allow(money, channels, people)
    run_sequences(lambda: ChannelSequence(chain, money, channels, people, accounts[4]))


@pytest.mark.slow
def test_staking_does_as_the_reference(
    chain: Chain, deploy: Deploy, deployer: Account, money: Contract, people: list[Account], slasher: Account
) -> None:
    registry = deploy("StakingRegistry", money, UNBONDING, MIN_STAKE, 1)
    registry.setSlashers([slasher], sender=deployer)
    allow(money, registry, people)
    run_sequences(lambda: StakingSequence(chain, money, registry, people, slasher))
