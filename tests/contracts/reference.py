"""What the contracts do, in plain Python: integers and dictionaries, one method per function of the contract.

A method raises Refused with the name of the contract's error, or changes the books and returns what the
contract returns. Tokens move through `Token` alone, so that no wei can appear or disappear unseen.
"""

from collections import defaultdict
from dataclasses import dataclass, field

MAX = 2**96 - 1
NOBODY = "0x" + "00" * 20


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
        for *others, deposit in openings:
            self.channels[(payer, *others)] = Channel(deposit=deposit, status=1)

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
class Stake:
    """Stake of an operator and reward of a reporter, as the contract's views return them."""

    active: int = 0
    thawing: int = 0
    thaw_end: int = 0
    reward: int = 0
    claimable_at: int = 0


@dataclass
class StakingRegistry:
    """Reference of StakingRegistry."""

    address: str
    token: Token
    slasher: str
    unbonding: int
    min_stake: int
    accounts: defaultdict[str, Stake] = field(default_factory=lambda: defaultdict(Stake))
    operators: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def stake(self, sender: str, amount: int) -> None:
        """Add active stake."""
        require(amount != 0, "ZeroAmount")
        require(self.accounts[sender].active + amount <= MAX, "Panic")
        self.token.move(sender, self.address, amount)
        self.accounts[sender].active += amount

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
        require(sender == self.slasher, "NotSlasher")
        own = self.accounts[operator]
        taken = min(requested, own.active + own.thawing)
        rewarded = 0 if reporter == NOBODY else min(reward, taken // 2)
        from_active = min(taken, own.active)
        own.active -= from_active
        own.thawing -= taken - from_active
        self.token.burn(self.address, taken - rewarded)
        if rewarded:
            self.accounts[reporter].reward += rewarded
            self.accounts[reporter].claimable_at = now + self.unbonding
        return taken

    def claim_rewards(self, sender: str, now: int) -> None:
        """Pay rewards out."""
        own = self.accounts[sender]
        require(own.reward != 0, "NothingToClaim")
        require(now >= own.claimable_at, "RewardsLocked")
        self.token.move(self.address, sender, own.reward)
        own.reward, own.claimable_at = 0, 0

    def authorize(self, sender: str, node_key: str, deadline: int, valid: bool, now: int) -> None:
        """Bind a node key to the sender."""
        require(now <= deadline, "ConsentExpired")
        require(self.may_authorize(sender, node_key), "NodeKeyTaken")
        require(valid, "BadConsent")
        self.operators[node_key] = self.answers[node_key] = sender

    def may_authorize(self, sender: str, node_key: str) -> bool:
        """Whether the key is free for the sender: new, or revoked and its own."""
        return node_key not in self.operators and self.answers.get(node_key, sender) == sender

    def revoke(self, sender: str, node_key: str) -> None:
        """End the work of a node key."""
        require(node_key in self.operators and sender in (node_key, self.operators[node_key]), "NotOperator")
        del self.operators[node_key]

    def is_eligible(self, node_key: str) -> bool:
        """Whether the key's operator has enough active stake."""
        return node_key in self.operators and self.accounts[self.operators[node_key]].active >= self.min_stake


VOTES = (INNOCENT, GUILTY, GREY, UNSERVED) = 1, 2, 3, 4


@dataclass(frozen=True)
class Terms:
    """Parameters of DisputeManager, in the order of its struct."""

    fault: int
    silence: int
    bond: int
    demand_bond: int
    reward_bps: int
    member_bps: int
    seats: int
    skew: int
    evidence_window: int
    draw_window: int
    commit_window: int
    reveal_window: int
    serve_window: int

    @property
    def reward(self) -> int:
        """The reporter's part of a fault."""
        return self.fault * self.reward_bps // 10_000

    @property
    def fee(self) -> int:
        """A guilty vote's part of a fault."""
        return self.fault * self.member_bps // 10_000


@dataclass
class Case:
    """A case: who is on trial for what, and which member said what."""

    accuser: str
    node: str
    stage: int
    seq: int
    block: int
    deadline: int
    phase: str = "Drawing"
    outcome: str = "None"
    members: list[str] = field(default_factory=list)
    committed: dict[int, bytes] = field(default_factory=dict)
    votes: dict[int, int] = field(default_factory=dict)


@dataclass
class Demand:
    """A demand for one row."""

    demander: str
    node: str
    deadline: int
    status: int = 1


@dataclass
class DisputeManager:
    """Reference of DisputeManager. Signatures are told apart by their signer; a draw is checked, not predicted."""

    address: str
    token: Token
    registry: StakingRegistry
    terms: Terms
    enlisted: dict[str, int] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)
    case_of: dict[tuple[str, int, int], Case] = field(default_factory=dict)
    demanded: set[tuple[str, int, int, bool, int]] = field(default_factory=set)
    proven: set[tuple[str, int, int]] = field(default_factory=set)
    convicted: set[tuple[str, int]] = field(default_factory=set)
    credits: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    claimable: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def prove_equivocation(self, sender: str, node: str, stage: int, seq: int, now: int) -> None:
        """Punish two receipts."""
        operator = self._operator(node)
        require((node, stage, seq) not in self.proven, "AlreadyProven")
        require(self._at_stake(operator) != 0, "NothingAtStake")
        self._slash(operator, self.terms.fault, sender, self.terms.reward, now)
        self.proven.add((node, stage, seq))

    def enlist(self, sender: str, block: int) -> None:
        """Join the list."""
        require(self.registry.is_eligible(sender), "NotEligible")
        operators = {self.registry.answers[verifier] for verifier in self.enlisted}
        require(self.registry.operators[sender] not in operators, "AlreadyEnlisted")
        self.enlisted[sender] = block

    def delist(self, sender: str, verifier: str) -> None:
        """Leave the list."""
        require(verifier in self.enlisted, "NotEnlisted")
        allowed = sender in (verifier, self.registry.answers[verifier])
        require(allowed or not self.registry.is_eligible(verifier), "NotOperator")
        del self.enlisted[verifier]

    def open_case(
        self, sender: str, node: str, stage: int, seq: int, issued: int, now: int, block: int
    ) -> int:
        """Accuse. Returns the number of the case."""
        self._accused(node, issued, now)
        require((node, stage) not in self.convicted, "AlreadyConvicted")
        before = self.case_of.get((node, stage, seq))
        require(before is None or before.outcome in ("Void", "Unserved"), "CaseExists")
        self.token.move(sender, self.address, self.terms.bond)
        case = Case(sender, node, stage, seq, block, now + self.terms.draw_window)
        self.cases.append(case)
        self.case_of[node, stage, seq] = case
        return len(self.cases)

    def may_judge(self, number: int) -> set[str]:
        """Who can be drawn for a case now."""
        case = self.cases[number - 1]
        answers = self.registry.answers
        parties = {case.accuser, answers.get(case.accuser), case.node, answers[case.node]}
        return {
            verifier
            for verifier, block in self.enlisted.items()
            if block < case.block
            and not {verifier, answers[verifier]} & parties
            and self.registry.is_eligible(verifier)
        }

    def draw(self, number: int, now: int) -> None:
        """Begin to judge; the members follow."""
        case = self._case(number)
        require(case is not None and case.phase == "Drawing" and now <= case.deadline, "WrongPhase")
        require(len(self.may_judge(number)) >= self.terms.seats, "NotEnoughVerifiers")
        case.phase, case.deadline = "Committing", now + self.terms.commit_window

    def commit(self, sender: str, number: int, seat: int, commitment: bytes, now: int) -> None:
        """Take a commitment."""
        case = self._case(number)
        require(case is not None and case.phase == "Committing" and now <= case.deadline, "WrongPhase")
        require(seat < self.terms.seats and case.members[seat] == sender, "NotMember")
        require(seat not in case.committed, "NotMember")
        case.committed[seat] = commitment
        if len(case.committed) == self.terms.seats:
            case.phase, case.deadline = "Revealing", now + self.terms.reveal_window

    def reveal(self, sender: str, number: int, seat: int, vote: int, commitment: bytes, now: int) -> None:
        """Take a vote, whose commitment the caller has computed."""
        case = self._case(number)
        require(case is not None and self._revealing(case, now) and now <= self._last(case), "WrongPhase")
        require(vote in VOTES, "BadVote")
        good = seat < self.terms.seats and case.members[seat] == sender and seat not in case.votes
        require(good and case.committed.get(seat) == commitment, "BadReveal")
        case.phase, case.deadline = "Revealing", self._last(case)
        case.votes[seat] = vote

    def resolve(self, number: int, members: list[str], now: int) -> None:
        """Close a case."""
        case = self._case(number)
        if case is not None and case.phase == "Drawing":
            require(now > case.deadline, "WrongPhase")
            case.phase, case.outcome = "Closed", "Void"
            self.token.move(self.address, case.accuser, self.terms.bond)
            return
        require(case is not None and self._revealing(case, now), "WrongPhase")
        require(len(case.votes) == len(case.committed) or now > self._last(case), "WrongPhase")
        require(members == case.members, "WrongMembers")
        votes, needed = [*case.votes.values()], 2 * self.terms.seats
        clear = votes.count(INNOCENT) + votes.count(UNSERVED)
        if 3 * votes.count(GUILTY) >= needed:
            case.outcome = "Guilty"
        elif 3 * votes.count(UNSERVED) >= needed:
            case.outcome = "Unserved"
        else:
            case.outcome = "Innocent" if 3 * clear >= needed else "Inconclusive"
        case.phase = "Closed"
        if case.outcome == "Guilty":
            self._convict(case, now)
        if case.outcome in ("Innocent", "Unserved"):
            self._forfeit(case, clear, now)
        else:
            self.token.move(self.address, case.accuser, self.terms.bond)
        for seat, member in enumerate(case.members):
            if seat not in case.votes:
                self._slash(self.registry.answers[member], self.terms.silence, NOBODY, 0, now)

    def demand(
        self,
        sender: str,
        node: str,
        stage: int,
        seq: int,
        output: bool,
        row: int,
        size: int,
        issued: int,
        now: int,
    ) -> int:
        """Demand a row. Returns the number of the demand."""
        self._accused(node, issued, now)
        require(row < size, "NoSuchRow")
        require((node, stage, seq, output, row) not in self.demanded, "DemandExists")
        self.token.move(sender, self.address, self.terms.demand_bond)
        self.demanded.add((node, stage, seq, output, row))
        self.demands.append(Demand(sender, node, now + self.terms.serve_window))
        return len(self.demands)

    def serve(self, number: int, valid: bool, now: int) -> None:
        """Take a row."""
        demand = self.demands[number - 1] if 0 < number <= len(self.demands) else None
        require(demand is not None and demand.status == 1 and now <= demand.deadline, "WrongStatus")
        require(valid, "BadProof")
        demand.status = 2
        self.token.move(self.address, self.registry.answers[demand.node], self.terms.demand_bond)

    def lapse(self, number: int, now: int) -> None:
        """Give up on a row."""
        demand = self.demands[number - 1] if 0 < number <= len(self.demands) else None
        require(demand is not None and demand.status == 1 and now > demand.deadline, "WrongStatus")
        demand.status = 3
        operator = self.registry.answers[demand.node]
        self._slash(operator, self.terms.fault, demand.demander, self.terms.reward, now)
        self.token.move(self.address, demand.demander, self.terms.demand_bond)

    def claim_credits(self, sender: str, now: int) -> None:
        """Pay credits out."""
        require(self.credits[sender] != 0, "NothingToClaim")
        require(now >= self.claimable[sender], "CreditsLocked")
        self.token.move(self.address, sender, self.credits[sender])
        self.credits[sender], self.claimable[sender] = 0, 0

    def held(self) -> int:
        """What the contract must hold: open bonds and credits."""
        cases = sum(case.phase != "Closed" for case in self.cases)
        demands = sum(demand.status == 1 for demand in self.demands)
        bonds = cases * self.terms.bond + demands * self.terms.demand_bond
        return bonds + sum(self.credits.values())

    def _case(self, number: int) -> Case | None:
        return self.cases[number - 1] if 0 < number <= len(self.cases) else None

    def _operator(self, node: str) -> str:
        require(node in self.registry.answers, "UnknownNode")
        return self.registry.answers[node]

    def _at_stake(self, operator: str) -> int:
        own = self.registry.accounts[operator]
        return own.active + own.thawing

    def _accused(self, node: str, issued: int, now: int) -> None:
        require(self._at_stake(self._operator(node)) != 0, "NothingAtStake")
        fresh = issued <= now + self.terms.skew and now <= issued + self.terms.evidence_window
        require(fresh, "StaleReceipt")

    def _revealing(self, case: Case, now: int) -> bool:
        return case.phase == "Revealing" or (case.phase == "Committing" and now > case.deadline)

    def _last(self, case: Case) -> int:
        return case.deadline + (self.terms.reveal_window if case.phase == "Committing" else 0)

    def _slash(self, operator: str, requested: int, reporter: str, reward: int, now: int) -> None:
        self.registry.slash(self.registry.slasher, operator, requested, reporter, reward, now)

    def _convict(self, case: Case, now: int) -> None:
        if (case.node, case.stage) in self.convicted:
            return
        self.convicted.add((case.node, case.stage))
        operator, fee = self.registry.answers[case.node], self.terms.fee
        guilty = [
            self.registry.answers[case.members[s]] for s in sorted(case.votes) if case.votes[s] == GUILTY
        ]
        rest = self.terms.fault - 2 * fee * len(guilty)
        self._slash(operator, rest, case.accuser, self.terms.reward, now)
        for judge in guilty:
            self._slash(operator, 2 * fee, judge, fee, now)

    def _forfeit(self, case: Case, clear: int, now: int) -> None:
        share = self.terms.bond // 2 // clear
        for seat, vote in case.votes.items():
            if vote in (INNOCENT, UNSERVED):
                operator = self.registry.answers[case.members[seat]]
                self.credits[operator] += share
                self.claimable[operator] = now + self.registry.unbonding
        self.token.burn(self.address, self.terms.bond - share * clear)
