"""What strangers get of a node's time, and that a new name does not give it twice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hypercluster.node.errors import ErrorCode
from hypercluster.node.network.budgets import (
    BOUNDS,
    LOCAL,
    REFUSED,
    Bound,
    Budget,
    Negatives,
    OverBudget,
    Source,
    block_of,
)
from hypercluster.node.network.rate import Rate

ROOT = Path(__file__).resolve().parents[3]
SHOWN = "import bounds_table; print(bounds_table.table(), end='')"
BOUND = Bound(
    name="test",
    what="things",
    per_peer=(1, 2),
    per_block=(2, 4),
    total=(4, 8),
    at_once_per_peer=2,
    at_once=3,
    seconds=1,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> Budget:
    return Budget(BOUND, clock=clock)


def taken(budget: Budget, sources: list[Source]) -> int:
    count = 0
    for source in sources:
        try:
            budget.take(source)
            count += 1
        except OverBudget:
            pass
    return count


@pytest.mark.parametrize(
    ("ip", "block"),
    [
        ("8.8.8.8", "8.8.8.0/24"),
        ("8.8.8.200", "8.8.8.0/24"),
        ("::ffff:8.8.8.8", "8.8.8.0/24"),
        ("2a00:1450:4001:81b::200e", "2a00:1450:4001:800::/56"),
        ("2a00:1450:4001:8ff:1::1%eth0", "2a00:1450:4001:800::/56"),
        ("127.0.0.1", LOCAL),
        ("::1", LOCAL),
        ("10.1.2.3", LOCAL),
        ("fe80::1%eth0", LOCAL),
        ("100.64.1.1", LOCAL),
        ("", "unknown"),
        ("localhost", "unknown"),
    ],
)
def test_the_block_of_an_address(ip: str, block: str) -> None:
    assert block_of(ip) == block


def test_each_part_of_a_budget_holds(budget: Budget, clock: Clock) -> None:
    assert taken(budget, [Source("a", "8.8.8.0/24")] * 5) == 2
    # Other names of the same block get what the block has left, and then nothing.
    assert taken(budget, [Source(f"b{n}", "8.8.8.0/24") for n in range(20)]) == 2
    # Other blocks get what there is in total.
    assert taken(budget, [Source(f"c{n}", f"9.9.{n}.0/24") for n in range(20)]) == 4
    clock.now += 1
    assert taken(budget, [Source("a", "8.8.8.0/24")] * 5) == 1


def test_a_refusal_says_when_to_come_back(budget: Budget, clock: Clock) -> None:
    source = Source("a", LOCAL)
    before = REFUSED["test", "peer"]
    taken(budget, [source] * 2)
    with pytest.raises(OverBudget, match=r"Too many things here now. Come back in 1 s\.") as refusal:
        budget.take(source)
    assert refusal.value.code is ErrorCode.FULL
    assert REFUSED["test", "peer"] == before + 1
    clock.now += refusal.value.wait
    budget.take(source)


def test_who_is_refused_takes_nothing_from_others(budget: Budget) -> None:
    assert taken(budget, [Source("a", "8.8.8.0/24")] * 1000) == 2
    assert taken(budget, [Source(f"b{n}", f"9.9.{n}.0/24") for n in range(6)]) == 6


def test_before_the_handshake_the_block_counts(budget: Budget) -> None:
    assert taken(budget, [Source("", "8.8.8.0/24")] * 20) == 4


def test_one_machine_is_bounded_by_names_and_in_total(budget: Budget) -> None:
    assert taken(budget, [Source(f"a{n}", LOCAL) for n in range(20)]) == 8


def test_places_are_given_back(budget: Budget, clock: Clock) -> None:
    mine, other = Source("a", LOCAL), Source("b", LOCAL)
    with budget.holding(mine), budget.holding(mine):
        clock.now += 10
        with pytest.raises(OverBudget, match="later"), budget.holding(mine):
            raise AssertionError
        with budget.holding(other), pytest.raises(OverBudget), budget.holding(Source("c", LOCAL)):
            raise AssertionError
    clock.now += 10
    with pytest.raises(ZeroDivisionError), budget.holding(mine):
        _ = 1 // 0
    with budget.holding(mine), budget.holding(other):
        pass


def test_a_flood_of_names_gives_no_bucket_back(clock: Clock) -> None:
    rate = Rate(0.01, 3, most=100, clock=clock)
    assert [rate.allows("mine") for _ in range(4)] == [True, True, True, False]
    for name in range(5000):
        assert rate.allows(f"new {name}")
        assert len(rate) <= 100
    assert not rate.allows("mine")


def test_refusals_are_logged_once_a_minute(
    budget: Budget, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    taken(budget, [Source("a", LOCAL)] * 1000)
    assert len(caplog.records) == 1
    clock.now += 61
    taken(budget, [Source("a", LOCAL)] * 1000)
    assert [record.getMessage() for record in caplog.records][1] == "refused 998 things, the last of a (peer)"


def test_what_is_not_there_is_remembered_for_a_while(clock: Clock) -> None:
    missing: Negatives[str] = Negatives(10, 3, clock=clock)
    missing.add("a")
    assert "a" in missing
    assert "b" not in missing
    clock.now += 10
    assert "a" not in missing
    for key in "abcd":
        missing.add(key)
    assert len(missing) == 3
    assert "a" not in missing
    assert "d" in missing
    missing.discard("d")
    assert "d" not in missing


def test_every_row_says_what_it_costs() -> None:
    for name, bound in BOUNDS.items():
        assert bound.name == name
        assert bound.seconds > 0
        assert min(bound.total) > 0
        assert bound.pays
        assert bound.costs
        assert bound.where.endswith(".py")
        for pace in (bound.per_peer, bound.per_block):
            # A part that is wider than the whole bounds nothing.
            assert pace is None or (0 < pace[0] <= bound.total[0] and 1 <= pace[1] <= bound.total[1])


def test_the_table_in_the_documentation_is_this_one() -> None:
    """`python scripts/bounds_table.py` writes it anew."""
    ran = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=ROOT / "scripts", check=True, capture_output=True, text=True
    )
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert ran.stdout in page
    assert ran.stdout.count("\n") == len(BOUNDS) + 2


def test_every_row_is_applied_in_the_room_that_it_names() -> None:
    for bound in BOUNDS.values():
        path = ROOT / bound.where
        assert path.is_file(), bound.where
        code = [
            each.read_text(encoding="utf-8") for each in path.parent.glob("*.py") if each.name != "bounds.py"
        ]
        applied = rf'(BOUNDS|_budgets?|within)[\[(](.* else )?"{bound.name}"|bound="{bound.name}"'
        assert any(re.search(applied, each) for each in code), bound.name
