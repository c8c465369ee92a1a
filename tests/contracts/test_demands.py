from functools import partial
from typing import Any

import ape
import pytest
from eth_utils.crypto import keccak

from tests.contracts.conftest import DAY, HCT, UNLIMITED, events
from tests.contracts.court import STAKE, TERMS, Court, tree_path, tree_root
from tests.contracts.kinds import Account, Call, Sleep, Struct
from tests.contracts.signing import sign_permit

FAULT, BOND = TERMS["fault"], TERMS["demandBond"]
REWARD = FAULT * TERMS["rewardBps"] // 10_000
NONE, OPEN, SERVED, LAPSED = range(4)
INPUT = [bytes([row]) * 40 for row in range(5)]
OUTPUT = [bytes([100 + row]) * 64 for row in range(3)]


@pytest.fixture
def signed(court: Court) -> Call:
    """A receipt over the rows above, as calls take it."""

    def signed(stage: Struct | None = None, **changes: Any) -> tuple[Any, ...]:
        rows: Struct = {"tokens": 5, "outputs": 3, "inRoot": tree_root(INPUT), "outRoot": tree_root(OUTPUT)}
        return court.signed(stage, **(rows | changes))

    return signed


@pytest.fixture
def demand(court: Court, signed: Call) -> Call:
    """Demand a row; returns the number."""

    def demand(output: bool = True, row: int = 1, arguments: Any = None) -> int:
        call = (*(arguments or signed()), output, row)
        return court.demands.demand(*call, sender=court.accuser).return_value

    return demand


def status(court: Court, number: int) -> int:
    return court.demands.demands(number).status


def test_a_row_is_demanded(court: Court, signed: Call) -> None:
    stage = court.stage()
    held = court.token.balanceOf(court.accuser)
    demanded = court.demands.demand(*signed(stage), True, 1, sender=court.accuser)
    number, deadline = demanded.return_value, demanded.timestamp + TERMS["serveWindow"]
    assert events(demanded)[0] == (
        "Demanded",
        {
            "demandId": number,
            "demander": court.accuser.address,
            "node": court.node.address,
            "operator": court.operator.address,
            "stageHash": court.stage_hash(stage),
            "seq": 3,
            "output": True,
            "row": 1,
            "deadline": deadline,
        },
    )
    shown = court.demands.demands(number)
    assert (shown.demander, shown.node, shown.status) == (court.accuser, court.node, OPEN)
    assert (shown.row, shown.size, shown.root, shown.deadline) == (1, 3, tree_root(OUTPUT), deadline)
    assert court.token.balanceOf(court.accuser) == held - BOND
    assert court.held() == BOND


@pytest.mark.parametrize(("output", "rows"), [(False, INPUT), (True, OUTPUT)])
def test_every_row_can_be_served(
    court: Court, demand: Call, signed: Call, output: int, rows: list[bytes], stranger: Account
) -> None:
    arguments, held = signed(), court.token.balanceOf(court.operator)
    for row, data in enumerate(rows):
        number = demand(output, row, arguments)
        served = court.demands.serve(number, data, tree_path(rows, row), sender=stranger)
        assert events(served)[0] == ("Served", {"demandId": number, "dataHash": keccak(data)})
        assert status(court, number) == SERVED
    assert court.token.balanceOf(court.operator) == held + len(rows) * BOND
    assert court.held() == 0
    assert court.stake_of(court.operator) == STAKE
    with ape.reverts(court.demands.NoSuchRow, error_inputs={"size": len(rows)}):
        demand(output, len(rows), arguments)


def test_a_row_is_demanded_once(court: Court, demand: Call, signed: Call) -> None:
    stage = court.stage()
    arguments = signed(stage)
    number = demand(arguments=arguments)
    with ape.reverts(court.demands.DemandExists, error_inputs={"demandId": number}):
        demand(arguments=arguments)
    court.demands.serve(number, OUTPUT[1], tree_path(OUTPUT, 1), sender=court.node)
    with ape.reverts(court.demands.DemandExists):
        demand(arguments=arguments)
    demand(arguments=arguments, row=2)
    demand(arguments=arguments, output=False)
    demand(arguments=signed(stage, seq=4))
    demand(arguments=signed())
    # A stage does not name its node: who signs the stage of another takes no demand away from it.
    other, _ = court.join()
    copied = demand(arguments=signed(stage, by=other))
    assert court.demands.demands(copied).node == other


