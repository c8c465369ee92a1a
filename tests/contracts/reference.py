"""What the contracts do, in plain Python: integers and dictionaries, one method per function of the contract.

A method raises Refused with the name of the contract's error, or changes the books and returns what the
contract returns. Tokens move through `Token` alone, so that no wei can appear or disappear unseen.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from hypercluster.market.money.signing import NOBODY

MAX = 2**96 - 1


class Refused(Exception):
    """The contract reverts with the error named."""


def require(condition: bool, error: str) -> None:
    """Refuse with `error` unless the condition holds."""
    if not condition:
        raise Refused(error)


@dataclass
class Token:
    """Balances; every holder has allowed everything."""

    balances: defaultdict[str, int]

    def check(self, sender: str, amount: int) -> None:
        """Refuse a transfer that `sender` cannot pay, before any book is changed."""
        require(self.balances[sender] >= amount, "ERC20InsufficientBalance")

    def move(self, sender: str, receiver: str, amount: int) -> None:
        """Transfer."""
        self.check(sender, amount)
        self.balances[sender] -= amount
        self.balances[receiver] += amount

    def burn(self, holder: str, amount: int) -> None:
        """Destroy."""
        self.check(holder, amount)
        self.balances[holder] -= amount


@dataclass
class Channel:
    """Figures as the contract's view returns them."""

    settled: int = 0
    deposit: int = 0
    close_at: int = 0
    status: int = 0

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """(settled, deposit, closeAt, status)."""
        return self.settled, self.deposit, self.close_at, self.status


Descriptor = tuple[str, str, str, bytes]
"""Payer, payee, signer, salt."""


@dataclass
class PaymentChannels:
    """Reference of PaymentChannels; whether a signature is valid is told by the caller."""

    address: str
    token: Token
    grace: int
    channels: defaultdict[Descriptor, Channel] = field(default_factory=lambda: defaultdict(Channel))

    def open_many(self, payer: str, openings: list[tuple[str, str, bytes, int]]) -> None:
        """Both open and openMany: openings are (payee, signer, salt, deposit)."""
        fresh = set()
        for payee, signer, salt, deposit in openings:
            channel = (payer, payee, signer, salt)
            require(NOBODY not in (payee, signer), "ZeroAddress")
            require(deposit != 0, "ZeroAmount")
            require(self.channels[channel].status == 0 and channel not in fresh, "ChannelExists")
            fresh.add(channel)
        total = sum(opening[3] for opening in openings)
        self.token.move(payer, self.address, total)
        for payee, signer, salt, deposit in openings:
            self.channels[(payer, payee, signer, salt)] = Channel(deposit=deposit, status=1)

    def top_up(self, sender: str, descriptor: Descriptor, amount: int) -> None:
        """Add to a deposit."""
        require(sender == descriptor[0], "NotPayer")
        require(amount != 0, "ZeroAmount")
        channel = self._load(descriptor)
        require(channel.deposit + amount <= MAX, "Panic")
        self.token.move(sender, self.address, amount)
        channel.deposit += amount
        channel.close_at = 0

    def settle(self, descriptor: Descriptor, cumulative: int, valid: bool) -> None:
        """Pay one voucher."""
        channel = self._load(descriptor)
        require(cumulative > channel.settled, "NothingToSettle")
        self._check(channel, cumulative, valid)
        self._pay(descriptor, cumulative)

    def settle_batch(self, payee: str, rows: list[tuple[Descriptor, int, bool]]) -> int:
        """Pay many vouchers, all or none. Returns the sum paid."""
        settled = {descriptor: self.channels[descriptor].settled for descriptor, _, _ in rows}
        for descriptor, cumulative, valid in rows:
            if self.channels[descriptor].status == 1 and cumulative > settled[descriptor]:
                self._check(self.channels[descriptor], cumulative, valid)
                settled[descriptor] = cumulative
        return sum(self._pay(descriptor, cumulative) for descriptor, cumulative in settled.items())

    def close(self, sender: str, descriptor: Descriptor, cumulative: int, valid: bool) -> None:
        """End a channel as its payee."""
        require(sender == descriptor[1], "NotPayee")
        channel = self._load(descriptor)
        if cumulative > channel.settled:
            self._check(channel, cumulative, valid)
            self._pay(descriptor, cumulative)
        self._end(descriptor)

    def request_close(self, sender: str, descriptor: Descriptor, now: int) -> None:
        """Announce the end as the payer."""
        require(sender == descriptor[0], "NotPayer")
        channel = self._load(descriptor)
        require(channel.close_at == 0, "CloseAlreadyRequested")
        channel.close_at = now + self.grace

    def withdraw(self, sender: str, descriptor: Descriptor, now: int) -> None:
        """End a channel as its payer."""
        require(sender == descriptor[0], "NotPayer")
        channel = self._load(descriptor)
        require(channel.close_at != 0, "CloseNotRequested")
        require(now >= channel.close_at, "GracePeriod")
        self._end(descriptor)

    def _load(self, descriptor: Descriptor) -> Channel:
        channel = self.channels[descriptor]
        require(channel.status == 1, "ChannelNotOpen")
        return channel

    def _check(self, channel: Channel, cumulative: int, valid: bool) -> None:
        require(cumulative <= channel.deposit, "OverDeposit")
        require(valid, "BadSignature")

    def _pay(self, descriptor: Descriptor, cumulative: int) -> int:
        channel = self.channels[descriptor]
        paid = cumulative - channel.settled
        self.token.move(self.address, descriptor[1], paid)
        channel.settled = cumulative
        return paid

    def _end(self, descriptor: Descriptor) -> None:
        channel = self.channels[descriptor]
        self.token.move(self.address, descriptor[0], channel.deposit - channel.settled)
        self.channels[descriptor] = Channel(channel.settled, channel.settled, 0, 2)


