"""The keys of a home folder: a hot one that runs or signs vouchers, and one apart that holds the money."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.errors import KeystoreError
from hypercluster.market.money.keystore import SCRYPT_WORK, address_in, create_key, load_key

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


class Key(StrEnum):
    """What a key is for; the value is its file's name."""

    NODE = "node"
    """a provider's libp2p identity; signs adverts and quotes and sends claims"""
    OPERATOR = "operator"
    """holds a provider's stake and receives its money"""
    SESSION = "session"
    """a client's; signs vouchers and is its libp2p identity"""
    WALLET = "wallet"
    """holds a client's money; opens and closes channels"""


PROVIDER = (Key.NODE, Key.OPERATOR)
CLIENT = (Key.SESSION, Key.WALLET)
MOST_PASSWORD_BYTES = 1 << 16
_MARK = "\ufeff"


def key_file(home: Path, key: Key) -> Path:
    """Where a key is kept."""
    return home / "keys" / f"{key}.json"


def create(home: Path, key: Key, password: str, *, work: int = SCRYPT_WORK) -> LocalAccount:
    """Make a key; `work` is scrypt's N. Raises KeystoreError if it exists."""
    return create_key(key_file(home, key), password, work=work)


def create_missing(home: Path, wanted: Sequence[Key], password: str) -> list[str]:
    """Make the keys of `wanted` that are missing and return the addresses of all of them, in that order.

    Raises:
        KeystoreError: none is missing, or one cannot be written.
    """
    missing = [key for key in wanted if not key_file(home, key).exists()]
    if not missing:
        raise KeystoreError(
            f"The keys are in {home / 'keys'} already: set HC_HOME to another folder for new ones."
        )
    for key in missing:
        create(home, key, password)
    return [address(home, key) for key in wanted]


def unlock(home: Path, key: Key, password: str) -> LocalAccount:
    """Unlock a key. Raises KeystoreError: missing, or the password is wrong.

    Files that begin with a byte order mark once made it part of the password.
    """
    path = _existing(home, key)
    try:
        return load_key(path, password)
    except KeystoreError:
        with suppress(KeystoreError):
            return load_key(path, _MARK + password)
        raise


def first_line(file: Path) -> str:
    """The password that a file holds: its first line, without a byte order mark and the line's end.

    Raises KeystoreError where it cannot be read, is no text in UTF-8, or the line is empty or endless.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.readline(MOST_PASSWORD_BYTES + 1)
        line = raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise KeystoreError(f"The password file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise KeystoreError(f"The password file {file} is no text in UTF-8: write it anew.") from None
    if len(raw) > MOST_PASSWORD_BYTES:
        raise KeystoreError(f"The first line of {file} is too long for a password: is it another file?")
    if not line:
        raise KeystoreError(f"The first line of the password file {file} is empty.")
    return line


def address(home: Path, key: Key) -> str:
    """The address of a key, read without unlocking it. Raises KeystoreError."""
    return address_in(_existing(home, key))


def _existing(home: Path, key: Key) -> Path:
    path = key_file(home, key)
    if not path.exists():
        init = "hc-provider init or hc-verifier init" if key in PROVIDER else "hc-client init"
        raise KeystoreError(f"There is no {key} key in {path.parent}: run {init}, or set HC_HOME.")
    return path
