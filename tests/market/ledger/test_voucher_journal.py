"""Vouchers that the tables do not have yet: whoever reads the ledger sees them, wherever the process ended."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercluster.market.ledger import Ledger
from hypercluster.market.ledger import voucher_journal as module
from hypercluster.market.ledger.voucher_journal import SUFFIX, StoredVoucher, VoucherJournal
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

DOMAIN = VoucherDomain("0x" + "11" * 20, 31337)
PAYER, PAYEE, SIGNER = ("0x" + digits * 20 for digits in ("22", "33", "44"))
CHANNELS = [bytes([n]) * 32 for n in range(3)]


def adopted(ledger: Ledger, salt: int = 0) -> bytes:
    descriptor = ChannelDescriptor(PAYER, PAYEE, SIGNER, salt.to_bytes(32, "big"))
    return ledger.payee.adopt(DOMAIN, descriptor, deposit=10_000).channel_id


def books(ledger: Ledger, channel_id: bytes) -> tuple[int, int, bytes]:
    row = ledger.payee.channel(channel_id)
    assert row is not None
    (listed,) = (each for each in ledger.payee.channels() if each.channel_id == channel_id)
    assert (listed.best, listed.billed, listed.signature) == (row.best, row.billed, row.signature)
    return row.best, row.billed, row.signature


def in_tables(file: Path, channel_id: bytes) -> int:
    """The best voucher that a stranger's SQL finds."""
    with closing(sqlite3.connect(file)) as database:
        found = database.execute("SELECT best FROM channels_in WHERE channel_id = ?", [channel_id])
        return int(found.fetchone()[0])


def vouchers() -> st.SearchStrategy[list[StoredVoucher]]:
    wei = st.integers(0, 2**96 - 1)
    signature = st.one_of(st.just(b""), st.binary(min_size=64, max_size=64).filter(any))
    return st.lists(st.tuples(st.sampled_from(CHANNELS), wei, signature, wei), max_size=30)


@given(vouchers(), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_wherever_the_file_ends_the_best_of_all_whole_records_count(
    tmp_path: Path, given_: list[StoredVoucher], data: st.DataObject
) -> None:
    file = tmp_path / os.urandom(6).hex()
    journal = VoucherJournal(file)
    for each in given_:
        assert journal.keep([each])
    journal.close()
    written = file.read_bytes() if file.exists() else b""
    cut = data.draw(st.integers(0, len(written)))
    file.write_bytes(written[:cut])
    whole = given_[: cut * len(given_) // len(written)] if written else []
    expected: dict[bytes, StoredVoucher] = {}
    for each in whole:
        if each[1] >= expected.get(each[0], each)[1]:
            expected[each[0]] = each
    reader, journal = VoucherJournal(file), VoucherJournal(file)
    assert reader.held() == expected
    assert {each[0]: each for each in journal.to_feed()} == expected
    late = CHANNELS[0], 2**96 - 1, b"\1" * 64, 7
    assert journal.keep([late]), "what follows a torn record is read again"
    assert reader.held()[CHANNELS[0]] == journal.held()[CHANNELS[0]] == late
    journal.close()


def test_readers_see_what_the_tables_do_not_have_yet(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with Ledger(file) as ledger, Ledger(file) as other:
        first, second = adopted(ledger), adopted(ledger, 1)
        ledger.payee.store_vouchers([(first, 5, b"\5" * 64, 4), (second, 9, b"\7" * 64, 9)])
        ledger.payee.store_voucher(first, 8, b"\6" * 64, 8)
        assert in_tables(file, first) == 0
        assert books(ledger, first) == books(other, first) == (8, 8, b"\6" * 64)
        assert ledger.payee.waiting
        ledger.payee.feed()
        assert not ledger.payee.waiting
        assert (in_tables(file, first), in_tables(file, second)) == (8, 9)
        assert (tmp_path / f"ledger.sqlite{SUFFIX}").stat().st_size == 0
        assert books(ledger, first) == books(other, first) == (8, 8, b"\6" * 64)
        ledger.payee.store_voucher(second, 11, b"\1" * 64, 11)
    assert in_tables(file, second) == 11, "who closes a ledger leaves nothing in the journal"


def test_what_was_billed_counts_as_it_was_told_last(tmp_path: Path) -> None:
    """A step that was taken back is billed no more, and steps that one voucher pays for are."""
    file = tmp_path / "ledger.sqlite"
    with Ledger(file) as ledger, Ledger(file) as other:
        channel_id = adopted(ledger)
        ledger.payee.store_voucher(channel_id, 8, b"\6" * 64, 8)
        ledger.payee.store_voucher(channel_id, 8, b"\6" * 64, 5)
        assert books(other, channel_id)[:2] == (8, 5)
        ledger.payee.feed()
        for billed in (6, 7):
            ledger.payee.note_billed((channel_id, 8, b"\6" * 64, billed))
            assert books(other, channel_id)[:2] == (8, billed)


def test_two_writers_lose_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "ledger.sqlite"
    with Ledger(file) as ledger, Ledger(file) as other:
        channel_id = adopted(ledger)
        ledger.payee.store_voucher(channel_id, 5, b"\5" * 64, 5)
        other.payee.store_voucher(channel_id, 7, b"\7" * 64, 7)
        assert in_tables(file, channel_id) == 7
        assert "one by one" in caplog.text
        assert books(ledger, channel_id) == books(other, channel_id) == (7, 7, b"\7" * 64)
        ledger.payee.feed()
        assert books(other, channel_id) == (7, 7, b"\7" * 64)


def test_a_full_disk_sends_them_into_the_tables(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    file = tmp_path / "ledger.sqlite"
    with Ledger(file) as ledger:
        channel_id = adopted(ledger)
        ledger.payee.store_voucher(channel_id, 5, b"\5" * 64, 5)
        journal = ledger.payee._journal
        assert journal is not None
        assert journal._file is not None
        full = os.open("/dev/full", os.O_RDWR | os.O_APPEND)
        os.dup2(full, journal._file._fd)
        os.close(full)
        ledger.payee.store_voucher(channel_id, 6, b"\6" * 64, 6)
        assert in_tables(file, channel_id) == 6
    with Ledger(file) as ledger:
        assert books(ledger, channel_id) == (6, 6, b"\6" * 64)


def test_a_long_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 1000)
    journal = VoucherJournal(tmp_path / "j")
    for wei in range(20):
        journal.keep([(CHANNELS[0], wei, b"\1" * 64, wei)])
    before = journal.to_feed()
    journal.keep([(CHANNELS[0], 99, b"\2" * 64, 99), (CHANNELS[1], 1, b"\3" * 64, 1)])
    size = (tmp_path / "j").stat().st_size
    journal.fed(before)
    assert (tmp_path / "j").stat().st_size < size
    journal.keep([(CHANNELS[1], 2, b"\4" * 64, 2)])
    journal.close()
    held = VoucherJournal(tmp_path / "j").held()
    assert {each: voucher[1] for each, voucher in held.items()} == {CHANNELS[0]: 99, CHANNELS[1]: 2}