@dataclass
class Dues:
    """What an account is owed: parts, each with the second from which it can be claimed."""

    parts: list[tuple[int, int]] = field(default_factory=list)

    @property
    def amount(self) -> int:
        """All of it."""
        return sum(amount for amount, _ in self.parts)

    def add(self, amount: int, now: int, delay: int) -> None:
        """Add a part: one delay after what waits the shortest, or after now when nothing waits."""
        at = min((at for _, at in self.parts if at > now), default=now) + delay
        if amount:
            self.parts.append((amount, at))

    def figures(self, now: int) -> tuple[int, int, int]:
        """(claimable, waiting, claimableAt) as the contract's view returns them."""
        claimable = sum(amount for amount, at in self.parts if at <= now)
        next_at = min((at for _, at in self.parts if at > now), default=0)
        return claimable, self.amount - claimable, next_at

    def take(self, now: int, locked: str) -> int:
        """Take what can be claimed, or refuse with `locked`."""
        require(self.parts != [], "NothingToClaim")
        claimable = self.figures(now)[0]
        require(claimable != 0, locked)
        self.parts = [part for part in self.parts if part[1] > now]
        return claimable


@dataclass
class Stake:
    """Stake of an operator as the contract's view returns it, and its rewards as a reporter."""

    active: int = 0
    thawing: int = 0
    thaw_end: int = 0
    grown: int = 0
    rewards: Dues = field(default_factory=Dues)


