"""Keys at rest: Ethereum Keystore V3 files (scrypt, AES-128-CTR), readable by their owner only."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.errors import InvalidAddress, KeystoreError
from hypercluster.market.money.signing import checksum

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

LARGEST_FILE = 64 * 1024
SCRYPT_WORK = 2**18


def create_key(
    path: Path, password: str, *, secret: bytes | None = None, work: int = SCRYPT_WORK
) -> LocalAccount:
    """Make a key, or take the 32-byte ``secret``, and write it encrypted to a new file with mode 0600.

    The file appears whole or not at all, and never replaces another. ``work`` is scrypt's N: a power of two,
    lower only for keys of play money, whose password takes no second to try.

    Raises:
        KeystoreError: the file exists, cannot be written, the password is empty or the secret is no key.
    """
    from eth_account import Account  # a tenth of a second, which reading an address can do without

    if not password:
        raise KeystoreError(f"The key file {path} needs a password that is not empty.")
    try:
        account: LocalAccount = Account.from_key(secret if secret is not None else secrets.token_bytes(32))
    except ValueError as error:
        raise KeystoreError("The secret given is not a private key of 32 bytes.") from error
    content = (
        json.dumps(Account.encrypt(account.key, password, kdf="scrypt", iterations=work)).encode() + b"\n"
    )
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, path)  # unlike a rename, fails when the name is taken
        finally:
            partial.unlink()
    except FileExistsError as error:
        raise KeystoreError(f"There is a key file {path} already: choose another name.") from error
    except OSError as error:
        raise KeystoreError(f"The key file {path} cannot be written: {error.strerror}.") from error
    return account


def load_key(path: Path, password: str) -> LocalAccount:
    """Unlock a key file.

    Raises:
        KeystoreError: no such file, not a key file, readable by others, or the password is wrong.
    """
    from eth_account import Account

    content = _read(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise KeystoreError(f"Others can read the key file {path}: run `chmod 600 {path}` first.")
    if _is_costly(content):
        raise KeystoreError(
            f"The key file {path} asks for far more work than keys need (n, r, p, c): it is damaged, or not yours."
        )
    try:
        secret = Account.decrypt(content, password)
    except ValueError as error:
        if "MAC" in str(error):
            raise KeystoreError(f"The password for the key file {path} is wrong.") from None
        raise KeystoreError(f"The key file {path} is damaged or not of Keystore V3.") from None
    except (KeyError, TypeError, AttributeError, NotImplementedError, MemoryError, OverflowError):
        raise KeystoreError(f"The key file {path} is damaged or not of Keystore V3.") from None
    account: LocalAccount = Account.from_key(secret)
    return account


def _is_costly(content: str) -> bool:
    """Whether a key file asks for much more hashing, or memory, than ours and other wallets' do, or for nonsense."""
    try:
        told = json.loads(content)["crypto"]["kdfparams"]
        n, r, p, c, dklen = (told.get(name, 1) for name in ("n", "r", "p", "c", "dklen"))
    except (KeyError, TypeError, AttributeError):
        return False  # it is none, which is found out without work
    if not all(type(each) is int and each > 0 for each in (n, r, p, c, dklen)):
        return True
    return bool(n * r * p > 4 * SCRYPT_WORK * 8 or r * p > 256 or c > 10**7 or dklen > 64)


def address_in(path: Path) -> str:
    """Return the address that a key file names, without unlocking it.

    Raises:
        KeystoreError: no such file, or not a key file.
    """
    fields = json.loads(_read(path))
    try:
        return checksum("0x" + str(fields["address"]).removeprefix("0x"))
    except (KeyError, TypeError, InvalidAddress):
        raise KeystoreError(f"The key file {path} is damaged or not of Keystore V3.") from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1).decode()
        if len(content) > LARGEST_FILE or not isinstance(json.loads(content), dict):
            raise ValueError
    except FileNotFoundError:
        raise KeystoreError(f"There is no key file {path}: create one first.") from None
    except OSError as error:
        raise KeystoreError(f"The key file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise KeystoreError(f"The key file {path} is damaged or not of Keystore V3.") from None
    return content
