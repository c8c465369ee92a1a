"""Amounts survive the trip through text, and nonsense is refused."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.claiming import ClaimRule
from hypercluster.market.money.units import (
    COIN,
    HCT,
    IN_HCT,
    UINT96_MAX,
    Unit,
    check_wei,
    format_coin,
    format_hct,
    format_price,
    in_token,
    named,
    parse_hct,
    parse_price,
    pay_in,
    round_coin,
    round_hct,
    round_price,
)
from hypercluster.node.cli.options import Reader, hct
from hypercluster.node.home.policy import WalletPolicy

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


@pytest.mark.parametrize(
    ("wei", "written"),
    [
        (0, "0"),
        (1, "0.000000000000000001"),
        (123_456_789, "0.000000000123457"),
        (30_000_000_000_000_123, "0.03"),
        (HCT - 1, "1"),
        (1_234_567_890_123_456_789_012, "1234.5679"),
        (-HCT // 2 - 1, "-0.5"),
        (10**4 * HCT + 1, "10000"),
    ],
)
def test_x6_amounts_for_people_keep_the_digits_that_mean_something(wei: int, written: str) -> None:
    """X6: six digits, four decimals at least, never zero for what is not."""
    assert round_hct(wei) == written


def test_x6_what_does_not_fit_is_said_in_hct() -> None:
    """X6: one unit everywhere; no message counts wei."""
    with pytest.raises(InvalidAmount, match="-1 HCT") as caught:
        check_wei(-HCT)
    assert "wei" not in str(caught.value)


def test_x6_prices_for_people_have_digits_that_mean_something() -> None:
    """X6: a price that was climbed to is not shown with twelve decimals."""
    assert round_price(3_482_259_512_792) == "3.48226"
    assert round_price(1_500_000_000_000) == "1.5"
    assert round_price(1) == "0.000000000001"
    assert round_price(0) == "0"


@pytest.fixture
def six() -> Iterator[None]:
    """Whatever is paid is paid in a token of six decimals."""
    pay_in(Unit(6, "PLAIN"))
    yield
    pay_in(IN_HCT)


@pytest.mark.usefixtures("six")
def test_amounts_of_a_token_with_six_decimals() -> None:
    assert parse_hct("1.5") == parse_hct("1.500000000") == 1_500_000
    assert (format_hct(1_500_000), format_hct(1), format_hct(0)) == ("1.5", "0.000001", "0")
    assert (round_hct(1_234_567_890), round_hct(1)) == ("1234.5679", "0.000001")
    assert (parse_price("3"), format_price(3), round_price(3)) == (3, "3", "3")
    with pytest.raises(InvalidAmount, match="at most 6 decimals"):
        parse_hct("0.0000001")
    with pytest.raises(InvalidAmount, match="at most 0 decimals"):
        parse_price("0.5")
    assert in_token(HCT // 100) == 10_000
    assert named("1.5 HCT, or HCT/M; HCT_PER_COIN") == "1.5 PLAIN, or PLAIN/M; HCT_PER_COIN"
    assert (format_coin(COIN // 2), round_coin(3 * COIN)) == ("0.5", "3")  # the chain's coin is as it was
    assert ClaimRule(hct_per_coin=1000).worth(COIN // 1000) == 1_000_000
    assert WalletPolicy().per_request_wei == 100_000
    reader = hct("An amount.").parser
    assert isinstance(reader, Reader)
    assert (reader(HCT // 10), reader("0.1"), reader(None)) == (100_000, 100_000, None)


def test_what_a_network_says_counts_from_the_first_amount_on() -> None:
    told = iter([Unit(8)])
    pay_in(lambda: next(told))
    assert (parse_hct("1"), parse_hct("2")) == (10**8, 2 * 10**8)
    assert next(told, None) is None
    pay_in(IN_HCT)
