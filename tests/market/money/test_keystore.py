"""Key files are private, whole, and open with one password."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hypercluster.market.errors import KeystoreError
from hypercluster.market.money import keystore
from hypercluster.market.money.keystore import address_in, create_key, load_key

SECRET = b"\x07" * 32


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "wallet.json"
    create_key(path, "sesame", secret=SECRET)
    return path


def test_a_key_comes_back_with_its_password(stored: Path) -> None:
    account = load_key(stored, "sesame")
    assert bytes(account.key) == SECRET
    assert address_in(stored) == account.address
    assert json.loads(stored.read_text())["version"] == 3
    assert SECRET.hex() not in stored.read_text()


def test_the_wrong_password_is_one_sentence(stored: Path) -> None:
    for password in ("Sesame", "", "sesame "):
        with pytest.raises(KeystoreError, match=r"password .* is wrong") as refusal:
            load_key(stored, password)
        assert "\n" not in str(refusal.value)


def test_keys_are_made_at_random_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.json"
    old = os.umask(0)
    try:
        account = create_key(path, "pässword")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_key(path, "pässword").address == account.address
    assert list(path.parent.iterdir()) == [path]
    content = path.read_bytes()
    with pytest.raises(KeystoreError, match="already"):
        create_key(path, "other", secret=SECRET)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_others_can_read_is_refused(tmp_path: Path, stored: Path) -> None:
    path = tmp_path / "open.json"
    path.write_bytes(stored.read_bytes())
    path.chmod(0o640)
    with pytest.raises(KeystoreError, match="chmod 600"):
        load_key(path, "sesame")


def test_bad_secrets_and_passwords_are_refused(tmp_path: Path) -> None:
    for secret in (b"", b"\0" * 32, b"\xff" * 32, b"\1" * 31):
        with pytest.raises(KeystoreError, match="32 bytes"):
            create_key(tmp_path / "key", "p", secret=secret)
    with pytest.raises(KeystoreError, match="not empty"):
        create_key(tmp_path / "key", "")
    with pytest.raises(KeystoreError, match="cannot be written"):
        create_key(Path("/proc/none/key"), "p", secret=SECRET)
    assert not list(tmp_path.iterdir())


def test_what_is_no_key_file_is_named(tmp_path: Path, stored: Path) -> None:
    good = json.loads(stored.read_text())
    bad = [
        "",
        "[]",
        "{}",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
        "x" * (keystore.LARGEST_FILE + 1),
        json.dumps(good | {"version": 2}),
        json.dumps(good | {"crypto": None}),
        json.dumps(good | {"crypto": good["crypto"] | {"ciphertext": "zz"}}),
        json.dumps(good | {"crypto": good["crypto"] | {"kdf": "none"}}),
        json.dumps(good | {"crypto": good["crypto"] | {"kdfparams": {}}}),
    ]
    path = tmp_path / "key"
    for content in bad:
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        with pytest.raises(KeystoreError, match="damaged"):
            load_key(path, "sesame")
    with pytest.raises(KeystoreError, match="no key file"):
        load_key(tmp_path / "none", "sesame")
    with pytest.raises(KeystoreError, match="cannot be read"):
        load_key(tmp_path, "sesame")
