"""Amounts survive the trip through text, and nonsense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.units import (
    HCT,
    UINT96_MAX,
    check_wei,
    format_hct,
    format_price,
    parse_hct,
    parse_price,
)

wei = st.integers(0, UINT96_MAX)


@given(wei)
def test_every_amount_survives_formatting(amount: int) -> None:
    assert parse_hct(format_hct(amount)) == amount


@given(st.integers(0, UINT96_MAX // 10**6))
def test_every_price_survives_formatting(price: int) -> None:
    assert parse_price(format_price(price)) == price


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1.5", 3 * HCT // 2),
        ("0", 0),
        (".5", HCT // 2),
        (" 1_000 ", 1000 * HCT),
        ("1.50000000000000000000000", 3 * HCT // 2),
    ],
)
def test_people_write_amounts_in_many_ways(text: str, amount: int) -> None:
    assert parse_hct(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e18", "1,5", "1.", ".", "0.0000000000000000001", "nan", "0x10", "٣", "9" * 59, "1" * 10_000],
)
def test_what_is_no_amount_is_refused_in_a_short_sentence(text: str) -> None:
    with pytest.raises(InvalidAmount) as refusal:
        parse_hct(text)
    assert len(str(refusal.value)) < 250


def test_prices_finer_than_a_wei_per_token_are_refused() -> None:
    assert parse_price("2.5") == 25 * 10**11
    with pytest.raises(InvalidAmount, match="12 decimals"):
        parse_price("0.0000000000001")


def test_amounts_end_at_uint96() -> None:
    assert check_wei(UINT96_MAX) == UINT96_MAX
    for outside in (-1, UINT96_MAX + 1):
        with pytest.raises(InvalidAmount):
            check_wei(outside)
    assert format_hct(-HCT // 2) == "-0.5"
