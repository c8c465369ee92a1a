"""The errors of the node room and the codes that travel on the wire."""

from __future__ import annotations

import enum


class ErrorCode(enum.IntEnum):
    """Why a provider refused or ended something; the numbers are part of the protocol."""

    BAD_REQUEST = 1
    UNSUPPORTED_VERSION = 2
    WRONG_MODEL = 3
    WRONG_RANGE = 4
    PRICE_TOO_LOW = 5
    FULL = 6
    UNKNOWN_CHANNEL = 7
    FOREIGN_CHANNEL = 8
    CHANNEL_CLOSING = 9
    BAD_SIGNATURE = 10
    VOUCHER_TOO_LOW = 11
    OVER_DEPOSIT = 12
    OUT_OF_ORDER = 13
    TOO_LONG = 14
    BAD_SHAPE = 15
    NOT_FINITE = 16
    UNKNOWN_SESSION = 17
    TIMEOUT = 18
    INTERNAL = 19
    ENGINE_FAILED = 20


class NodeError(Exception):
    """Root of everything this room raises on purpose. `code` is what a peer is told about it."""

    code: ErrorCode = ErrorCode.INTERNAL


class WireError(NodeError):
    """A message that breaks the protocol; `field` names the part that does."""

    def __init__(self, field: str, problem: str, code: ErrorCode = ErrorCode.BAD_REQUEST) -> None:
        super().__init__(f"{field} {problem}.")
        self.field = field
        self.code = code


class FrameError(NodeError):
    """The byte stream holds no frame that may be read; the connection is of no further use."""

    code = ErrorCode.BAD_REQUEST


class FrameTooLong(FrameError):
    """A frame announces more bytes than agreed."""

    code = ErrorCode.TOO_LONG


class FrameTimeout(FrameError):
    """A frame did not arrive, or could not be sent, within its time."""

    code = ErrorCode.TIMEOUT


class ConnectionLost(NodeError):
    """The other side closed or reset the connection, or the network did."""


class PeerRefused(NodeError):
    """The peer answered with an Error message."""

    def __init__(self, code: ErrorCode, message: str, billed_wei: int = 0, wait: float = 0.0) -> None:
        super().__init__(message or f"The peer refused with {code.name}.")
        self.code = code
        self.billed_wei = billed_wei
        self.wait = wait
        """seconds after which it says that asking again is worth it, 0 if it says nothing"""


class IdentityError(NodeError):
    """A key or a peer id that is no secp256k1 identity."""


class HostError(NodeError):
    """The libp2p host could not start or listen."""


class UnknownHost(HostError):
    """A name in an address that nobody knows."""


class Trouble(enum.StrEnum):
    """Why an address did not answer; the value goes on after "it"."""

    REFUSED = "refused the connection: nothing listens there"
    TIMEOUT = "did not answer in time"
    UNKNOWN_HOST = "has a name that cannot be looked up"
    WRONG_PEER = "answered as another node than its /p2p/ says"
    NO_ROUTE = "cannot be reached from this network"
    NO_NODE = "answered, but not as a node of this network"


class PeerUnreachable(NodeError):
    """No address of the peer could be dialled, or it does not speak the protocol; `trouble` says which."""

    def __init__(self, message: str, trouble: Trouble = Trouble.NO_NODE) -> None:
        super().__init__(message)
        self.trouble = trouble


class Unfit(enum.StrEnum):
    """Why an advert is not taken; the value goes on after "advert that" or "adverts that"."""

    EXPIRED = "expired before it came"
    POST_DATED = "is dated in the future"
    NOT_STAKED = "has no stake or no authorisation on the chain behind it"
    OVER_STAKE = "offers more sessions than the stake behind it carries"
    NO_PLACE = "found no place among larger stakes"
    FORGED = "has a wrong signature"
    OTHER_MODEL = "is for another model"
    OTHER = "breaks a rule"


class AdvertError(NodeError):
    """An advert that must not enter the order book, and why."""

    def __init__(self, message: str, unfit: Unfit = Unfit.OTHER) -> None:
        super().__init__(message)
        self.unfit = unfit


class ForgedRumour(NodeError):
    """A rumour that shows what its signers never signed; whoever passes it on does not check, or made it."""


class ForgedAdvert(AdvertError):
    """An advert that its peer never signed; whoever passes it on does not check, or made it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Unfit.FORGED)
