"""What one request learns of an operator all others use, under each of its names, and for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.economics.shares import FEW_REQUESTS, Shares
from hypercluster.node.client.experience import (
    LATEST_REQUESTS,
    MOST_OPERATORS,
    MOST_REST_SECONDS,
    REST_SECONDS,
    Experience,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_who_fails_rests_longer_each_time_until_it_serves() -> None:
    clock = Clock()
    seen = Experience(clock)
    seen.failed("A", "a1", None)
    assert seen.left_out() == {"A"}
    clock.now += REST_SECONDS
    assert not seen.left_out()
    # Another of its keys: the operator failed twice.
    seen.failed("A", "a2", None)
    clock.now += REST_SECONDS
    assert seen.left_out() == {"A"}
    clock.now += 2 * REST_SECONDS
    assert not seen.left_out()
    for _ in range(20):
        seen.failed("A", "a3", None)
    assert seen.left_out(clock.now + MOST_REST_SECONDS - 1) == {"A"}
    assert not seen.left_out(clock.now + MOST_REST_SECONDS)
    seen.served("A")
    assert not seen.left_out()
    seen.failed("A", "a1", None)
    assert not seen.left_out(clock.now + REST_SECONDS)


def test_who_says_when_to_come_again_is_believed_and_a_peer_without_operator_stands_for_itself() -> None:
    clock = Clock()
    seen = Experience(clock)
    seen.failed("", "peer", None, wait=77.0)
    assert seen.left_out(clock.now + 76) == {"peer"}
    assert not seen.left_out(clock.now + 77)


def test_a_newcomer_is_being_tried_until_its_first_answer() -> None:
    seen = Experience(Clock())
    seen.begun({"A", "B"})
    seen.begun({"A"})
    assert seen.trying() == {"A", "B"}
    seen.answered({"A", "B"})
    assert seen.trying() == {"A"}
    seen.served("A")
    assert not seen.trying()
    assert seen.has_served("A")
    assert not seen.has_served("B")


@given(
    st.lists(st.frozensets(st.sampled_from("ABC"), min_size=1), max_size=200),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_nobody_ever_has_more_than_its_share_of_the_latest_requests(
    asked: list[frozenset[str]], share: float
) -> None:
    """Requests that go around who is crowded: with others to serve, no operator is above its share."""
    seen, shares = Experience(Clock()), Shares(requests=share)
    went: list[frozenset[str]] = []
    for wanted in asked:
        operators = wanted - seen.crowded(shares) or frozenset({"another"})
        seen.requested(operators)
        went.append(operators)
        latest = went[-LATEST_REQUESTS:]
        for operator in "ABC":
            count = sum(operator in each for each in latest)
            # Of a full window one may have left just now that counted for another.
            assert count <= max(FEW_REQUESTS, -(-len(latest) * share // 1)) + (share < 1)


def test_what_is_remembered_has_an_end() -> None:
    seen = Experience(Clock())
    for index in range(MOST_OPERATORS + 10):
        seen.failed(f"operator {index}", "peer", None)
    assert len(seen.left_out()) == MOST_OPERATORS
    assert "operator 0" not in seen.left_out()