@dataclass
class StakingRegistry:
    """Reference of StakingRegistry."""

    address: str
    token: Token
    slashers: set[str]
    unbonding: int
    min_stake: int
    accounts: defaultdict[str, Stake] = field(default_factory=lambda: defaultdict(Stake))
    operators: dict[str, str] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def stake(self, sender: str, amount: int, now: int) -> None:
        """Add active stake."""
        require(amount != 0, "ZeroAmount")
        require(self.accounts[sender].active + amount <= MAX, "Panic")
        self.token.move(sender, self.address, amount)
        self.accounts[sender].active += amount
        self.accounts[sender].grown = now

    def unstake(self, sender: str, amount: int, now: int) -> None:
        """Let active stake thaw."""
        own = self.accounts[sender]
        require(amount != 0, "ZeroAmount")
        require(amount <= own.active, "InsufficientStake")
        own.active -= amount
        own.thawing += amount
        own.thaw_end = now + self.unbonding

    def cancel_unstake(self, sender: str) -> None:
        """Make thawing stake active."""
        own = self.accounts[sender]
        require(own.thawing != 0, "NothingThawing")
        own.active, own.thawing, own.thaw_end = own.active + own.thawing, 0, 0

    def withdraw(self, sender: str, now: int) -> None:
        """Pay thawed stake out."""
        own = self.accounts[sender]
        require(own.thawing != 0, "NothingThawing")
        require(now >= own.thaw_end, "StillThawing")
        self.token.move(self.address, sender, own.thawing)
        own.thawing, own.thaw_end = 0, 0

    def slash(self, sender: str, operator: str, requested: int, reporter: str, reward: int, now: int) -> int:
        """Take stake, burn at least half, keep the rest for the reporter. Returns what was taken."""
        require(sender in self.slashers, "NotSlasher")
        own = self.accounts[operator]
        taken = min(requested, own.active + own.thawing)
        rewarded = 0 if reporter == NOBODY else min(reward, taken // 2)
        from_active = min(taken, own.active)
        own.active -= from_active
        own.thawing -= taken - from_active
        self.token.burn(self.address, taken - rewarded)
        self.accounts[reporter].rewards.add(rewarded, now, self.unbonding)
        return taken

    def claim_rewards(self, sender: str, now: int) -> None:
        """Pay rewards out."""
        self.token.move(self.address, sender, self.accounts[sender].rewards.take(now, "RewardsLocked"))

    def authorize(self, sender: str, node_key: str, share: int, deadline: int, valid: bool, now: int) -> None:
        """Bind a node key to the sender, with a share of the stake."""
        require(share != 0, "ZeroAmount")
        require(now <= deadline, "ConsentExpired")
        require(self.may_authorize(sender, node_key), "NodeKeyTaken")
        require(valid, "BadConsent")
        require(share <= self.free(sender), "StakeCommitted")
        self.operators[node_key] = self.answers[node_key] = sender
        self.shares[node_key] = share

    def reshare(self, sender: str, node_key: str, share: int) -> None:
        """Change a share."""
        require(share != 0, "ZeroAmount")
        require(self.operators.get(node_key) == sender, "NotOperator")
        before = self.shares[node_key]
        require(share <= max(before, self.free(sender) + before), "StakeCommitted")
        self.shares[node_key] = share

    def committed(self, operator: str) -> int:
        """The sum of an operator's shares."""
        return sum(share for key, share in self.shares.items() if self.operators[key] == operator)

    def free(self, operator: str) -> int:
        """Active stake that is tied to no key; less than zero where too much is."""
        return self.accounts[operator].active - self.committed(operator)

    def may_authorize(self, sender: str, node_key: str) -> bool:
        """Whether the key is free for the sender: new, or revoked and its own."""
        return node_key not in self.operators and self.answers.get(node_key, sender) == sender

    def revoke(self, sender: str, node_key: str) -> None:
        """End the work of a node key."""
        require(node_key in self.operators and sender in (node_key, self.operators[node_key]), "NotOperator")
        del self.operators[node_key], self.shares[node_key]

    def backing(self, node_key: str) -> int:
        """Active stake behind a key."""
        if node_key not in self.operators:
            return 0
        total = self.committed(self.operators[node_key])
        return self.shares[node_key] * min(total, self.accounts[self.operators[node_key]].active) // total

    def is_eligible(self, node_key: str) -> bool:
        """Whether the minimum is tied to the key, and three quarters of that are behind it."""
        backing = self.backing(node_key)
        return backing > 0 and self.shares[node_key] >= self.min_stake and 4 * backing >= 3 * self.min_stake
