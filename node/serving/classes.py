"""Who comes before whom when there is not enough for everybody."""

from __future__ import annotations

import enum


class Class(enum.IntEnum):
    """What a node knows of a peer, the least first."""

    STRANGER = 0
    """it has no channel that pays us"""
    NEWCOMER = 1
    """it has, and has paid nothing yet over any channel of its wallet"""
    PAYER = 2
    """its wallet has paid us before, in this run or an earlier one"""
