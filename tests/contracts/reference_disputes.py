"""What the contracts of disputes do, in plain Python; see `reference`."""

from collections import defaultdict
from dataclasses import dataclass, field

from hypercluster.market.money.signing import NOBODY
from tests.contracts.reference import Dues, Refused, StakingRegistry, Token, require

TRIES = 3
VOTES = (INNOCENT, GUILTY, GREY, UNSERVED) = 1, 2, 3, 4


@dataclass(frozen=True)
class Terms:
    """Parameters of disputes, in the order of their struct."""

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
    draw_delay: int

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
    receipt: tuple[object, ...]
    block: int
    opened: int
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
class Disputes:
    """What the references of the three contracts share. Signatures are told apart by their signer."""

    address: str
    token: Token
    registry: StakingRegistry
    terms: Terms

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

    def _slash(self, operator: str, requested: int, reporter: str, reward: int, now: int) -> int:
        return self.registry.slash(self.address, operator, requested, reporter, reward, now)


@dataclass
class DisputeProofs(Disputes):
    """Reference of DisputeProofs, of equivocations alone."""

    taken: defaultdict[tuple[str, int, int], int] = field(default_factory=lambda: defaultdict(int))

    def prove_equivocation(self, sender: str, node: str, stage: int, seq: int, now: int) -> None:
        """Punish two receipts."""
        operator = self._operator(node)
        rest = self.terms.fault - self.taken[node, stage, seq]
        require(rest != 0, "AlreadyProven")
        require(self._at_stake(operator) != 0, "NothingAtStake")
        reward = self.terms.reward * rest // self.terms.fault
        self.taken[node, stage, seq] += self._slash(operator, rest, sender, reward, now)


