"""Messages of every kind, drawn at random within their bounds, and how to leave a bound by one."""

from __future__ import annotations

import enum
from dataclasses import fields
from typing import Any, get_args, get_origin

from hypothesis import strategies as st

from hypercluster.market.advert import Advert
from hypercluster.market.money.signing import checksum
from hypercluster.node.wire import fields as kinds
from hypercluster.node.wire.bounds import RULES, Each, Hex, Length, Range, bare
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.fields import Dtypes, RoleName
from hypercluster.node.wire.messages import FLYING_ROWS, Open, Step, StepResult
from hypercluster.node.wire.records import StepRoots
from hypercluster.node.wire.rumours import Rumour

KINDS: tuple[type, ...] = get_args(Message)
MOST = 64
"""of bytes, characters or items that are drawn, where more would be allowed"""
ADDRESSES = st.binary(min_size=20, max_size=20)


def field_values(hint: Any) -> st.SearchStrategy[Any]:
    """What a field of this type may hold."""
    kind, bounds = bare(hint), list(getattr(hint, "__metadata__", ()))
    if hint == RoleName:
        return st.sampled_from(["provider", "verifier"])
    if hint == Dtypes:
        return st.lists(st.sampled_from(["f32", "f16", "q8"]), min_size=1, max_size=4).map(tuple)
    if hint == kinds.Address:
        return ADDRESSES.map(checksum)
    for bound in bounds:
        if isinstance(bound, Range) and kind is float:
            # As they travel some have 32 bits.
            return st.floats(bound.low, min(bound.high, 1e9), width=32)
        if isinstance(bound, Range):
            return st.integers(int(bound.low), int(bound.high))
        if isinstance(bound, Hex):
            return st.binary(min_size=bound.size, max_size=bound.size).map(bytes.hex)
        if isinstance(bound, Length):
            least, most = bound.low, max(bound.low, min(bound.high, MOST))
            if kind is bytes:
                return st.binary(min_size=least, max_size=most)
            if kind is str:
                return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)
            each = next(bound.bound for bound in bounds if isinstance(bound, Each))
            assert isinstance(each, Length)
            words = st.text(st.characters(exclude_categories=["Cs"]), min_size=each.low, max_size=each.high)
            return st.lists(words, min_size=least, max_size=most).map(tuple)
    if kind is bool:
        return st.booleans()
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    return messages(kind) if hint is kind else st.none() | messages(kind)


def messages(kind: type) -> st.SearchStrategy[Any]:
    """Messages of one kind, of fields that may be seen together."""
    hints = RULES[kind].hints
    drawn = st.fixed_dictionaries({field.name: field_values(hints[field.name]) for field in fields(kind)})
    return drawn.map(lambda values: kind(**together(kind, values)))


def together(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a message's fields, changed where fields say something of each other."""
    if "layer_stop" in values:
        start, stop = sorted((values["layer_start"], values["layer_stop"] - 1))
        values |= {"layer_start": start, "layer_stop": stop + 1}
    if "paid_signature" in values:
        values["paid_signature"] = b"p" * 64 if values["paid_wei"] else b""
        values["max_step_tokens"] = min(values["max_step_tokens"], 128)
    if "outputs" in values and "rows" in values:
        values["outputs"] = min(values["outputs"], values["rows"])
        for name in {"receipt", "voucher"} & values.keys():
            values[name] = values[name].ljust(64, b"\0")[:64] if values[name] else b""
    if "stage" in values:
        values["case_id"] = max(1, values["case_id"]) if values["stage"] else 0
    if "proof" in values:
        values["proof"] = values["proof"].ljust(64, b"\0")[:64] if values["proof"] else b""
    if "resume" in values:
        values["resume"] = values["resume"].ljust(16, b"s") if values["position"] else b""
    if kind is Open:
        values["ticket"] = values["ticket"].ljust(16, b"t") if values["previous"] else b""
        values["branch"] = values["branch"] if values["resume"] else 0
    if kind is Step:
        values["input"] = b"" if values["awaited"] else values["input"] or b"rows"
        values["rows"] = min(values["rows"], FLYING_ROWS) if values["epoch"] else values["rows"]
    if kind in (StepResult, StepRoots):
        values["output"] = values["output"] or b""
        values["in_root"] = values["in_root"].ljust(32, b"r") if values["in_root"] else b""
        values["out_root"] = b"" if values["output"] else b"r" * 32
    if kind is StepResult:
        values["inherited"] = values["inherited"][: len(values["inherited"]) // 64 * 64]
    if kind is StepRoots:
        values["in_root"] = b"" if values["input"] else b"r" * 32
    if kind is Rumour:
        values["testimony"] = None if values["other"] else values["testimony"]
        values["other"] = values["other"] or (None if values["testimony"] else values["receipt"])
    if kind is Advert:
        values["free"] = min(values["free"], values["capacity"])
        dearest = max(values["price_wei"], values["prompt_price_wei"])
        values["reserve_wei"] = min(values["reserve_wei"], values["session_tokens"] * dearest)
        values["cached_price_wei"] = min(values["cached_price_wei"], dearest)
        values["issued"], values["expires"] = sorted((values["issued"], values["expires"]))
        values["expires"] = max(values["expires"], values["issued"] + 1)
        if values["expires"] >= 1 << 40:
            values |= {"issued": 1, "expires": 2}
    return values


def beyond(hint: Any) -> list[Any]:
    """Values just outside of what a field of this type may hold."""
    kind, found = bare(hint), list[Any]()
    for bound in getattr(hint, "__metadata__", ()):
        if isinstance(bound, Range) and kind is float:
            found += [-0.5, float("inf"), float("nan")]
        elif isinstance(bound, Range):
            found += [int(bound.low) - 1, int(bound.high) + 1]
        elif isinstance(bound, Hex):
            found += ["zz" * bound.size, "ab" * (bound.size - 1), "AB" * bound.size, "", " a" * bound.size]
        elif isinstance(bound, Length):
            one: Any = {bytes: b"x", str: "x", tuple: ("f32",)}[get_origin(kind) or kind]
            # 64 MiB are no trouble: nothing is written into them
            found += [one * (bound.high + 1)] + ([one * (bound.low - 1)] if bound.low else [])
        elif isinstance(bound, Each) and isinstance(bound.bound, Length):
            found += [("x" * (bound.bound.high + 1),)]
    if hint == kinds.Address:
        found += ["0x" + "zz" * 20, "0x11", ""]
    if hint in (RoleName, Dtypes):
        found += ["bank"] if hint == RoleName else [("q7",), ("",)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        found.append(999)
    return [*found, *([None] if hint != (kind | None) else []), "x" if kind is not str else b"x"]