def test_a_permit_stands_in_for_an_allowance(court: Court, signed: Call) -> None:
    token, accuser = court.token, court.accuser
    token.approve(court.demands, 0, sender=accuser)
    v, r, s = sign_permit(
        accuser.private_key, token.address, accuser.address, court.demands.address, BOND, 0, 2**40
    )
    permit = (2**40, v, r.to_bytes(32), s.to_bytes(32))
    arguments = signed()
    demanded = court.demands.demandWithPermit(*arguments, True, 0, *permit, sender=accuser)
    assert demanded.return_value == 1
    with ape.reverts(token.ERC20InsufficientAllowance):
        court.demands.demandWithPermit(*arguments, True, 1, *permit, sender=accuser)


def test_a_demand_refuses(court: Court, signed: Call, demand: Call, sleep: Sleep, stranger: Account) -> None:
    poor, operator = court.join(stake=0)
    refusals = {
        "signed by a stranger": (court.signed(by=stranger), court.demands.UnknownNode),
        "with nothing at stake": (court.signed(by=poor), court.demands.NothingAtStake),
        "too old": (signed(issued=court.now() - TERMS["evidenceWindow"] - 100), court.demands.StaleReceipt),
        "of the future": (signed(issued=court.now() + TERMS["skew"] + 100), court.demands.StaleReceipt),
        "of no rows": (signed(outputs=0), court.demands.NoSuchRow),
        "of one row": (signed(outputs=1), court.demands.NoSuchRow),
    }
    for what, (arguments, error) in refusals.items():
        with ape.reverts(error):
            demand(arguments=arguments)
            pytest.fail(what)
    del operator
    court.token.approve(court.demands, BOND - 1, sender=court.accuser)
    with ape.reverts(court.token.ERC20InsufficientAllowance):
        demand()
    court.token.approve(court.demands, UNLIMITED, sender=stranger)
    with ape.reverts(court.token.ERC20InsufficientBalance):
        court.demands.demand(*signed(), True, 1, sender=stranger)


def test_the_receipt_decides_what_is_demanded(court: Court, signed: Call, demand: Call) -> None:
    """Changed counts or roots make it a receipt of nobody."""
    stage, receipt, signature = signed()
    for field, value in ((2, 50), (3, 50), (4, b"x" * 32), (5, b"x" * 32)):
        changed = (*receipt[:field], value, *receipt[field + 1 :])
        with ape.reverts(court.demands.UnknownNode):
            demand(arguments=(stage, changed, signature))


def test_wrong_rows_do_not_serve(court: Court, demand: Call, stranger: Account) -> None:
    number = demand(output=False, row=2)
    path = tree_path(INPUT, 2)
    bad = {
        "another row": (INPUT[3], tree_path(INPUT, 3)),
        "another row, this path": (INPUT[3], path),
        "the other side's row": (OUTPUT[2], tree_path(OUTPUT, 2)),
        "a cut row": (INPUT[2][:-1], path),
        "a long row": (INPUT[2] + b"\0", path),
        "nothing": (b"", path),
        "no path": (INPUT[2], []),
        "a short path": (INPUT[2], path[:-1]),
        "a long path": (INPUT[2], [*path, path[0]]),
        "a path backwards": (INPUT[2], path[::-1]),
        "children of a node": (tree_root(INPUT[2:3]) + tree_root(INPUT[3:4]), tree_path(INPUT, 0)[1:]),
    }
    for what, arguments in bad.items():
        with ape.reverts(court.demands.BadProof):
            court.demands.serve(number, *arguments, sender=stranger)
            pytest.fail(what)
    court.demands.serve(number, INPUT[2], path, sender=stranger)


def test_a_tree_of_fewer_rows_than_the_receipt_counts_serves_none(
    court: Court, demand: Call, signed: Call
) -> None:
    """Its paths are too short for where the rows are said to be."""
    rows = OUTPUT[:2]
    number = demand(arguments=signed(outputs=4, outRoot=tree_root(rows)))
    for row in (0, 1):
        with ape.reverts(court.demands.BadProof):
            court.demands.serve(number, rows[row], tree_path(rows, row), sender=court.node)


def test_a_large_row_can_be_served(court: Court, demand: Call, signed: Call) -> None:
    rows = [b"r" * 32_768, b"s" * 32_768]
    number = demand(arguments=signed(outputs=2, outRoot=tree_root(rows)))
    served = court.demands.serve(number, rows[1], tree_path(rows, 1), sender=court.node)
    assert events(served)[0][0] == "Served"


