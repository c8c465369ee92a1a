"""Bodies of requests, read without trust: whatever is wrong with one is said by the name of its field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from hypercluster.node.gateway.errors import ApiError, bad

MOST_DEPTH = 100
"""objects and lists within each other; schemas of tools have some ten"""
MOST_TEXT = 1 << 22
"""characters of one text"""


def read_body(raw: bytes) -> Fields:
    """The JSON object that a body holds. Raises ApiError."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "The body is not UTF-8.") from None
    if not text.strip():
        raise ApiError(400, "invalid_json", "The body is empty: send a JSON object.")
    try:
        document = json.loads(text, parse_constant=_no_number, parse_float=_number, object_pairs_hook=_object)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ApiError(400, "invalid_json", f"The body is {kind_of(document)}: send a JSON object.")
    _bounded(document)
    return Fields(document)


class Fields:
    """The fields of one object of a body. Absent and null are the same; fields that nobody asks for are ignored.

    Every method raises ApiError with `param` for a value of another kind.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self.values, self.where = values, where

    def name(self, field: str) -> str:
        """How a field is called from the top of the body on."""
        return f"{self.where}.{field}" if self.where else field

    def get(self, field: str) -> Any:
        """A value of any kind; None where there is none."""
        return self.values.get(field)

    def has(self, field: str) -> bool:
        """Whether there is a value."""
        return self.values.get(field) is not None

    def refuse(self, field: str, message: str) -> NoReturn:
        """Say what is wrong with a field."""
        raise bad(self.name(field), message)

    def missing(self, field: str) -> NoReturn:
        """Say that a field is needed."""
        raise ApiError(
            400, "missing_required_parameter", f"{self.name(field)} is missing.", param=self.name(field)
        )

    def text(self, field: str) -> str | None:
        """A text."""
        value = self._of(field, str, "a text")
        return None if value is None else checked_text(value, self.name(field))

    def flag(self, field: str) -> bool | None:
        """True or false."""
        value: bool | None = self._of(field, bool, "true or false")
        return value

    def whole(self, field: str, least: int, most: int) -> int | None:
        """A whole number, least <= it <= most; 5.0 is one as well."""
        value = self.number(field, least, most)
        if value is not None and value != int(value):
            self.refuse(field, f"{self.name(field)} is {value}: it must be a whole number.")
        return None if value is None else int(value)

    def number(self, field: str, least: float, most: float) -> float | None:
        """A number, least <= it <= most."""
        value = self.values.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(field, f"{self.name(field)} is {kind_of(value)}: it must be a number.")
        if not least <= value <= most:
            self.refuse(
                field,
                f"{self.name(field)} is {_short(value)}: it must lie between {_bound(least)} and {_bound(most)}.",
            )
        return value

    def one_of(self, field: str, *words: str) -> str | None:
        """One of some words."""
        value = self.text(field)
        if value is not None and value not in words:
            self.refuse(
                field, f"{self.name(field)} is {_short(value)}: it must be one of {', '.join(words)}."
            )
        return value

    def fields(self, field: str) -> Fields | None:
        """An object."""
        value = self._of(field, dict, "an object")
        return None if value is None else Fields(value, self.name(field))

    def listed(self, field: str, most: int) -> list[Any] | None:
        """A list of anything, `most` at most."""
        value: list[Any] | None = self._of(field, list, "a list")
        if value is not None and len(value) > most:
            self.refuse(field, f"{self.name(field)} has {len(value)} entries; {most} are the most.")
        return value

    def each(self, field: str, most: int) -> Iterator[Fields]:
        """The objects of a list of objects; none where there is no list."""
        for index, value in enumerate(self.listed(field, most) or ()):
            where = f"{self.name(field)}[{index}]"
            if not isinstance(value, dict):
                raise bad(where, f"{where} is {kind_of(value)}: it must be an object.")
            yield Fields(value, where)

    def texts(self, field: str, most: int) -> tuple[str, ...]:
        """A text or a list of texts; none where it is absent."""
        value = self.values.get(field)
        if isinstance(value, str):
            return (checked_text(value, self.name(field)),)
        found = []
        for index, each in enumerate(self.listed(field, most) or ()):
            where = f"{self.name(field)}[{index}]"
            if not isinstance(each, str):
                raise bad(where, f"{where} is {kind_of(each)}: it must be a text.")
            found.append(checked_text(each, where))
        return tuple(found)

    def _of(self, field: str, kind: type, called: str) -> Any:
        value = self.values.get(field)
        if value is not None and not isinstance(value, kind):
            self.refuse(field, f"{self.name(field)} is {kind_of(value)}: it must be {called}.")
        return value


def checked_text(text: str, where: str) -> str:
    """A text that can be written as UTF-8 and is not beyond measure. Raises ApiError."""
    if len(text) > MOST_TEXT:
        raise bad(where, f"{where} has {len(text)} characters; {MOST_TEXT} are the most.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad(
            where, f"{where} holds half of a character (a lone surrogate) at place {error.start}."
        ) from None
    return text


def kind_of(value: Any) -> str:
    """What a value of JSON is, in a word."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _bound(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _short(value: Any) -> str:
    said = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a very long number"
    return said if len(said) <= 60 else said[:57] + "..."


def _too_deep() -> ApiError:
    return ApiError(
        400, "invalid_json", f"The body nests deeper than {MOST_DEPTH} objects and lists within each other."
    )


def _bounded(document: Any) -> None:
    level = [document]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {_short(twice)} stands twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")
