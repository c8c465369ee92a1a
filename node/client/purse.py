"""What a client pays with: its session key and the wallet behind it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.money.signing import NOBODY
from hypercluster.node.errors import NodeError
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Sender


class NoWallet(NodeError):
    """A client that only looks around was asked to pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a client pays with.

    `session_key` (32 bytes) signs vouchers and is the peer's identity; `wallet` is the account that funds the
    channels, and `unlock` makes it send, called only when money has to move.
    """

    session_key: bytes
    wallet: str
    unlock: Callable[[], Sender]


def purse_of(home: Path, chain: Chain, password: str) -> Purse:
    """The purse of the client whose keys are in `home`; the wallet stays locked until money has to move.

    Raises:
        KeystoreError: a key is missing, or the password is wrong.
    """
    from hypercluster.market.chain import Sender

    return Purse(
        session_key=bytes(keys.unlock(home, Key.SESSION, password).key),
        wallet=keys.address(home, Key.WALLET),
        unlock=lambda: Sender(chain, keys.unlock(home, Key.WALLET, password)),
    )


def empty_purse() -> Purse:
    """For a client that only looks around: an identity for once, and no money."""

    def unlock() -> Sender:
        raise NoWallet("This client has no wallet, it only looks around.")

    return Purse(session_key=secrets.token_bytes(32), wallet=NOBODY, unlock=unlock)