def test_serving_ends_and_lapsing_begins(court: Court, demand: Call, stranger: Account) -> None:
    number = demand()
    deadline = court.demands.demands(number).deadline
    court.at(deadline)
    with ape.reverts(court.demands.WrongStatus, error_inputs={"status": OPEN, "deadline": deadline}):
        court.demands.lapse(number, sender=stranger)
    court.at(deadline + 1)
    with ape.reverts(court.demands.WrongStatus, error_inputs={"status": OPEN, "deadline": deadline}):
        court.demands.serve(number, OUTPUT[1], tree_path(OUTPUT, 1), sender=court.node)


def test_the_last_second_is_in_time(court: Court, demand: Call) -> None:
    number = demand()
    court.at(court.demands.demands(number).deadline)
    court.demands.serve(number, OUTPUT[1], tree_path(OUTPUT, 1), sender=court.node)
    assert status(court, number) == SERVED


def test_a_demand_is_served_once(court: Court, demand: Call, stranger: Account) -> None:
    number = demand()
    demand(row=2)  # whose bond lies beside it
    served = (number, OUTPUT[1], tree_path(OUTPUT, 1))
    court.demands.serve(*served, sender=stranger)
    with ape.reverts(court.demands.WrongStatus, error_inputs={"status": SERVED}):
        court.demands.serve(*served, sender=stranger)
    assert court.held() == BOND


def test_withholding_costs_a_fault(court: Court, demand: Call, stranger: Account) -> None:
    held, supply = court.token.balanceOf(court.accuser), court.token.totalSupply()
    number = demand()
    court.at(court.demands.demands(number).deadline + 1)
    lapsed = court.demands.lapse(number, sender=stranger)
    withheld = {
        "demandId": number,
        "node": court.node.address,
        "operator": court.operator.address,
        "taken": FAULT,
    }
    assert ("Withheld", withheld) in events(lapsed)
    assert status(court, number) == LAPSED
    assert court.token.balanceOf(court.accuser) == held
    assert court.held() == 0
    assert court.stake_of(court.operator) == STAKE - FAULT
    assert tuple(court.registry.rewards(court.accuser)) == (0, REWARD, lapsed.timestamp + 7 * DAY)
    assert court.token.totalSupply() == supply - FAULT + REWARD
    for call in (
        partial(court.demands.lapse, number, sender=stranger),
        partial(court.demands.serve, number, OUTPUT[1], tree_path(OUTPUT, 1), sender=stranger),
    ):
        with ape.reverts(court.demands.WrongStatus, error_inputs={"status": LAPSED}):
            call()


def test_there_is_no_demand_before_the_first(court: Court, stranger: Account) -> None:
    for call in (
        partial(court.demands.lapse, 1, sender=stranger),
        partial(court.demands.serve, 1, b"", [], sender=stranger),
    ):
        with ape.reverts(court.demands.WrongStatus, error_inputs={"status": NONE}):
            call()


def test_a_served_demand_does_not_lapse(court: Court, demand: Call, stranger: Account) -> None:
    number = demand()
    court.demands.serve(number, OUTPUT[1], tree_path(OUTPUT, 1), sender=stranger)
    court.at(court.demands.demands(number).deadline + 1)
    with ape.reverts(court.demands.WrongStatus, error_inputs={"status": SERVED}):
        court.demands.lapse(number, sender=stranger)


@pytest.mark.parametrize("rest", [0, 1, 3 * HCT])
def test_a_short_stake_does_not_keep_a_demand_open(
    court: Court, demand: Call, rest: int, stranger: Account
) -> None:
    number = demand()
    court.registry.unstake(STAKE - rest, sender=court.operator)
    court.registry.revoke(court.node, sender=court.operator)
    court.at(court.now() + 8 * DAY)
    court.registry.withdraw(sender=court.operator)
    lapsed = court.demands.lapse(number, sender=stranger)
    assert next(said["taken"] for name, said in events(lapsed) if name == "Withheld") == rest
    assert court.stake_of(court.operator) == court.held() == 0


def test_leaving_does_not_help(court: Court, demand: Call, signed: Call, stranger: Account) -> None:
    arguments = signed()
    court.registry.revoke(court.node, sender=court.node)
    court.registry.unstake(STAKE, sender=court.operator)
    number = demand(arguments=arguments)
    court.at(court.demands.demands(number).deadline + 1)
    court.demands.lapse(number, sender=stranger)
    assert tuple(court.registry.stakes(court.operator))[:2] == (0, STAKE - FAULT)
