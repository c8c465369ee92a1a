"""The bounds of a message's fields stand beside the fields, and are checked in one place when a message is made.

A field of numbers, bytes, text or a sequence is declared as `Annotated[type, bound]`; `message` refuses a class in
which one has none, so such a class cannot even be imported. What a message is made of by itself (another message,
a member of an enumeration, a truth value) needs no bound.
"""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol, TypeVar, Union, cast, dataclass_transform, get_args, get_origin
from typing import get_type_hints as type_hints

from hypercluster.node.errors import WireError

MAX_OPENING_FRAME = 64 * 1024
"""bytes a frame may have before a session is accepted"""
MAX_FRAME = 64 * 1024 * 1024
"""bytes a frame may ever have, whatever a provider asks for"""
FRAME_MARGIN = 4096
"""bytes of a frame that are not rows"""

_T = TypeVar("_T")
_HEX = re.compile("[0-9a-f]*", re.ASCII)


class Bound(Protocol):
    """What is allowed in a field."""

    def check(self, field: str, value: Any) -> None:
        """Raise WireError, naming the field, unless `value` is allowed."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number from `low` to `high`, both included; never NaN."""

    low: float
    high: float

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless it is one."""
        if not self.low <= value <= self.high:
            raise WireError(field, f"is {value}, outside {self.low} to {self.high}")


class Length:
    """Bytes, characters or items: from `low` to `high` of them, exactly `low` where `high` is left out."""

    def __init__(self, low: int, high: int | None = None) -> None:
        self.low, self.high = low, low if high is None else high

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless there are as many."""
        if not self.low <= len(value) <= self.high:
            wanted = f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"
            raise WireError(field, f"has length {len(value)}, not {wanted}")


@dataclass(frozen=True, slots=True)
class Hex:
    """So many bytes in hex digits, lower case, without 0x."""

    size: int

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless it is that."""
        if len(value) != 2 * self.size or not _HEX.fullmatch(value):
            raise WireError(field, f"is {value!r:.80}, not {2 * self.size} hex digits")


@dataclass(frozen=True, slots=True)
class Each:
    """Something that holds for every item of a sequence, beside the Length of the whole."""

    bound: Bound

    def check(self, field: str, value: Any) -> None:
        """Raise WireError unless it does."""
        for item in value:
            self.bound.check(field, item)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is checked of one class. `hints` are its fields with all that is annotated."""

    hints: Mapping[str, Any]
    kinds: tuple[tuple[str, type | tuple[type, ...]], ...]
    numbers: tuple[tuple[str, float, float], ...]
    sizes: tuple[tuple[str, int, int], ...]
    rest: tuple[tuple[str, Bound], ...]
    plain: Callable[[Any], bool]
    """whether kinds, numbers and sizes are all right, in one expression: it is asked several times for each token"""

    def check(self, value: Any) -> None:
        """Raise WireError naming the first field of `value` that is out of its bounds."""
        if not self.plain(value):
            self._refuse(value)
        for name, bound in self.rest:
            bound.check(name, getattr(value, name))

    def _refuse(self, value: Any) -> None:
        for name, kind in self.kinds:
            if not isinstance(getattr(value, name), kind):
                raise WireError(name, f"is {getattr(value, name)!r:.40}, which is nothing of the right kind")
        for name, low, high in self.numbers:
            if not low <= getattr(value, name) <= high:
                Range(low, high).check(name, getattr(value, name))
        for name, least, most in self.sizes:
            if not least <= len(getattr(value, name)) <= most:
                Length(least, most).check(name, getattr(value, name))


RULES: dict[type, Rules] = {}
"""of every class that may stand in a message"""
MESSAGES: set[type] = set()
"""those among them that cannot be made out of bounds"""


def declare(kind: type, hints: Mapping[str, Any]) -> Rules:
    """Rules of a dataclass from elsewhere, whose fields are annotated here and not where it is defined.

    Raises TypeError if one of them has no bound.
    """
    kinds: list[tuple[str, type | tuple[type, ...]]] = []
    numbers: list[tuple[str, float, float]] = []
    sizes: list[tuple[str, int, int]] = []
    rest: list[tuple[str, Bound]] = []
    for name in (field.name for field in fields(cast(Any, kind))):
        bounds = _bounds_of(hints.get(name))
        if bounds is None:
            raise TypeError(f"{kind.__name__}.{name} has no bound: declare it as Annotated[..., bound].")
        kinds.append((name, _kinds(hints[name])))
        for bound in bounds:
            if isinstance(bound, Range):
                numbers.append((name, bound.low, bound.high))
            elif isinstance(bound, Length):
                sizes.append((name, bound.low, bound.high))
            else:
                rest.append((name, bound))
    plain = _expression(kinds, numbers, sizes)
    RULES[kind] = rules = Rules(hints, tuple(kinds), tuple(numbers), tuple(sizes), tuple(rest), plain)
    return rules


def _expression(
    kinds: Sequence[tuple[str, type | tuple[type, ...]]],
    numbers: Sequence[tuple[str, float, float]],
    sizes: Sequence[tuple[str, int, int]],
) -> Callable[[Any], bool]:
    """What a class's fields have to be, as a function of a value of it, made of names and bounds in our own code."""
    known = {f"kind_{name}": kind for name, kind in kinds}
    terms = [f"isinstance(value.{name}, kind_{name})" for name, _ in kinds]
    terms += [f"{low!r} <= value.{name} <= {high!r}" for name, low, high in numbers]
    terms += [f"{least} <= len(value.{name}) <= {most}" for name, least, most in sizes]
    made: Callable[[Any], bool] = eval(f"lambda value: {' and '.join(terms) or True}", known)  # noqa: S307
    return made


def bare(hint: Any) -> Any:
    """The type itself: without annotations, and without the None that it may be instead."""
    if get_origin(hint) is Annotated:
        return bare(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return next(bare(each) for each in get_args(hint) if each is not type(None))
    return hint


def _bounds_of(hint: Any) -> list[Bound] | None:
    """What a field's type says of it; None if that leaves it unbounded."""
    if bounds := [each for each in getattr(hint, "__metadata__", ()) if hasattr(each, "check")]:
        return bounds
    kind = bare(hint)
    if not isinstance(kind, type) or not (kind is bool or kind in RULES or issubclass(kind, enum.Enum)):
        return None
    return []


def _kinds(hint: Any) -> type | tuple[type, ...]:
    """What a value of a field may be an instance of."""
    if get_origin(hint) in (Union, types.UnionType):
        return bare(hint), type(None)
    kind = bare(hint)
    return (float, int) if kind is float else get_origin(kind) or kind


@dataclass_transform(frozen_default=True)
def message(kind: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass that cannot hold a value out of bounds.

    What its own `__post_init__` says of several fields together is checked after the bounds of each. Raises
    TypeError if a field has no bound.
    """
    together: Callable[[Any], None] | None = kind.__dict__.get("__post_init__")
    rules: Rules

    def checked(self: Any) -> None:
        rules.check(self)
        if together is not None:
            together(self)

    kind.__post_init__ = checked  # type: ignore[attr-defined]
    made = dataclass(frozen=True, slots=True)(kind)
    rules = declare(made, type_hints(made, include_extras=True))
    MESSAGES.add(made)
    return made


def frame_bound(max_step_tokens: int, width: int, top_k: int = 0) -> int:
    """Bytes a frame of an accepted session may have: rows of f32 activations and a token id, or of candidates."""
    return max_step_tokens * max(4 * width + 4, 8 * top_k + 8 if top_k else 0) + FRAME_MARGIN
