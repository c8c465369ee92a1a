"""The ledger keeps what it is told, on both databases, whatever happens to the process."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from hypercluster.market.advert import Advert
from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger import IncomingChannel, Ledger, PriceRow, Role, SessionRecord, SoldAudit
from hypercluster.market.ledger.tables import Base
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.units import UINT96_MAX
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

DOMAIN = VoucherDomain("0x" + "11" * 20, 31337)
PAYER, PAYEE, SIGNER = ("0x" + digits * 20 for digits in ("22", "33", "44"))
MODEL = "ab" * 32


def descriptor(salt: int = 0) -> ChannelDescriptor:
    return ChannelDescriptor(PAYER, PAYEE, SIGNER, salt.to_bytes(32, "big"))


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    with Ledger(database) as opened:
        yield opened


def test_migrations_make_the_tables_the_program_uses(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_second_start_finds_everything(database: str) -> None:
    with Ledger(database) as ledger:
        ledger.payee.adopt(DOMAIN, descriptor(), deposit=UINT96_MAX)
    with Ledger(database) as ledger:
        (channel,) = ledger.payee.channels()
    assert channel.deposit == UINT96_MAX
    assert channel.descriptor == descriptor()
    assert channel.channel_id == DOMAIN.channel_id(descriptor())


def test_many_starts_at_once_migrate_once(database: str) -> None:
    def start(salt: int) -> None:
        with Ledger(database) as ledger:
            ledger.payee.adopt(DOMAIN, descriptor(salt), deposit=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(8)))
    with Ledger(database) as ledger:
        assert len(ledger.payee.channels()) == 8


def test_a_ledger_of_a_newer_version_is_left_alone(database: str) -> None:
    with Ledger(database) as ledger, ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'f00d'"))
    with pytest.raises(
        LedgerError, match=r"newer version .*version f00d, .* knows them up to \d{4}\): use the newer"
    ):
        Ledger(database)


@pytest.mark.parametrize("kept", [0, 20_000])
def test_a_ledger_that_was_cut_short_is_refused_with_what_to_do(tmp_path: Path, kept: int) -> None:
    """What was paid is not forgotten in silence."""
    file = tmp_path / "ledger.sqlite"
    with Ledger(file) as ledger:
        ledger.payee.adopt(DOMAIN, descriptor(), deposit=1)
    os.truncate(file, kept)
    os.utime(file, (1, 1))
    with pytest.raises(LedgerError, match="restore it from a backup"), Ledger(file) as ledger:
        ledger.payee.channels()
    assert file.stat().st_size == kept


def test_what_is_no_database_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is not a database, but it is long enough to be taken for one" * 9)
    for url in ("nonsense", f"sqlite:///{tmp_path}/file", "sqlite:////proc/none/x.db", "oracle://x/y"):
        with pytest.raises(LedgerError) as refusal:
            Ledger(url)
        assert "\n" not in str(refusal.value)


amounts = st.integers(0, UINT96_MAX) | st.integers(2**63 - 2, 2**63 + 2) | st.integers(0, 20)


@given(st.lists(st.tuples(amounts, amounts), min_size=1, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_the_best_voucher_stays_whatever_the_order(ledger: Ledger, vouchers: list[tuple[int, int]]) -> None:
    salt = int.from_bytes(os.urandom(25))
    channel_id = ledger.payee.adopt(DOMAIN, descriptor(salt), deposit=UINT96_MAX).channel_id
    best, billed, signature = 0, 0, b""
    for cumulative, total in vouchers:
        proof = os.urandom(64)
        ledger.payee.store_voucher(channel_id, cumulative, proof, total)
        if cumulative >= best:
            best, billed, signature = cumulative, total, proof
        row = ledger.payee.channel(channel_id)
        assert row is not None
        assert (row.best, row.billed, row.signature) == (best, billed, signature)


def test_amounts_order_as_numbers(ledger: Ledger) -> None:
    values = [0, 9, 10, 2**53 + 1, 2**63, 10**28, UINT96_MAX]
    for salt, value in enumerate(random.sample(values, len(values))):
        ledger.payee.adopt(DOMAIN, descriptor(salt), deposit=value)
    column = IncomingChannel.__table__.c.deposit
    with ledger.engine.connect() as connection:
        assert list(connection.scalars(select(column).order_by(column))) == values


def test_vouchers_of_many_threads(ledger: Ledger) -> None:
    channel_id = ledger.payee.adopt(DOMAIN, descriptor(), deposit=1000).channel_id
    order = random.sample(range(1, 201), 200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: ledger.payee.store_voucher(channel_id, n, n.to_bytes(64, "big"), n), order))
    row = ledger.payee.channel(channel_id)
    assert row is not None
    assert (row.best, row.billed, int.from_bytes(row.signature, "big")) == (200, 200, 200)


def test_vouchers_of_unknown_channels_are_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="adopt"):
        ledger.payee.store_voucher(b"\1" * 32, 1, b"", 1)
    with pytest.raises(LedgerError, match="add it"):
        ledger.payer.store(b"\1" * 32, 1, 1)
    assert ledger.payee.channel(b"\1" * 32) is None


def test_vouchers_stored_together_are_all_kept_or_none(ledger: Ledger) -> None:
    ids = [ledger.payee.adopt(DOMAIN, descriptor(salt), deposit=100).channel_id for salt in range(3)]
    ledger.payee.store_voucher(ids[2], 9, b"\x09" * 64, 9)
    ledger.payee.store_vouchers([(each, n, bytes([n]) * 64, n) for n, each in enumerate(ids, 1)])
    assert {row.channel_id: row.best for row in ledger.payee.channels()} == {ids[0]: 1, ids[1]: 2, ids[2]: 9}
    with pytest.raises(LedgerError, match="adopt"):
        ledger.payee.store_vouchers([(ids[0], 50, b"\5" * 64, 50), (b"\1" * 32, 1, b"\1" * 64, 1)])
    row = ledger.payee.channel(ids[0])
    assert row is not None
    assert row.best == 1


def test_adopting_again_keeps_the_voucher_and_takes_the_chains_view(ledger: Ledger) -> None:
    channel_id = ledger.payee.adopt(DOMAIN, descriptor(), deposit=100).channel_id
    ledger.payee.store_voucher(channel_id, 50, b"\5" * 64, 45)
    row = ledger.payee.adopt(DOMAIN, descriptor(), deposit=200, settled=20, close_at=7)
    assert (row.deposit, row.settled, row.close_at, row.best, row.billed) == (200, 20, 7, 50, 45)
    assert row.unclaimed == 30
    machine = row.machine()
    assert (machine.deposit, machine.close_at, machine.best, machine.billed) == (200, 7, 50, 45)
    assert machine.channel_id == channel_id


def test_a_lost_ledger_counts_what_was_settled_as_billed(ledger: Ledger) -> None:
    row = ledger.payee.adopt(DOMAIN, descriptor(), deposit=100, settled=30)
    assert (row.best, row.billed, row.unclaimed) == (30, 30, 0)


def test_channels_are_found_by_contract_and_state(ledger: Ledger) -> None:
    other = VoucherDomain(DOMAIN.contract, 1)
    first = ledger.payee.adopt(DOMAIN, descriptor(1), deposit=5).channel_id
    ledger.payee.adopt(DOMAIN, descriptor(2), deposit=5)
    ledger.payee.adopt(other, descriptor(1), deposit=5)
    ledger.payee.note(first, settled=4, ended=True)
    ledger.payee.note(b"\0" * 32, settled=4)
    assert len(ledger.payee.channels()) == 3
    assert len(ledger.payee.channels(DOMAIN)) == 2
    assert [row.salt[-1] for row in ledger.payee.channels(DOMAIN, ended=False)] == [2]


def test_the_payer_never_forgets_what_it_signed(ledger: Ledger) -> None:
    channel_id = ledger.payer.add(DOMAIN, descriptor(), 100).channel_id
    ledger.payer.store(channel_id, 40, 30)
    ledger.payer.store(channel_id, 35, 25)
    ledger.payer.note(channel_id, deposit=200, close_at=9)
    (row,) = ledger.payer.channels(DOMAIN, payee=PAYEE, ended=False)
    assert (row.signed, row.spent, row.deposit, row.close_at) == (40, 25, 200, 9)
    assert row.machine() == PayerChannel(deposit=200, signed=40, spent=25)
    assert ledger.payer.channels(payee=SIGNER) == []
    assert ledger.payer.channel(channel_id) is not None


def advert(sequence: int, **changes: object) -> Advert:
    values: dict[str, object] = {
        "peer": "16Uiu2",
        "model_id": MODEL,
        "layer_start": 0,
        "layer_stop": 4,
        "price_wei": 7,
        "prompt_price_wei": 2,
        "cost_ms": 1.5,
        "prompt_ms": 0.5,
        "operator": PAYEE,
        "capacity": 4,
        "free": 4,
        "session_tokens": 512,
        "max_top_k": 64,
        "sequence": sequence,
        "issued": 100,
        "expires": 200,
        "width": 64,
        **changes,
    }
    return Advert(**values)  # type: ignore[arg-type]


def test_sessions_and_prices_come_back_newest_first_and_are_pruned(ledger: Ledger) -> None:
    history, start = ledger.history, datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        record = SessionRecord(
            session_id=bytes([number] * 16),
            peer="16Uiu2",
            layer_start=0,
            layer_stop=4,
            role=Role.PROVIDER if number else Role.CLIENT,
            model_id=MODEL,
            channel_id=b"\1" * 32,
            price_wei=UINT96_MAX,
            prompt_price_wei=1,
            started=start + timedelta(hours=number),
        )
        history.save_session(record)
        record.tokens, record.ended = 5, start + timedelta(hours=number, minutes=1)
        history.save_session(record)
        history.save_price(
            PriceRow(
                model_id=MODEL,
                layer_start=0,
                layer_stop=4,
                price_before=number,
                price_after=number + 1,
                gradient=0.5,
                probability=0.25,
                inputs={"rivals": [{"price": 3}]},
                taken=start + timedelta(hours=number),
            )
        )
    sessions = history.sessions()
    assert [row.session_id[0] for row in sessions] == [2, 1, 0]
    assert sessions[0].tokens == 5
    assert sessions[0].started == start + timedelta(hours=2)
    assert [row.session_id[0] for row in history.sessions(role=Role.PROVIDER, limit=1)] == [2]
    assert [row.price_before for row in history.prices(MODEL, limit=2)] == [2, 1]
    assert history.prices(MODEL)[0].inputs == {"rivals": [{"price": 3}]}
    assert history.prune(start + timedelta(hours=2)) == 4
    assert len(history.sessions()) == len(history.prices(MODEL)) == 1


def test_what_was_served_is_added_up_by_the_day_on_which_it_ended(ledger: Ledger) -> None:
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    for number, (role, ended, billed) in enumerate(
        [
            (Role.PROVIDER, midnight - timedelta(microseconds=1), UINT96_MAX // 2),
            (Role.PROVIDER, midnight, UINT96_MAX // 3),
            (Role.PROVIDER, midnight + timedelta(hours=23), UINT96_MAX // 3 - 7),
            (Role.CLIENT, midnight + timedelta(hours=1), 10**20),
            (Role.PROVIDER, None, 1),
            (Role.PROVIDER, midnight - timedelta(days=40), 5),
        ]
    ):
        record = SessionRecord(
            session_id=bytes([number] * 16),
            peer="16Uiu2",
            layer_start=0,
            layer_stop=4,
            role=role,
            model_id=MODEL,
            channel_id=b"\1" * 32,
            price_wei=1,
            prompt_price_wei=1,
            tokens=2,
            prompt_tokens=3,
            billed=billed,
            ended=ended,
        )
        ledger.history.save_session(record)
    days = ledger.history.earned_by_day(midnight - timedelta(days=7))
    assert [(day.day, day.sessions, day.tokens, day.prompt_tokens, day.billed) for day in days] == [
        ("2026-02-28", 1, 2, 3, UINT96_MAX // 2),
        ("2026-03-01", 2, 4, 6, UINT96_MAX // 3 * 2 - 7),
    ]
    assert ledger.history.earned_by_day(midnight + timedelta(days=1)) == []
    before = ledger.history.sessions(before=datetime(2020, 1, 1, tzinfo=UTC))
    assert before == []


def test_audits_sold_are_counted_to_the_wei_and_pruned(ledger: Ledger) -> None:
    assert ledger.trust.sold() == (0, 0)
    for number in range(3):
        ledger.trust.save_sale(
            SoldAudit(
                model_id=MODEL,
                layer_start=0,
                layer_stop=4,
                channel_id=b"\1" * 32,
                tokens=number,
                finding="pass",
                median_error=None,
                max_error=1e-9,
                agreement=1.0,
                exact=True,
                paid=UINT96_MAX // 4,
                seconds=0.5,
                at=datetime(2026, 1, 1 + number, tzinfo=UTC),
            )
        )
    assert ledger.trust.sold() == (3, UINT96_MAX // 4 * 3)
    newest = ledger.trust.sales(limit=2)
    assert [sale.tokens for sale in newest] == [2, 1]
    assert [sale.tokens for sale in ledger.trust.sales(before=newest[-1].sale_id)] == [0]
    ledger.prune(datetime(2026, 1, 2, tzinfo=UTC))
    assert ledger.trust.sold()[0] == 2


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger, ledger.engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA synchronous")) == 2
        assert connection.scalar(text("PRAGMA busy_timeout")) == 10_000


def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        channel_id = ledger.payee.adopt(DOMAIN, descriptor(), deposit=5).channel_id
        other = sqlite3.connect(tmp_path / "l.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, other.execute, ["COMMIT"])
        timer.start()
        ledger.payee.store_voucher(channel_id, 5, b"\1" * 64, 5)
        ledger.payee.note(channel_id, settled=5)
        timer.join()
        other.close()


def test_a_database_in_trouble_is_one_sentence(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db") as ledger:
        channel_id = ledger.payee.adopt(DOMAIN, descriptor(), deposit=5).channel_id
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE channels_in RENAME TO elsewhere")
        # A voucher goes into the journal first, which is in no trouble.
        ledger.payee.store_voucher(channel_id, 5, b"\1" * 64, 5)
        for attempt in (
            ledger.payee.feed,
            ledger.payee.channels,
            lambda: ledger.payee.note(channel_id, settled=5),
        ):
            with pytest.raises(
                LedgerError, match=r"database .*/l\.db gave up: no such table: channels_in\.$"
            ):
                attempt()


CHILD = """
import sys
from hypercluster.market.ledger import Ledger
ledger = Ledger(sys.argv[1])
channels = [row.channel_id for row in ledger.payee.channels()]
amount = max(row.best for row in ledger.payee.channels())
while True:
    amount += 1
    for number, channel in enumerate(channels):
        ledger.payee.store_voucher(channel, amount, amount.to_bytes(64, "big"), amount)
        print(number, amount, flush=True)
"""


@pytest.mark.slow
def test_whatever_was_acknowledged_survives_kill_9(database: str) -> None:
    """Kill a provider's writer at random moments, over and over, on one growing file."""
    with Ledger(database) as ledger:
        for salt in range(3):
            ledger.payee.adopt(DOMAIN, descriptor(salt), deposit=UINT96_MAX)
    total = 0
    for _ in range(12):
        acknowledged: dict[int, int] = {}
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, database], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            number, amount = child.stdout.readline().split()  # it has started
            acknowledged[int(number)] = int(amount)
            threading.Timer(random.uniform(0, 0.15), child.send_signal, [signal.SIGKILL]).start()
            for line in child.stdout:
                if line.endswith("\n"):
                    number, amount = line.split()
                    acknowledged[int(number)] = int(amount)
                    total += 1
        assert child.returncode == -signal.SIGKILL
        with Ledger(database) as ledger:
            rows = ledger.payee.channels()
        for salt, stored in enumerate(rows):
            assert stored.best >= acknowledged.get(salt, 0)
            assert stored.best == stored.billed == int.from_bytes(stored.signature, "big")
    assert total
