"""Amounts as people write them, and the integers that everything else uses. Nothing here passes through a float.

One HCT is 10**18 wei. Where another token pays, "HCT" stands for one of that token, and "wei" for the smallest part of
it, of which there are 10**decimals. Programs write its symbol instead (`named`). A process belongs to one network, so
that it has one such unit. The chain's own coin always has 18 decimals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hypercluster.market.errors import InvalidAmount

DECIMALS = 18
SYMBOL = "HCT"
OTHER_SYMBOL = "TOKEN"
"""what is written for a token whose own symbol is none, or is not to be written"""
HCT: int = 10**DECIMALS
COIN: int = 10**18
"""wei of one coin of the chain"""
LEAST_DECIMALS, MOST_DECIMALS = 6, 24
"""of a token that can pay: with fewer no price of a token of text can be told, with more 96 bits hold too little"""
MILLION = 10**6
UINT96_MAX: int = 2**96 - 1

_AMOUNT = re.compile(r"(\d+)(?:\.(\d+))?|\.(\d+)", re.ASCII)
_DIGITS = 6
_LONGEST = 60  # characters; far above any uint96 with 18 decimals, and cheap to parse
_SYMBOL = re.compile(r"[A-Za-z0-9.$+-]{1,12}", re.ASCII)
_NAMED = re.compile(r"\bHCT\b")


class Unit(NamedTuple):
    """What amounts are counted and written in: how many decimals a token has, and what it is called."""

    decimals: int = DECIMALS
    symbol: str = SYMBOL


IN_HCT = Unit()
_unit: Unit | Callable[[], Unit] = IN_HCT


def pay_in(unit: Unit | Callable[[], Unit]) -> None:
    """Say what the token of this process's network is; a function is asked once it matters."""
    global _unit
    _unit = unit


def unit() -> Unit:
    """What the token that pays is; HCT unless a network says otherwise."""
    global _unit
    if not isinstance(_unit, Unit):
        _unit = _unit()
    return _unit


def decimals() -> int:
    """Decimals of the token that pays."""
    return unit().decimals


def named(text: str) -> str:
    """A text that speaks of HCT, as people read it who pay in another token: with that one's symbol."""
    if not _NAMED.search(text):
        return text  # nor is a profile fetched to find out
    symbol = unit().symbol
    return text if symbol == SYMBOL else _NAMED.sub(symbol, text)


def one() -> int:
    """Wei of one HCT, or of one of the token that pays instead: 10**decimals."""
    return int(10 ** decimals())


def in_token(wei: int) -> int:
    """An amount of 18 decimals, such as a default that is written ``HCT // 10``, in wei of the token that pays."""
    return wei * one() // HCT


def check_decimals(decimals: int) -> int:
    """Return the decimals of a token that can pay. Raises InvalidAmount for another."""
    if type(decimals) is not int or not LEAST_DECIMALS <= decimals <= MOST_DECIMALS:
        raise InvalidAmount(
            f"A token that pays has {LEAST_DECIMALS} to {MOST_DECIMALS} decimals, not {decimals}."
        )
    return decimals


def check_symbol(symbol: str) -> str:
    """Return the symbol of a token as it can be written. Raises InvalidAmount for another."""
    if not (isinstance(symbol, str) and _SYMBOL.fullmatch(symbol)):
        raise InvalidAmount(
            "The symbol of a token is 1 to 12 letters, digits or any of . $ + -, and not "
            f"{str(symbol)[:_LONGEST]!r}; write {OTHER_SYMBOL!r} for another."
        )
    return symbol


def unit_of(told: Mapping[str, Any]) -> Unit:
    """The unit that a deployment or a profile tells; HCT where it tells none. Raises InvalidAmount for a wrong one."""
    decimals, symbol = told.get("decimals", DECIMALS), told.get("symbol", SYMBOL)
    return Unit(check_decimals(decimals), check_symbol(symbol))


def readable_symbol(symbol: str) -> str:
    """The symbol of a token as its contract tells it, or OTHER_SYMBOL where people cannot be shown that."""
    return symbol if _SYMBOL.fullmatch(symbol) else OTHER_SYMBOL


def parse_hct(text: str) -> int:
    """Read an amount of HCT such as ``"1.5"`` or ``"1_000"``.

    Returns:
        The amount in wei, 0 .. 2**96 - 1.

    Raises:
        InvalidAmount: not a plain non-negative decimal, finer than one wei, or more than a channel can hold.
    """
    plain = text.strip().replace("_", "")
    match = _AMOUNT.fullmatch(plain) if len(plain) <= _LONGEST else None
    if match is None:
        raise InvalidAmount(f"{text[:_LONGEST]!r} is not an amount of HCT: write it like 1.5.")
    whole, fraction = match[1] or "0", (match[2] or match[3] or "").rstrip("0")
    if len(fraction) > decimals():
        raise InvalidAmount(f"{text!r} is finer than one wei: use at most {counted(decimals(), 'decimal')}.")
    return check_wei(int(whole) * one() + int("0" + fraction.ljust(decimals(), "0")))


def format_hct(wei: int) -> str:
    """Write ``wei`` as a decimal number of HCT, exactly and without trailing zeros."""
    return _exact(wei, decimals())


def round_hct(wei: int) -> str:
    """Write ``wei`` in HCT for people to read: six digits that mean something, and never fewer than 4 decimals of them.

    What is not zero is never written as zero.
    """
    return _rounded(wei, decimals())


def format_coin(wei: int) -> str:
    """Write wei of the chain's coin as a decimal number of coins, exactly and without trailing zeros."""
    return _exact(wei, DECIMALS)


def round_coin(wei: int) -> str:
    """Write wei of the chain's coin for people to read, as ``round_hct`` does."""
    return _rounded(wei, DECIMALS)


def _exact(wei: int, places: int) -> str:
    whole, fraction = divmod(abs(wei), 10**places)
    sign = "-" if wei < 0 else ""
    digits = f"{fraction:0{places}d}".rstrip("0") if fraction else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def _rounded(wei: int, places: int) -> str:
    kept = min(max(places - max(len(str(abs(wei))) - _DIGITS, 0), 4), places)
    unit = 10 ** (places - kept)
    return _exact((abs(wei) + unit // 2) // unit * unit * (-1 if wei < 0 else 1), places)


def parse_price(text: str) -> int:
    """Read a price in HCT per million tokens and return it in wei per token.

    Raises:
        InvalidAmount: not an amount, or not a whole number of wei per token.
    """
    per_million = parse_hct(text)
    price, rest = divmod(per_million, MILLION)
    if rest:
        places = max(0, decimals() - 6)
        raise InvalidAmount(
            f"{text!r} HCT per million tokens is finer than one wei per token: use at most "
            f"{counted(places, 'decimal')}."
        )
    return price


def format_price(price_wei: int) -> str:
    """Write a price in wei per token as HCT per million tokens, exactly."""
    return format_hct(price_wei * MILLION)


def round_price(price_wei: int) -> str:
    """Write a price in wei per token as HCT per million tokens for people to read, as ``round_hct`` does."""
    return round_hct(price_wei * MILLION)


def check_wei(wei: int) -> int:
    """Return ``wei`` if it fits the contracts' uint96.

    Raises:
        InvalidAmount: below zero or above 2**96 - 1.
    """
    if not 0 <= wei <= UINT96_MAX:
        raise InvalidAmount(
            f"{format_hct(wei)} HCT is outside what a channel can hold (0 to {UINT96_MAX // one()})."
        )
    return wei


def counted(number: int, what: str) -> str:
    """Such as "1 channel" or "3 channels"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
