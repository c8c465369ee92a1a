"""A home in one file and back, and what a home made of an old file may sign."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import coincurve
import pytest

from hypercluster.market.errors import Overbilled
from hypercluster.market.ledger import Ledger, RequestRow
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain, channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.journal import Journal
from hypercluster.node.client.recovery import Recovery, recover
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home import HomeInUse, keys
from hypercluster.node.home.backup import RETIRED, NoBackup, back_up, restore
from hypercluster.node.home.keys import CLIENT, PROVIDER, Key
from hypercluster.node.home.lock import Hold, held
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.providers import FREE
from tests.node.helpers.stages import served, stage_record

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


def test_what_was_signed_and_can_be_asked_for_comes_back(tmp_path: Path) -> None:
    """Transcripts with their age, evidence of cases, vouchers under way, calibration: without them a restored provider
    loses demands, a verifier cases, and a client what it had signed for.
    """
    old, file = home_at(tmp_path / "old", (*PROVIDER, *CLIENT)), tmp_path / "home.tar.gz"
    stage, model = "ab" * 32, "cd" * 32
    long_ago = int(time.time()) - 5000
    kept = {
        f"transcripts/provider/{stage}.transcript": os.urandom(70_000),
        f"transcripts/client/{stage}.transcript": b"client's",
        f"evidence/{stage}.transcript": b"evidence",
        f"models/{model}/bounds.json": b"{}",
        "vouchers.journal": b"journal",
    }
    left_out = (f"transcripts/client/{stage}.part", f"models/{model}/layers-0000-0004.gguf", "peers.json")
    for name, data in {**kept, **dict.fromkeys(left_out, b"no")}.items():
        path = old.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (long_ago, long_ago))
    made = back_up(old, file)
    assert made.transcripts == 3
    assert made.bytes >= sum(map(len, kept.values()))
    assert {f"models/{model}/bounds.json", "vouchers.journal"} <= set(made.files)
    new = empty(tmp_path / "new")
    assert replace(restore(new, file), made=made.made) == made
    for name, data in kept.items():
        assert (new.home / name).read_bytes() == data
        assert stat.S_IMODE((new.home / name).stat().st_mode) == 0o600
        assert stat.S_IMODE((new.home / name).parent.stat().st_mode) == 0o700
    assert [int(path.stat().st_mtime) for path in new.home.rglob("*.transcript")] == [long_ago] * 3
    assert not any((new.home / name).exists() for name in left_out)
    light = back_up(old, tmp_path / "light.tar.gz", transcripts=False)
    assert light.transcripts == 0
    assert light.files == made.files


def test_transcripts_are_those_that_a_store_reads(tmp_path: Path, stored_tiny: StoredModel) -> None:
    """A restored provider shows the rows that were demanded of the one that it is a copy of."""
    old, file = home_at(tmp_path / "old", PROVIDER), tmp_path / "home.tar.gz"
    transcript = served(stored_tiny, 0, 2, range(9))
    store_in(old.home).keep(transcript)
    with store_in(old.home).begin(stage_record(stored_tiny, 0, 2)) as growing:
        growing.append(transcript.steps[0])
        back_up(old, file)
        growing.append(transcript.steps[1])
    new = empty(tmp_path / "new")
    restore(new, file)
    assert store_in(new.home).load(transcript.record.stage.struct_hash()) == transcript
    assert len(store_in(new.home).load(growing.stage_hash).steps) == 1


def store_in(home: Path) -> TranscriptStore:
    return TranscriptStore(home / "transcripts" / "provider", keep_seconds=3600, max_bytes=2**24)


def test_a_voucher_that_only_the_journal_knew_counts_after_a_restore(tmp_path: Path) -> None:
    """A client is backed up in the middle of a request: the copy is what a kill at that moment leaves."""
    old, file = home_at(tmp_path / "old"), tmp_path / "home.tar.gz"
    descriptor = ChannelDescriptor(A, B, address_of(SESSION), channel_salt(B, 1))
    channel_id = DOMAIN.channel_id(descriptor)
    journal = Journal(old.home / "vouchers.journal")
    with Ledger(old.home / "ledger.sqlite") as ledger:
        ledger.payer.add(DOMAIN, descriptor, 1000)
        ledger.requests.add(RequestRow(request_id="aa", endpoint="cli", model_id="m"))
        journal.begun("aa")
        journal.signed(channel_id, "aa", 30, 30)
        back_up(old, file)
    journal.close()
    new = empty(tmp_path / "new")
    restore(new, file)
    copied = Journal(new.home / "vouchers.journal")
    with Ledger(new.home / "ledger.sqlite") as ledger:
        assert recover(ledger, copied) == Recovery(1, 0, 30)
        row = ledger.payer.channel(channel_id)
    copied.close()
    assert row is not None
    assert row.signed == 30


def test_a_backup_of_the_first_format_is_restored(tmp_path: Path) -> None:
    key = home_at(tmp_path / "old").home / "keys" / "wallet.json"
    about = json.dumps({"format": 1, "made": "then", "files": ["keys/wallet.json"]}).encode()
    file = _archive(tmp_path / "file", {"backup.json": about, "keys/wallet.json": key.read_bytes()})
    new = empty(tmp_path / "new")
    assert restore(new, file).files == ("keys/wallet.json",)
    assert (new.home / "keys" / "wallet.json").read_bytes() == key.read_bytes()


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
            _archive(tmp_path / "f", {"backup.json": about, "transcripts/client/../../x.transcript": b"x"}),
            _archive(
                tmp_path / "g", {"backup.json": about, f"transcripts/other/{'a' * 64}.transcript": b"x"}
            ),
            _archive(
                tmp_path / "h", {"backup.json": about, f"models/{'a' * 64}/bounds.json": bytes(2**20 + 1)}
            ),
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
