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
from hypercluster.node.wire.links import Discard, Link, LinkOpen, LinkTaken, NoRows, Rows, Show
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
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one class is written and read: its fields, and what is done to those that do not travel as they are."""

    kind: type
    names: tuple[str, ...]
    turned: tuple[tuple[int, Callable[[Any], Any], Callable[[str, Any], Any]], ...]
    """by place in `names`"""
    nested: tuple[tuple[int, Plan], ...]
    checked: bool
    """whether the class sees to its bounds itself"""

    def write(self, value: Any) -> dict[str, Any]:
        """The protobuf fields of a message."""
        out = [getattr(value, name) for name in self.names]
        for place, turn, _ in self.turned:
            out[place] = turn(out[place])
        for place, plan in self.nested:
            if out[place] is not None:
                out[place] = plan.write(out[place])
        return dict(zip(self.names, out, strict=True))

    def read(self, source: Any) -> Any:
        """The message in a protobuf message, checked. Raises WireError naming the field that is wrong."""
        found = [getattr(source, name) for name in self.names]
        for place, _, turn in self.turned:
            found[place] = turn(self.names[place], found[place])
        for place, plan in self.nested:
            found[place] = plan.read(found[place]) if source.HasField(self.names[place]) else None
        if not self.checked:
            RULES[self.kind].check(SimpleNamespace(**dict(zip(self.names, found, strict=True))))
        return self.kind(*found)


def plan_of(kind: type, descriptor: Any) -> Plan:
    """The plan for a class whose protobuf message has this descriptor. Raises TypeError if their fields differ."""
    hints = RULES[kind].hints
    there = {field.name: field for field in descriptor.fields}
    if there.keys() != hints.keys():
        differing = ", ".join(sorted(there.keys() ^ hints.keys()))
        raise TypeError(f"{kind.__name__} and wire.proto do not have the same fields: {differing}.")
    names = tuple(field.name for field in fields(cast(Any, kind)))
    turned: list[tuple[int, Callable[[Any], Any], Callable[[str, Any], Any]]] = []
    nested: list[tuple[int, Plan]] = []
    for place, name in enumerate(names):
        hint = hints[name]
        inner = bare(hint)
        travels = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Travels)]
        if travels:
            turned.append((place, travels[0].out, travels[0].back))
        elif isinstance(inner, type) and issubclass(inner, enum.IntEnum):
            turned.append((place, int, partial(_member, inner)))
        elif inner in RULES:
            nested.append((place, plan_of(inner, there[name].message_type)))
    return Plan(kind, names, tuple(turned), tuple(nested), kind in MESSAGES)


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
