"""A market under dispute: a registry that the contracts of disputes may slash, one accused node, and verifiers.

Also the Merkle tree of RFC 9162, section 2.1, written down as the RFC defines it: by recursion.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import count
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ape.exceptions import CustomError
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from hypercluster.market.chain.header import header_in
from tests.contracts.conftest import DAY, HCT, UNLIMITED
from tests.contracts.kinds import Account, Accounts, Contract, Deploy, Receipt, Struct
from tests.contracts.signing import compact, sign_consent, sign_receipt, sign_verdict, words

VERIFIERS = 6
PLACES = 16_384
"""of the list of verifiers, at most"""
STAKE = 400 * HCT
SHARE = 100 * HCT
INNOCENT, GUILTY, GREY, UNSERVED = 1, 2, 3, 4
NONE, DRAWING, COMMITTING, REVEALING, CLOSED = range(5)
OUTCOMES = ("None", "Guilty", "Innocent", "Unserved", "Inconclusive", "Void")

TERMS = {
    "fault": 100 * HCT,
    "silence": 5 * HCT,
    "bond": 20 * HCT,
    "demandBond": 1 * HCT,
    "rewardBps": 1000,
    "memberBps": 200,
    "seats": 3,
    "skew": 60,
    "evidenceWindow": 3600,
    "drawWindow": 600,
    "commitWindow": 700,
    "revealWindow": 800,
    "serveWindow": 900,
    "drawDelay": 0,
}
FAULT, BOND, SILENCE = TERMS["fault"], TERMS["bond"], TERMS["silence"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000
FEE = FAULT * TERMS["memberBps"] // 10_000


def tree_root(rows: list[bytes]) -> bytes:
    """MTH of the RFC."""
    if len(rows) == 1:
        return sha256(b"\0" + rows[0]).digest()
    split = _split(len(rows))
    return sha256(b"\1" + tree_root(rows[:split]) + tree_root(rows[split:])).digest()


def tree_path(rows: list[bytes], index: int) -> list[bytes]:
    """PATH of the RFC: the siblings, the nearest first."""
    if len(rows) == 1:
        return []
    split = _split(len(rows))
    if index < split:
        return [*tree_path(rows[:split], index), tree_root(rows[split:])]
    return [*tree_path(rows[split:], index - split), tree_root(rows[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def commitment(
    case: int, member: Account, vote: int, fingerprint: bytes = bytes(32), salt: bytes = b"s" * 32
) -> bytes:
    """What a member commits to."""
    types = ["uint256", "address", "uint8", "bytes32", "bytes32"]
    return keccak(encode(types, [case, member.address, vote, fingerprint, salt]))


def refused(call: Callable[[], object]) -> str:
    """The name of the error that a call reverts with."""
    with pytest.raises(CustomError) as refusal:
        call()
    return refusal.value.name


def header_of(token: Contract, number: int) -> bytes:
    """The header of a block, as its hash is taken of it."""
    ask = token.provider.web3.provider.make_request
    block = ask("eth_getBlockByNumber", [hex(number), False])["result"]
    header = header_in(block)
    assert header is not None
    return header


class Court:
    """The parties, and what they sign. Accounts are `node` and its `operator`, `accuser`, and `bench`: the node keys
    of verifiers on the list, whose operators `boss` knows."""

    VERDICT: ClassVar[Struct] = {
        "modelId": b"m" * 32,
        "layerStart": 4,
        "layerStop": 8,
        "wireDtype": 1,
        "tail": False,
        "profile": b"p" * 32,
        "inRoot": b"i" * 32,
        "outRoot": b"o" * 32,
        "tokens": 5,
        "outputs": 5,
        "finding": 1,
        "tolerance": 100_000,
        "fingerprint": b"f" * 32,
        "job": b"j" * 32,
    }
    """all but when it was issued"""

    def __init__(
        self,
        deploy: Deploy,
        accounts: Accounts,
        deployer: Account,
        token: Contract,
        terms: Struct = TERMS,
        unbonding: int = 7 * DAY,
        verifiers: int = VERIFIERS,
    ) -> None:
        self.deploy, self.accounts, self.deployer, self.token = deploy, accounts, deployer, token
        self.terms = SimpleNamespace(**terms)
        self.registry = deploy("StakingRegistry", token, unbonding, 100 * HCT, 6 * HCT)
        self.cases, self.proofs, self.demands = self.three(terms)
        self.registry.setSlashers([self.cases, self.proofs, self.demands], sender=deployer)
        self.boss: dict[str, Account] = {}
        self.node, self.operator = self.join()
        self.accuser = self.account(1000 * HCT)
        for contract in (self.cases, self.demands):
            token.approve(contract, UNLIMITED, sender=self.accuser)
        self.bench = [self.verifier() for _ in range(verifiers)]
        self.sessions = count()

    def three(self, terms: Struct = TERMS) -> tuple[Contract, Contract, Contract]:
        """Contracts of cases, proofs and demands, which belong together."""
        cases = self.deploy("DisputeCases", self.registry, tuple(terms.values()))
        return cases, self.deploy("DisputeProofs", cases), self.deploy("DisputeDemands", cases)

    def accuse(self) -> Account:
        """Another accuser."""
        account = self.account(100 * HCT)
        self.token.approve(self.cases, UNLIMITED, sender=account)
        return account

    def account(self, tokens: int = 0) -> Account:
        """A new account with coin, and tokens."""
        account = self.accounts.generate_test_account()
        account.balance = 10**20
        if tokens:
            self.token.transfer(account, tokens, sender=self.deployer)
        return account

    def join(self, stake: int = STAKE) -> tuple[Account, Account]:
        """A new node key and its operator, who staked; with 0 it has nothing at stake any more."""
        node, operator = self.account(), self.account(stake or 1)
        self.token.approve(self.registry, UNLIMITED, sender=operator)
        self.registry.stake(stake or 1, sender=operator)
        self.authorize(node, operator, min(stake or 1, SHARE))
        if not stake:
            self.registry.unstake(1, sender=operator)
            self.at(self.registry.stakes(operator).thawEnd)
            self.registry.withdraw(sender=operator)
        return node, operator

    def authorize(self, node: Account, operator: Account, share: int = SHARE) -> None:
        """Bind a node key to an operator."""
        consent = sign_consent(node.private_key, self.registry.address, operator.address, node.address, 2**40)
        self.registry.authorize(node, share, 2**40, compact(consent), sender=operator)
        self.boss[node.address] = operator

    def verifier(self, stake: int = STAKE) -> Account:
        """A new node key on the list of verifiers."""
        node, _ = self.join(stake)
        self.cases.enlist(sender=node)
        return node

    # What is signed, as the contract's structs and as EIP-712 messages alike: dictionaries in the order of the fields.

    def stage(self, **changes: Any) -> Struct:
        """A stage that was never seen before."""
        stage = {
            "session": next(self.sessions).to_bytes(16, "big"),
            "nonce": b"n" * 16,
            "channelId": b"c" * 32,
            "modelId": b"m" * 32,
            "layerStart": 4,
            "layerStop": 8,
            "wireDtype": 1,
            "profile": b"p" * 32,
        }
        return stage | changes

    def receipt(self, **changes: Any) -> Struct:
        """A receipt that is being issued."""
        receipt = {
            "seq": 3,
            "position": 40,
            "tokens": 5,
            "outputs": 2,
            "inRoot": b"i" * 32,
            "outRoot": b"o" * 32,
            "previous": b"b" * 32,
            "issued": self.now(),
        }
        return receipt | changes

    def verdict(self, **changes: Any) -> Struct:
        """A verdict that passes a transcript, and rows up to a tenth off."""
        return self.VERDICT | {"issued": self.now()} | changes

    def sign(
        self,
        stage: Struct,
        receipt: Struct,
        by: Account | None = None,
        contract: Contract | None = None,
        **other: Any,
    ) -> tuple[bytes, bytes]:
        """(r, vs) of a receipt: by the accused node unless told otherwise."""
        key = (by or self.node).private_key
        return words(sign_receipt(key, (contract or self.cases).address, stage, receipt, **other))

    def sign_verdict(self, verdict: Struct, by: Account | None = None, **other: Any) -> tuple[bytes, bytes]:
        """(r, vs) of a verdict."""
        return words(sign_verdict((by or self.node).private_key, self.cases.address, verdict, **other))

    def stage_hash(self, stage: Struct) -> bytes:
        return self.proofs.stageHashOf(tuple(stage.values()))

    def signed(
        self, stage: Struct | None = None, by: Account | None = None, **changes: Any
    ) -> tuple[Any, ...]:
        """Stage, receipt and signature as calls take them."""
        stage, receipt = stage or self.stage(), self.receipt(**changes)
        return tuple(stage.values()), tuple(receipt.values()), self.sign(stage, receipt, by)

    # A case, step by step.

    def open(self, *arguments: Any, sender: Account | None = None) -> int:
        """Open a case; returns its number."""
        arguments = arguments or self.signed()
        return self.cases.openCase(*arguments, sender=sender or self.accuser).return_value

    def draw(self, case: int) -> list[Account]:
        """Draw; returns the members in the order of their seats."""
        members = self.drawing(case).return_value
        return [next(key for key in self.bench if key.address == member) for member in members]

    def drawing(self, case: int, sender: Account | None = None) -> Receipt:
        """One call of a draw."""
        header = header_of(self.token, self.case(case).drawBlock)
        return self.cases.draw(case, header, sender=sender or self.deployer)

    def commit(self, case: int, members: list[Account], *votes: int | None, **other: Any) -> list[Receipt]:
        """Commit the first members to votes; None leaves one out."""
        return [
            self.cases.commit(
                case, seat, commitment(case, members[seat], vote, **other), sender=members[seat]
            )
            for seat, vote in enumerate(votes)
            if vote is not None
        ]

    def reveal(
        self,
        case: int,
        members: list[Account],
        *votes: int | None,
        fingerprint: bytes = bytes(32),
        salt: bytes = b"s" * 32,
    ) -> list[Receipt]:
        """Reveal what they committed to."""
        return [
            self.cases.reveal(case, seat, vote, fingerprint, salt, sender=members[seat])
            for seat, vote in enumerate(votes)
            if vote is not None
        ]

    def resolve(self, case: int, members: Sequence[Account] = ()) -> Receipt:
        return self.cases.resolve(case, [member.address for member in members], sender=self.deployer)

    def judge(self, case: int, *votes: int | None) -> tuple[list[Account], Receipt]:
        """From the draw to the end. Returns the members and the receipt of the last transaction."""
        members = self.draw(case)
        self.commit(case, members, *votes)
        if None in votes:
            self.wait_for(case)
        self.reveal(case, members, *votes)
        return members, self.resolve(case, members)

    def case(self, case: int) -> Any:
        """A case as the contract shows it."""
        return self.cases.cases(case)

    def outcome(self, case: int) -> str:
        """How a case ended."""
        return OUTCOMES[self.case(case).outcome]

    # Time and money.

    def put(self, slot: int, value: int) -> None:
        """Write a word of the storage of the contract of cases."""
        written = [self.cases.address, *("0x" + each.to_bytes(32).hex() for each in (slot, value))]
        self.token.provider.make_request("anvil_setStorageAt", written)

    def now(self) -> int:
        return self.token.provider.get_block("latest").timestamp

    def at(self, second: int) -> None:
        """The next block is of this second."""
        self.token.provider.set_timestamp(second)

    def wait_for(self, case: int) -> None:
        """The next block is the first one behind the deadline of a case."""
        self.at(self.case(case).deadline + 1)

    def stake_of(self, account: Account) -> int:
        return sum(tuple(self.registry.stakes(account))[:2])

    def held(self) -> int:
        """Bonds and credits; a contract of proofs holds nothing."""
        assert self.token.balanceOf(self.proofs) == 0
        return self.token.balanceOf(self.cases) + self.token.balanceOf(self.demands)
