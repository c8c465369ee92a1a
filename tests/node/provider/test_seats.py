"""Who sits where, for how long, and who gives way to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from hypercluster.node.errors import ErrorCode
from hypercluster.node.provider import seats as module
from hypercluster.node.provider.seats import Seat, Seats
from hypercluster.node.serving.classes import Class
from hypercluster.node.serving.refusals import Refused

if TYPE_CHECKING:
    from trio_typing import TaskStatus

PRICE = 1000
BOUND = 10.0


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(module, "CROWDING_SECONDS", 0.1)


@pytest.fixture
def two() -> Seats:
    return Seats(2, first_seconds=lambda: 15.0, most_idle=120.0)


@asynccontextmanager
async def sitting(
    seats: Seats, payer: str, class_: Class, *, price: int = PRICE, paid_wei: int = 0, paid: bool = False
) -> AsyncIterator[tuple[Seat, list[Refused]]]:
    """Somebody who has a seat and sends nothing, and how that ended if it did."""
    ended: list[Refused] = []
    async with trio.open_nursery() as nursery:

        async def sit(task_status: TaskStatus[Seat]) -> None:
            async with seats.seat(payer, class_, price, paid_wei) as seat:
                seat.paid = paid
                task_status.started(seat)
                try:
                    with seat.clients_turn():
                        await trio.sleep_forever()
                except Refused as refused:
                    ended.append(refused)

        yield await nursery.start(sit), ended
        nursery.cancel_scope.cancel()


async def comes(seats: Seats, payer: str, class_: Class, *, price: int = PRICE, paid_wei: int = 0) -> None:
    async with seats.seat(payer, class_, price, paid_wei):
        pass


async def test_a_payer_gets_the_seat_of_a_newcomer_after_a_grace_and_at_once_beyond_their_share(
    two: Seats,
) -> None:
    async with (
        sitting(two, "a", Class.NEWCOMER) as (_, first),
        sitting(two, "b", Class.NEWCOMER) as (beyond, second),
    ):
        assert beyond.beyond
        await comes(two, "payer", Class.PAYER, paid_wei=1)
        assert not first
        assert second[0].code is ErrorCode.TIMEOUT
        await trio.sleep(0.2)
        assert two.yielding == 1


async def test_by_price_and_then_by_what_was_paid_and_never_for_less(two: Seats) -> None:
    async with (
        sitting(two, "cheap", Class.PAYER, price=PRICE - 1, paid_wei=9) as (_, cheap),
        sitting(two, "small", Class.PAYER, paid_wei=3) as (_, small),
    ):
        await trio.sleep(0.2)
        await comes(two, "other", Class.PAYER, paid_wei=5)
        assert cheap
        assert not small
        async with sitting(two, "large", Class.PAYER, paid_wei=7) as (_, large):
            await comes(two, "other", Class.PAYER, paid_wei=5)
            assert small
            assert not large


async def test_who_works_is_never_disturbed_and_who_is_refused_hears_when_to_come_back(two: Seats) -> None:
    async with (
        two.seat("a", Class.PAYER, PRICE, 0) as a,
        two.seat("b", Class.PAYER, PRICE, 0) as b,
    ):
        a.paid = b.paid = True
        a.idle_since = b.idle_since = None
        await trio.sleep(0.2)
        with pytest.raises(Refused) as full:
            await comes(two, "rich", Class.PAYER, price=10 * PRICE, paid_wei=10**18)
        assert full.value.code is ErrorCode.FULL
        assert full.value.wait > 0


async def test_who_was_in_the_way_does_not_come_back_at_once(two: Seats) -> None:
    async with (
        sitting(two, "once", Class.PAYER, paid_wei=1, paid=True) as (_, ended),
        sitting(two, "twice", Class.PAYER, paid_wei=9, paid=True),
    ):
        await trio.sleep(0.2)
        await comes(two, "honest", Class.PAYER, paid_wei=5)
        assert ended
        with pytest.raises(Refused) as refused:
            await comes(two, "once", Class.PAYER, paid_wei=1)
        assert refused.value.code is ErrorCode.FULL
        assert refused.value.wait > 1


async def test_the_time_for_a_step_follows_the_clients_own_pace(two: Seats) -> None:
    async with two.seat("a", Class.PAYER, PRICE, 0) as seat:
        assert seat.patience == 15
        seat.paid = True
        assert seat.patience == module.LEAST_IDLE_SECONDS
        seat.pace = 1.0
        assert seat.patience == module.IDLE_STEPS
        seat.pace = 1000.0
        assert seat.patience == 120


async def test_a_wallet_that_pays_one_token_for_each_place_does_not_keep_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALLED_SECONDS", 3600.0)
    seats = Seats(3, first_seconds=lambda: 15.0, most_idle=120.0)
    async with (
        sitting(seats, "rich", Class.PAYER, paid_wei=10_000, paid=True) as (_, first),
        sitting(seats, "rich", Class.PAYER, paid_wei=10_000, paid=True),
        sitting(seats, "modest", Class.PAYER, paid_wei=10, paid=True) as (_, modest),
    ):
        await trio.sleep(0.2)
        await comes(seats, "other", Class.PAYER, paid_wei=20)
        (refused,) = first
        assert refused.code is ErrorCode.TIMEOUT
        async with sitting(seats, "other", Class.PAYER, paid_wei=20, paid=True):
            await trio.sleep(0.2)
            with pytest.raises(Refused) as full:
                await comes(seats, "late", Class.PAYER, paid_wei=20)
        assert full.value.code is ErrorCode.FULL, "one place each: nobody is in the way for so short a time"
        assert modest == []


async def test_one_place_is_given_up_to_one_of_two_who_come_at_once(two: Seats) -> None:
    async with (
        sitting(two, "stalled", Class.PAYER, paid=True) as (_, ended),
        sitting(two, "works", Class.PAYER, paid_wei=50, paid=True) as (works, _),
    ):
        await trio.sleep(0.2)
        works.idle_since = None
        inside = full = 0

        async def come(name: str) -> None:
            nonlocal inside, full
            try:
                async with two.seat(name, Class.PAYER, PRICE, 20):
                    inside += 1
                    await trio.sleep(0.2)
            except Refused:
                full += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come, "a")
            nursery.start_soon(come, "b")
        assert len(ended) == 1
        assert (inside, full) == (1, 1)
