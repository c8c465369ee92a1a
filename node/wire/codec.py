"""How messages become bytes and back: one encoding and one decoding for all of them.

A field travels under its own name (wire.proto), as it is or as fields.py says. That both have the same fields is
seen to when this module is loaded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

from google.protobuf.message import DecodeError

from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.wire import wire_pb2 as pb
from hypercluster.node.wire.audit import AuditEnd, AuditOpen, AuditVerdict, Recall, Recalled
from hypercluster.node.wire.bounds import MESSAGES, RULES, bare
from hypercluster.node.wire.fields import Travels
from hypercluster.node.wire.links import Discard, Expect, Link, LinkOpen, LinkTaken, NoRows, Rows, Show
from hypercluster.node.wire.messages import (
    Accept,
    Close,
    Error,
    Open,
    Parked,
    SignedAdvert,
    Step,
    StepResult,
)
from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots
from hypercluster.node.wire.rumours import Rumour

Message: TypeAlias = (
    Open
    | Step
    | Close
    | Parked
    | Accept
    | StepResult
    | Error
    | SignedAdvert
    | StageRecord
    | Recall
    | Recalled
    | AuditOpen
    | AuditStep
    | AuditEnd
    | AuditVerdict
    | Rumour
    | Link
    | LinkOpen
    | LinkTaken
    | Rows
    | NoRows
    | Show
    | Discard
    | StepRoots
    | Expect
)

_FRAMES: dict[type, str] = {
    Open: "open",
    Step: "step",
    Close: "close",
    Parked: "parked",
    Accept: "accept",
    StepResult: "result",
    Error: "error",
    SignedAdvert: "advert",
    Recall: "recall",
    Recalled: "recalled",
    AuditOpen: "audit_open",
    AuditStep: "audit_step",
    AuditEnd: "audit_end",
    AuditVerdict: "verdict",
    StageRecord: "stage",
    Rumour: "rumour",
    Link: "link",
    LinkOpen: "link_open",
    LinkTaken: "link_taken",
    Rows: "rows",
    NoRows: "no_rows",
    Show: "show",
    Discard: "discard",
    StepRoots: "step_roots",
    Expect: "expect",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one class is written and read: one expression for each, made of its fields and of what is done to those that
    do not travel as they are.
    """

    write: Callable[[Any], dict[str, Any]]
    """the protobuf fields of a message"""
    read: Callable[[Any], Any]
    """the message in a protobuf message, checked; raises WireError naming the field that is wrong"""


def plan_of(kind: type, descriptor: Any) -> Plan:
    """The plan for a class whose protobuf message has this descriptor. Raises TypeError if their fields differ."""
    hints = RULES[kind].hints
    there = {field.name: field for field in descriptor.fields}
    if there.keys() != hints.keys():
        differing = ", ".join(sorted(there.keys() ^ hints.keys()))
        raise TypeError(f"{kind.__name__} and wire.proto do not have the same fields: {differing}.")
    known: dict[str, Any] = {"kind": kind if kind in MESSAGES else _checked(kind)}
    written, read = [], []
    for field in fields(cast(Any, kind)):
        name, hint = field.name, hints[field.name]
        inner, out, back = bare(hint), f"value.{name}", f"source.{name}"
        travels = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Travels)]
        if travels:
            known[f"out_{name}"], known[f"back_{name}"] = travels[0].out, travels[0].back
            out, back = f"out_{name}({out})", f"back_{name}({name!r}, {back})"
        elif isinstance(inner, type) and issubclass(inner, enum.IntEnum):
            known[f"back_{name}"] = partial(_member, inner)
            out, back = f"int({out})", f"back_{name}({name!r}, {back})"
        elif inner in RULES:
            known[f"plan_{name}"] = plan_of(inner, there[name].message_type)
            out = f"None if {out} is None else plan_{name}.write({out})"
            back = f"plan_{name}.read({back}) if source.HasField({name!r}) else None"
        written.append(f"{name!r}: {out}")
        read.append(f"{name}={back}")
    return Plan(
        eval(f"lambda value: {{{', '.join(written)}}}", known),  # noqa: S307
        eval(f"lambda source: kind({', '.join(read)})", known),  # noqa: S307
    )


def _checked(kind: type) -> Callable[..., Any]:
    """Makes a value of a class that does not see to its bounds itself."""

    def made(**found: Any) -> Any:
        RULES[kind].check(SimpleNamespace(**found))
        return kind(**found)

    return made


def _member(kind: type[enum.IntEnum], field: str, value: int) -> enum.IntEnum:
    try:
        return kind(value)
    except ValueError:
        raise WireError(field, f"has the unknown value {value}", ErrorCode.UNSUPPORTED_VERSION) from None


_FIELDS = pb.Frame.DESCRIPTOR.fields_by_name
_PLANS = {kind: (name, plan_of(kind, _FIELDS[name].message_type)) for kind, name in _FRAMES.items()}
_READERS = dict(_PLANS.values())


def encode(message: Message) -> bytes:
    """The bytes of the Frame that carries `message`, without the length prefix."""
    name, plan = _PLANS[type(message)]
    return pb.Frame(**{name: plan.write(message)}).SerializeToString()


def decode(data: bytes) -> Message:
    """The message in the bytes of one Frame. Raises WireError naming the field that is wrong."""
    try:
        frame = pb.Frame.FromString(data)
    except DecodeError:
        raise WireError("frame", "is no protobuf Frame") from None
    name = frame.WhichOneof("message")
    if name is None:
        raise WireError("frame", "holds no message of this version", ErrorCode.UNSUPPORTED_VERSION)
    message: Message = _READERS[name].read(getattr(frame, name))
    return message
