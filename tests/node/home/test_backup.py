"""A home in one file and back, and what a home made of an old file may sign."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path

import coincurve
import pytest

from hypercluster.market.errors import Overbilled
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain, channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.home import HomeInUse, keys
from hypercluster.node.home.backup import RETIRED, NoBackup, back_up, restore
from hypercluster.node.home.keys import CLIENT, PROVIDER, Key
from hypercluster.node.home.lock import Hold, held
from hypercluster.node.home.settings import Settings
from tests.node.helpers.providers import FREE

DOMAIN = VoucherDomain("0x" + "11" * 20, 31337)
SESSION = coincurve.PrivateKey(b"\x07" * 32)
A, B = "0x" + "22" * 20, "0x" + "33" * 20


def home_at(folder: Path, wanted: tuple[Key, ...] = CLIENT) -> Settings:
    for key in wanted:
        keys.create(folder, key, "secret", work=2)
    return Settings(home=folder)


def empty(folder: Path) -> Settings:
    return Settings(home=folder)


def test_a_home_comes_back(tmp_path: Path) -> None:
    old, file = home_at(tmp_path / "old"), tmp_path / "home.tar.gz"
    (old.home / "policy.toml").write_text("per_day = 1\n")
    with Ledger(old.home / "ledger.sqlite") as ledger:
        ledger.payer.add(DOMAIN, ChannelDescriptor(A, B, A, bytes(32)), 100)
        # What was committed is in it, though the ledger is in use.
        assert set(back_up(old, file).files) == {
            *("keys/session.json", "keys/wallet.json"),
            *("ledger.sqlite", "policy.toml"),
        }
        ledger.payer.add(DOMAIN, ChannelDescriptor(A, B, A, bytes([1]) * 32), 100)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    new = empty(tmp_path / "new")
    assert not restore(new, file).retired
    assert keys.unlock(new.home, Key.WALLET, "secret").address == keys.address(old.home, Key.WALLET)
    assert stat.S_IMODE((new.home / "keys" / "wallet.json").stat().st_mode) == 0o600
    with Ledger(new.home / "ledger.sqlite") as ledger:
        assert len(ledger.payer.channels()) == 1
    assert (new.home / "policy.toml").read_text() == "per_day = 1\n"
    assert sorted(each.name for each in new.home.iterdir()) == [
        *("keys", "ledger.sqlite", "locks"),
        "policy.toml",
    ]


def test_nothing_is_overwritten_and_no_running_home_filled(tmp_path: Path) -> None:
    old, file = home_at(tmp_path / "old"), tmp_path / "home.tar.gz"
    back_up(old, file)
    with pytest.raises(NoBackup, match="there already"):
        back_up(old, file)
    with pytest.raises(NoBackup, match=r"session.json is there already"):
        restore(old, file)
    with pytest.raises(NoBackup, match="no keys"):
        back_up(empty(tmp_path / "nobody"), tmp_path / "other.tar.gz")
    new = empty(tmp_path / "new")
    with held(new.home, Hold.WALLET, "hc-client chat"), pytest.raises(HomeInUse, match="hc-client chat"):
        restore(new, file)
    assert not (new.home / "keys").exists()


def _archive(file: Path, entries: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo("keys/node.json")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return file


def test_what_is_no_backup(tmp_path: Path) -> None:
    about = json.dumps({"format": 1, "made": "now", "files": ["keys/node.json"]}).encode()
    whole = tmp_path / "whole"
    back_up(home_at(tmp_path / "old"), whole)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-60])
    text = tmp_path / "text"
    text.write_text("no archive")
    for number, file in enumerate(
        (
            tmp_path / "missing",
            cut,
            text,
            _archive(tmp_path / "a", {"backup.json": about, "keys/../../evil": b"x"}),
            _archive(tmp_path / "b", {"backup.json": about}, link="/etc/passwd"),
            _archive(tmp_path / "c", {"backup.json": about}),
            _archive(tmp_path / "d", {"backup.json": b"[]", "keys/node.json": b"{}"}),
            _archive(tmp_path / "e", {"backup.json": about, "keys/node.json": bytes(2**20 + 1)}),
        )
    ):
        new = empty(tmp_path / f"new{number}")
        with pytest.raises(NoBackup):
            restore(new, file)
        assert [each.name for each in new.home.iterdir()] == ["locks"]


def test_a_restored_verifier_never_signs_a_second_pass(tmp_path: Path) -> None:
    """The key that signed passes which the old ledger may lack is not signed with again, unless nothing was since."""
    old, file = home_at(tmp_path / "old", PROVIDER), tmp_path / "home.tar.gz"
    with Ledger(old.home / "ledger.sqlite") as ledger:
        ledger.passed.first(b"q" * 32, b"r" * 32)
    back_up(old, file)
    new = empty(tmp_path / "new")
    assert restore(new, file).retired
    assert not keys.key_file(new.home, Key.NODE).exists()
    assert (new.home / "keys" / RETIRED).exists()
    assert keys.address(new.home, Key.OPERATOR) == keys.address(old.home, Key.OPERATOR)
    assert not restore(empty(tmp_path / "exact"), file, exact=True).retired
    assert keys.address(tmp_path / "exact", Key.NODE) == keys.address(old.home, Key.NODE)


def test_a_restored_client_goes_on_from_its_providers_books(tmp_path: Path) -> None:
    """What it signed after the backup is never signed away again: the provider shows it, and only what it did sign."""
    old, file = home_at(tmp_path / "old"), tmp_path / "home.tar.gz"
    descriptor = ChannelDescriptor(A, B, address_of(SESSION), channel_salt(B, 1))
    channel_id = DOMAIN.channel_id(descriptor)
    with Ledger(old.home / "ledger.sqlite") as ledger:
        ledger.payer.add(DOMAIN, descriptor, 1000)
        ledger.payer.store(channel_id, 10, 10)
        back_up(old, file)
        ledger.payer.store(channel_id, 50, 50)
    new = empty(tmp_path / "new")
    restore(new, file)
    with Ledger(new.home / "ledger.sqlite") as ledger:
        (row,) = ledger.payer.channels()
    account = OutgoingAccount(row.descriptor, channel_id, row.machine(), DOMAIN, SESSION)
    with pytest.raises(Overbilled):
        account.resume(60, 60, DOMAIN.sign(coincurve.PrivateKey(b"\x08" * 32), channel_id, 60))
    account.resume(50, 50, DOMAIN.sign(SESSION, channel_id, 50))
    assert account.authorise(5, FREE)[0] == 55
