"""Amounts of HCT as people write them, and the integer wei that everything else uses.

One HCT is 10**18 wei. Nothing here passes through a float.
"""

from __future__ import annotations

import re

from hypercluster.market.errors import InvalidAmount

DECIMALS = 18
HCT: int = 10**DECIMALS
MILLION = 10**6
UINT96_MAX: int = 2**96 - 1

_AMOUNT = re.compile(r"(\d+)(?:\.(\d+))?|\.(\d+)", re.ASCII)
_DIGITS = 6
_LONGEST = 60  # characters; far above any uint96 with 18 decimals, and cheap to parse


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
    if len(fraction) > DECIMALS:
        raise InvalidAmount(f"{text!r} is finer than one wei: use at most {DECIMALS} decimals.")
    return check_wei(int(whole) * HCT + int(fraction.ljust(DECIMALS, "0")))


def format_hct(wei: int) -> str:
    """Write ``wei`` as a decimal number of HCT, exactly and without trailing zeros."""
    whole, fraction = divmod(abs(wei), HCT)
    sign = "-" if wei < 0 else ""
    decimals = f"{fraction:0{DECIMALS}d}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def round_hct(wei: int) -> str:
    """Write ``wei`` in HCT for people to read: six digits that mean something, and never fewer than 4 decimals of them.

    What is not zero is never written as zero.
    """
    places = max(DECIMALS - max(len(str(abs(wei))) - _DIGITS, 0), 4)
    unit = 10 ** (DECIMALS - places)
    return format_hct((abs(wei) + unit // 2) // unit * unit * (-1 if wei < 0 else 1))


def parse_price(text: str) -> int:
    """Read a price in HCT per million tokens and return it in wei per token.

    Raises:
        InvalidAmount: not an amount, or not a whole number of wei per token.
    """
    per_million = parse_hct(text)
    price, rest = divmod(per_million, MILLION)
    if rest:
        raise InvalidAmount(
            f"{text!r} HCT per million tokens is finer than one wei per token: use at most 12 decimals."
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
            f"{format_hct(wei)} HCT is outside what a channel can hold (0 to {UINT96_MAX // HCT})."
        )
    return wei


def counted(number: int, what: str) -> str:
    """Such as "1 channel" or "3 channels"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
