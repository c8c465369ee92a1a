"""The messages of links: over which a provider sends rows to the provider of the next layers."""

from __future__ import annotations

from typing import Annotated

from hypercluster.node.errors import ErrorCode
from hypercluster.node.wire.bounds import Length, message
from hypercluster.node.wire.fields import Bytes16, Number, Packed, Peer, Wei
from hypercluster.node.wire.fields import Rows as RowCount


@message
class Link:
    """Client to provider: dial the provider of the next layers, which knows you by `ticket`, and leave the last one."""

    peer: Peer
    direct: Annotated[str, Length(1, 256)]
    """TCP multiaddr of its direct connections"""
    ticket: Bytes16
    """as the other was told in Open or Expect"""


@message
class Expect:
    """Client to provider: rows of this session come from `peer` from now on, by `ticket`, and from nobody before it."""

    peer: Peer
    ticket: Bytes16


@message
class LinkOpen:
    """First message of a link, from the provider before."""

    ticket: Bytes16


@message
class LinkTaken:
    """The link stands."""


@message
class Rows:
    """Rows of activations: over a link the input of the step that awaits this number, to a client what it asked to see
    of the step of that `seq`.
    """

    number: Number
    rows: RowCount
    data: Packed
    """packed in the wire dtype of the session"""


@message
class NoRows:
    """Provider to client: the rows of an awaited step did not come (TIMEOUT), or are none (BAD_SHAPE, NOT_FINITE), or
    a step with an epoch was dropped (OUT_OF_ORDER).

    Nothing is billed for it; its voucher stays as credit, and the next receipt has the number that it would have had.
    """

    seq: Number
    code: ErrorCode
    billed_wei: Wei = 0
    """on the channel in all"""


@message
class Show:
    """Client to provider: send me the rows of output of step `seq`, your last one, which you forwarded."""

    seq: Number


@message
class Discard:
    """Client to provider: wait no longer for the rows of step `seq`. A step that has rows by now is answered.

    With an `epoch` above 0: begin none of the steps of this epoch and earlier ones; those are answered by NoRows.
    """

    seq: Number
    epoch: Number = 0
