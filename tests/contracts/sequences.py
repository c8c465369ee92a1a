"""Random sequences of calls, against a contract and against its reference in plain Python.

After every call both agree on the outcome (the error's name, or what is returned). At the end of a sequence they
agree on every figure and every balance.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

from eth_utils.crypto import keccak
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hypercluster.contracts import artifact
from tests.contracts import reference
from tests.contracts.kinds import Account, Chain, Contract, Receipt

FUNDS = 60
UNBONDING = 100
MIN_STAKE = 5
BUDGET = settings(
    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)

amount = st.sampled_from([5, 1, 2, 3, 4, 6, 8, 12, 5, 1, 2, 3, 0, FUNDS + 1, reference.MAX])
seconds = st.sampled_from([1, 10, UNBONDING, 3 * UNBONDING])
index = st.integers(0, 15)
stray = st.sampled_from([False] * 6 + [True])
"""Whether to call from the wrong account, or on something that is not there."""

ERRORS = {
    keccak(text=f"{entry['name']}({','.join(field['type'] for field in entry['inputs'])})")[:4]: entry["name"]
    for name in (
        "HyperToken",
        "StakingRegistry",
        "PaymentChannels",
        "DisputeCases",
        "DisputeProofs",
        "DisputeDemands",
    )
    for entry in artifact(name).abi
    if entry["type"] == "error"
} | {keccak(text="Panic(uint256)")[:4]: "Panic"}


class Sequence(RuleBasedStateMachine):
    """Calls a contract and its reference side by side, on a chain that is put back afterwards."""

    def __init__(self, chain: Chain, token: Contract, people: list[Account]) -> None:
        super().__init__()
        self.chain, self.token, self.people = chain, token, people
        self.snapshot = chain.snapshot()
        self.now = chain.pending_timestamp + 1000
        self.books = reference.Token(defaultdict(int, {account.address: FUNDS for account in people}))

    @property
    def read_at(self) -> int:
        """The second that a view sees: that of the latest block."""
        return int(self.chain.provider.get_block("latest").timestamp)

    def figures_agree(self) -> None:
        """Compare what only this contract has."""
        raise NotImplementedError

    def teardown(self) -> None:
        try:
            self.figures_agree()
            for account, balance in self.books.balances.items():
                assert self.token.balanceOf(account) == balance
        finally:
            self.chain.restore(self.snapshot)

    def agree(self, expected: Callable[[int], Any], method: Any, *arguments: Any, sender: Account) -> Any:
        """Make one call both ways, at the same second, and compare the outcomes. Returns the contract's."""
        self.now += 1
        self.chain.provider.set_timestamp(self.now)
        try:
            wanted = expected(self.now)
        except reference.Refused as refusal:
            wanted = str(refusal)
        got = self.outcome(method, method(*arguments, sender=sender, raise_on_revert=False))
        if wanted is not None or isinstance(got, str):
            assert got == wanted
        return got

    def outcome(self, method: Any, receipt: Receipt) -> Any:
        """What a call returned, or the name of its error. Ape would trace every step of it to tell."""
        provider = self.chain.provider
        frame = provider.make_request("debug_traceTransaction", [receipt.txn_hash, {"tracer": "callTracer"}])
        output = bytes.fromhex(frame.get("output", "0x")[2:])
        if receipt.failed:
            return ERRORS[output[:4]]
        values = provider.network.ecosystem.decode_returndata(method.abis[0], output)
        return values[0] if values else None

    def pick(self, index: int, likely: list[Any], anything: list[Any]) -> Any:
        """One of what is likely to work, or of anything when there is none."""
        candidates = likely or anything
        return candidates[index % len(candidates)]

    @rule(seconds=seconds)
    def wait(self, seconds: int) -> None:
        self.now += seconds


def run_sequences(fresh: Callable[[], Sequence], budget: settings = BUDGET) -> None:
    """Run random sequences, each on what `fresh` gives."""
    run_state_machine_as_test(cast("type[Sequence]", fresh), settings=budget)
