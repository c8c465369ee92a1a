"""Everything that can go wrong in the market, as one small tree under :class:`MarketError`."""

from __future__ import annotations

from enum import StrEnum


class MarketError(Exception):
    """Root of all errors of this package; the message is one sentence fit to be shown to a user."""


class InvalidAmount(MarketError):
    """A text or number is not an amount of HCT."""


class InvalidAddress(MarketError):
    """A text is not an Ethereum address."""


class InvalidSignature(MarketError):
    """A signature is malformed, malleable (high s) or recovers to no key."""


class KeystoreError(MarketError):
    """A key file cannot be created, read or unlocked."""


class LedgerError(MarketError):
    """The ledger's database cannot be opened, migrated or written."""


class ChannelError(MarketError):
    """A payment channel cannot do what was asked of it."""


class OverDeposit(ChannelError):
    """The payer has too little left in the channel to authorise a step."""

    def __init__(self, needed: int, deposit: int) -> None:
        from hypercluster.market.money.units import format_hct  # which needs these errors

        super().__init__(
            f"The channel holds {format_hct(deposit)} HCT and the next step needs {format_hct(needed)} HCT: "
            "top the channel up."
        )
        self.needed = needed
        self.deposit = deposit


class Overbilled(ChannelError):
    """The payee claims to have billed more than it was ever authorised to."""


class Refusal(StrEnum):
    """Why a payee refuses a voucher or a channel."""

    BAD_SIGNATURE = "BAD_SIGNATURE"
    TOO_LOW = "TOO_LOW"
    OVER_DEPOSIT = "OVER_DEPOSIT"
    CLOSING = "CLOSING"
    UNKNOWN_CHANNEL = "UNKNOWN_CHANNEL"
    FOREIGN_CHANNEL = "FOREIGN_CHANNEL"


class VoucherRefused(ChannelError):
    """The payee refuses a voucher or a channel; ``reason`` says why in one word."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ChainError(MarketError):
    """The chain, or the node that speaks for it, did not do what was asked."""


class NodeUnreachable(ChainError):
    """The RPC endpoint does not answer, or answers for another chain."""


class UnusableToken(ChainError):
    """A token that cannot be what the market is paid in."""


class InsufficientFunds(ChainError):
    """The account cannot pay for the transaction."""


class TransactionTimeout(ChainError):
    """A transaction was sent and has no receipt yet."""


class TransactionReplaced(ChainError):
    """Another transaction with the same nonce was mined instead of ours."""


class Reverted(ChainError):
    """A contract refused the call; ``name`` and ``args_by_name`` hold its decoded custom error."""

    def __init__(self, action: str, name: str, args_by_name: dict[str, object]) -> None:
        listed = ", ".join(f"{key}={value}" for key, value in args_by_name.items())
        super().__init__(f"The contract refused {action}: {name}({listed}).")
        self.action = action
        self.name = name
        self.args_by_name = args_by_name