@dataclass
class DisputeCases(Disputes):
    """Reference of DisputeCases. A draw is checked, not predicted."""

    enlisted: dict[str, int] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    cleared: set[tuple[object, ...]] = field(default_factory=set)
    convicted: set[tuple[str, int]] = field(default_factory=set)
    credits: defaultdict[str, Dues] = field(default_factory=lambda: defaultdict(Dues))

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
        receipt = node, stage, seq, issued
        require(receipt not in self.cleared, "FoundInnocent")
        own = [case for case in self.cases if (case.receipt, case.accuser) == (receipt, sender)]
        if own:
            require(own[-1].phase == "Closed", "CaseExists")
            require(len(own) < TRIES, "NoTryLeft")
        self._accused(node, max([issued, *(case.deadline for case in own)]), now)
        require((node, stage) not in self.convicted, "AlreadyConvicted")
        self.token.move(sender, self.address, self.terms.bond)
        case = Case(sender, node, stage, seq, receipt, block, now, now + self.terms.draw_window)
        self.cases.append(case)
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
            and self.registry.accounts[answers[verifier]].grown <= case.opened
            and not {verifier, answers[verifier]} & parties
            and self.registry.is_eligible(verifier)
        }

    def draw(self, number: int, now: int) -> None:
        """Begin to judge; the members follow."""
        case = self._case(number)
        require(case.phase == "Drawing" and now <= case.deadline, "WrongPhase")
        require(len(self.may_judge(number)) >= self.terms.seats, "NotEnoughVerifiers")
        case.phase, case.deadline = "Committing", now + self.terms.commit_window

    def commit(self, sender: str, number: int, seat: int, commitment: bytes, now: int) -> None:
        """Take a commitment."""
        case = self._case(number)
        require(case.phase == "Committing" and now <= case.deadline, "WrongPhase")
        require(seat < self.terms.seats and case.members[seat] == sender, "NotMember")
        require(seat not in case.committed, "NotMember")
        case.committed[seat] = commitment
        if len(case.committed) == self.terms.seats:
            case.phase, case.deadline = "Revealing", now + self.terms.reveal_window

    def reveal(self, sender: str, number: int, seat: int, vote: int, commitment: bytes, now: int) -> None:
        """Take a vote, whose commitment the caller has computed."""
        case = self._case(number)
        require(self._revealing(case, now) and now <= self._last(case), "WrongPhase")
        require(vote in VOTES, "BadVote")
        good = seat < self.terms.seats and case.members[seat] == sender and seat not in case.votes
        require(good and case.committed.get(seat) == commitment, "BadReveal")
        case.phase, case.deadline = "Revealing", self._last(case)
        case.votes[seat] = vote

    def resolve(self, number: int, members: list[str], now: int) -> None:
        """Close a case."""
        case = self._case(number)
        if case.phase == "Drawing":
            require(now > case.deadline, "WrongPhase")
            case.phase, case.outcome = "Closed", "Void"
            self.token.move(self.address, case.accuser, self.terms.bond)
            return
        require(self._revealing(case, now), "WrongPhase")
        require(len(case.votes) == len(case.committed) or now > self._last(case), "WrongPhase")
        require(members == case.members, "WrongMembers")
        votes, needed = [*case.votes.values()], 2 * self.terms.seats
        for vote, name in ((GUILTY, "Guilty"), (INNOCENT, "Innocent"), (UNSERVED, "Unserved")):
            if 3 * votes.count(vote) >= needed:
                case.outcome = name
                break
        else:
            case.outcome = "Inconclusive"
        if case.outcome == "Guilty" and any(
            earlier.phase != "Closed"
            for earlier in self.cases[: number - 1]
            if (earlier.node, earlier.stage) == (case.node, case.stage)
        ):
            case.outcome = "None"
            raise Refused("EarlierCase")
        case.deadline = min(now, self._last(case))
        case.phase = "Closed"
        self._settle(case, now)

    def _settle(self, case: Case, now: int) -> None:
        """Move the money of a case that has had a committee."""
        bond, seats, unserved = self.terms.bond, self.terms.seats, self._seats(case, UNSERVED)
        forfeited, paid, against = 0, 0, None
        if case.outcome == "Guilty":
            self._convict(case, now)
            against = INNOCENT
        elif case.outcome == "Innocent":
            self.cleared.add(case.receipt)
            forfeited, against = bond, GUILTY
            innocent = self._seats(case, INNOCENT)
            paid = self._credit(innocent, bond // 2 // len(innocent), now)
        else:
            forfeited = bond if case.outcome == "Unserved" else bond * len(unserved) // seats
            idle = bond // 10 // seats
            paid = self._credit(unserved, idle, now)
            judged = self._seats(case, GUILTY) + self._seats(case, INNOCENT)
            if judged and forfeited:
                rest = forfeited // 2 - idle * len(unserved)
                paid += self._credit(judged, min(bond // 2 // seats, rest // len(judged)), now)
        self.token.burn(self.address, forfeited - paid)
        self.token.move(self.address, case.accuser, bond - forfeited)
        for seat, member in enumerate(case.members):
            if case.votes.get(seat) in (None, against):
                self._slash(self.registry.answers[member], self.terms.silence, NOBODY, 0, now)

    def claim_credits(self, sender: str, now: int) -> None:
        """Pay credits out."""
        self.token.move(self.address, sender, self.credits[sender].take(now, "CreditsLocked"))

    def held(self) -> int:
        """What the contract must hold: open bonds and credits."""
        bonds = sum(case.phase != "Closed" for case in self.cases) * self.terms.bond
        return bonds + sum(credit.amount for credit in self.credits.values())

    def _case(self, number: int) -> Case:
        require(0 < number <= len(self.cases), "WrongPhase")
        return self.cases[number - 1]

    def _revealing(self, case: Case, now: int) -> bool:
        return case.phase == "Revealing" or (case.phase == "Committing" and now > case.deadline)

    def _last(self, case: Case) -> int:
        return case.deadline + (self.terms.reveal_window if case.phase == "Committing" else 0)

    def _convict(self, case: Case, now: int) -> None:
        operator, fee = self.registry.answers[case.node], self.terms.fee
        guilty = self._seats(case, GUILTY)
        if (case.node, case.stage) not in self.convicted:
            self.convicted.add((case.node, case.stage))
            rest = self.terms.fault - 2 * fee * len(guilty)
            self._slash(operator, rest, case.accuser, self.terms.reward, now)
        for judge in guilty:
            self._slash(operator, 2 * fee, judge, fee, now)

    def _seats(self, case: Case, vote: int) -> list[str]:
        """The operators of those who voted so."""
        return [self.registry.answers[case.members[s]] for s in sorted(case.votes) if case.votes[s] == vote]

    def _credit(self, operators: list[str], share: int, now: int) -> int:
        for operator in operators:
            self.credits[operator].add(share, now, self.registry.unbonding)
        return share * len(operators)


@dataclass
class DisputeDemands(Disputes):
    """Reference of DisputeDemands."""

    demands: list[Demand] = field(default_factory=list)
    demanded: set[tuple[str, int, int, bool, int]] = field(default_factory=set)

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

    def _demand(self, number: int) -> Demand:
        require(0 < number <= len(self.demands), "WrongStatus")
        return self.demands[number - 1]

    def serve(self, number: int, valid: bool, now: int) -> None:
        """Take a row."""
        demand = self._demand(number)
        require(demand.status == 1 and now <= demand.deadline, "WrongStatus")
        require(valid, "BadProof")
        demand.status = 2
        self.token.move(self.address, self.registry.answers[demand.node], self.terms.demand_bond)

    def lapse(self, number: int, now: int) -> None:
        """Give up on a row."""
        demand = self._demand(number)
        require(demand.status == 1 and now > demand.deadline, "WrongStatus")
        demand.status = 3
        operator = self.registry.answers[demand.node]
        self._slash(operator, self.terms.fault, demand.demander, self.terms.reward, now)
        self.token.move(self.address, demand.demander, self.terms.demand_bond)

    def held(self) -> int:
        """What the contract must hold: open bonds."""
        return sum(demand.status == 1 for demand in self.demands) * self.terms.demand_bond
