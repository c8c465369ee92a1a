"""The journal says what was signed and spent up to its last whole record, wherever the process or the file ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hypercluster.node.client import journal as module
from hypercluster.node.client.journal import Journal, JournalInUse, Recovered, Spent

CHANNELS = [bytes([n]) * 32 for n in range(3)]
REQUESTS = ["a" * 16, "b" * 16, "c" * 16 + "+audits"]


def deed() -> st.SearchStrategy[tuple[Any, ...]]:
    """One thing that a client does: what, on which channel, for which request, wei."""
    return st.tuples(
        st.sampled_from(["begun", "step", "lost", "covered", "closed"]),
        st.sampled_from(CHANNELS),
        st.sampled_from(REQUESTS),
        st.integers(0, 2**60),
    )


class Books:
    """The same in plain Python: what should be found after each record."""

    def __init__(self) -> None:
        self.signed = dict.fromkeys(CHANNELS, 0)
        self.spent = dict.fromkeys(CHANNELS, 0)
        self.now = Recovered()
        self.after = [Recovered()]

    def do(self, journal: Journal, what: str, channel: bytes, request: str, wei: int) -> None:
        match what:
            case "begun":
                self.now.requests.setdefault(request, {})
                journal.begun(request)
            case "closed":
                self.now.requests.pop(request, None)
                journal.closed(request)
            case "covered":
                self.now.requests.setdefault(request, {}).setdefault(channel, Spent()).covered += wei
                journal.covered(channel, request, wei)
            case _:
                self.signed[channel] = max(self.signed[channel], self.spent[channel] + wei)
                on = self.now.requests.setdefault(request, {}).setdefault(channel, Spent())
                on.signed += wei
                self.now.channels[channel] = self.signed[channel], self.now.channels.get(channel, (0, 0))[1]
                journal.signed(channel, request, wei, self.signed[channel])
                if what == "step":
                    self.keep()
                    self.spent[channel] += wei
                    on.answered += wei
                    self.now.channels[channel] = self.signed[channel], self.spent[channel]
                    journal.answered(channel, request, wei, self.spent[channel])
        self.keep()

    def keep(self) -> None:
        requests = {
            name: {channel: Spent(each.signed, each.answered, each.covered) for channel, each in on.items()}
            for name, on in self.now.requests.items()
        }
        self.after.append(Recovered(dict(self.now.channels), requests))


def fresh(folder: Path) -> Path:
    return folder / os.urandom(6).hex()


@given(st.lists(deed(), max_size=30), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_wherever_the_file_ends_all_whole_records_count(
    tmp_path: Path, deeds: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    file, books = fresh(tmp_path), Books()
    journal = Journal(file)
    journal.begun("kept open")
    books.now.requests["kept open"] = {}
    books.keep()
    for each in deeds:
        books.do(journal, *each)
    journal.close()
    written = file.read_bytes()
    cut = data.draw(st.integers(0, len(written)))
    file.write_bytes(written[:cut])
    journal = Journal(file)
    whole = cut // (len(written) // (len(books.after) - 1))
    assert journal.state == books.after[whole]
    journal.begun("next")
    journal.close()
    journal = Journal(file)
    assert "next" in journal.state.requests, "what follows a torn record is read again"
    journal.close()


@given(st.lists(deed(), min_size=1, max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_file_written_anew_says_the_same(tmp_path: Path, deeds: list[tuple[Any, ...]]) -> None:
    file, books = fresh(tmp_path), Books()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "COMPACT_BYTES", 0)
        journal = Journal(file)
        journal.begun("kept open")
        books.now.requests["kept open"] = {}
        ledger: dict[bytes, tuple[int, int]] = {}
        for each in deeds:
            books.do(journal, *each)
            if each[0] == "closed":  # from then on the ledger knows the channels
                ledger = dict(books.now.channels)
        journal.close()
    journal = Journal(file)
    assert journal.state.requests == books.after[-1].requests
    for channel, (signed, spent) in books.after[-1].channels.items():
        found, known = journal.state.channels.get(channel, (0, 0)), ledger.get(channel, (0, 0))
        assert (max(found[0], known[0]), max(found[1], known[1])) == (signed, spent)
    journal.close()


def test_nothing_is_kept_of_what_the_ledger_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "home" / "j")
    for request in REQUESTS:
        journal.begun(request)
        journal.signed(CHANNELS[0], request, 5, 5)
        journal.answered(CHANNELS[0], request, 5, 5)
    for request in REQUESTS:
        assert (tmp_path / "home" / "j").stat().st_size
        journal.closed(request)
    assert (tmp_path / "home" / "j").stat().st_size == 0
    assert journal.state == Recovered()
    journal.close()


def test_a_record_that_a_full_disk_cut_does_not_hide_those_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j")
    journal.begun(REQUESTS[0])
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: write(fd, data[:50]))
        journal.signed(CHANNELS[0], REQUESTS[0], 5, 5)
    journal.signed(CHANNELS[1], REQUESTS[0], 7, 7)
    journal.close()
    journal = Journal(tmp_path / "j")
    assert journal.state.requests == {REQUESTS[0]: {CHANNELS[1]: Spent(7, 0)}}
    journal.close()


def test_a_broken_record_ends_it_and_a_byte_that_flipped_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "j"
    journal = Journal(file)
    for wei in (1, 2, 3):
        journal.signed(CHANNELS[0], REQUESTS[0], wei, wei)
    journal.close()
    written = bytearray(file.read_bytes())
    written[len(written) // 3 + 40] ^= 1
    file.write_bytes(written)
    journal = Journal(file)
    assert journal.state.requests == {REQUESTS[0]: {CHANNELS[0]: Spent(1, 0)}}
    journal.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(JournalInUse, match="stop it first"):
        Journal(tmp_path / "j")
    journal.close()
    Journal(tmp_path / "j").close()


def test_a_full_disk_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    journal = Journal(tmp_path / "j")
    full = os.open("/dev/full", os.O_RDWR | os.O_APPEND)
    os.dup2(full, journal._file._fd)
    os.close(full)
    journal.signed(CHANNELS[0], REQUESTS[0], 1, 1)
    journal.signed(CHANNELS[0], REQUESTS[0], 1, 2)
    assert len([each for each in caplog.records if "cannot be written" in each.message]) == 1
    journal.closed(REQUESTS[0])
    journal.close()
