"""One home, one process: who holds it, and who is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypercluster.node.cli.client import joining
from hypercluster.node.cli.client.joining import wallet_held
from hypercluster.node.cli.ending import ending_of
from hypercluster.node.home.lock import Hold, HomeInUse, HomeUnusable, held, holder, key_held

HOLDER = """
import sys, time
from pathlib import Path
from hypercluster.node.home.lock import Hold, held, key_held
with held(Path(sys.argv[1]), Hold.NODE, "hc-provider run"), key_held("0xAb", Path(sys.argv[1]), "hc-provider run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(home: Path, temp: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temp)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_f2_a_second_process_is_refused_by_the_name_and_pid_of_the_first(tmp_path: Path) -> None:
    """F2: who holds the home is said, by program and pid."""
    with another_process(tmp_path, tmp_path) as first:
        with (
            pytest.raises(HomeInUse, match=rf"hc-provider run \(pid {first.pid}\) serves with the node key"),
            held(tmp_path, Hold.NODE, "hc-verifier run", patience=0),
        ):
            pass
        now = holder(tmp_path, Hold.NODE)
        assert now is not None
        assert (now.pid, now.program, now.home) == (first.pid, "hc-provider run", str(tmp_path))
        # Spending is another matter than serving.
        with held(tmp_path, Hold.WALLET, "hc-client generate", patience=0):
            pass


def test_f2_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    """F2: kill -9 leaves no obstacle, and nobody is named for what a dead process held."""
    with another_process(tmp_path, tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert holder(tmp_path, Hold.NODE) is None
        with held(tmp_path, Hold.NODE, "hc-provider run", patience=0):
            now = holder(tmp_path, Hold.NODE)
            assert now is not None
            assert now.pid == os.getpid()
    assert holder(tmp_path, Hold.NODE) is None


def test_f2_a_copied_home_does_not_run_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: two homes with one node key on one machine."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        another_process(tmp_path / "one", tmp_path) as first,
        pytest.raises(HomeInUse, match=rf"pid {first.pid}\).*same node key 0xAB in .*one: two nodes"),
        key_held("0xAB", tmp_path / "copy", "hc-provider run"),
    ):
        pass


def test_f1_who_queues_is_told_for_whom_and_goes_on_when_the_other_lets_go(tmp_path: Path) -> None:
    """F1: two that spend from one home take turns."""
    release, order = threading.Event(), []

    def first() -> None:
        with held(tmp_path, Hold.WALLET, "hc-client generate"):
            order.append("first holds")
            started.set()
            release.wait()
            order.append("first lets go")

    started = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    started.wait()
    waited_for = []

    def on_wait(who: object) -> float:
        waited_for.append(who)
        release.set()
        return float("inf")

    with held(tmp_path, Hold.WALLET, "hc-client path", on_wait=on_wait):
        order.append("second holds")
    thread.join()
    assert order == ["first holds", "first lets go", "second holds"]
    assert [who.program for who in waited_for] == ["hc-client generate"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hc-gateway run", "hc-gateway run"),
        ("hc-gateway run", "hc-client generate"),
        ("hc-client generate", "hc up"),
    ],
)
def test_who_comes_beside_a_program_that_goes_on_waits_no_longer_than_that_takes_to_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    first: str,
    second: str,
) -> None:
    monkeypatch.setattr(joining, "BESIDE_SECONDS", 0.2)
    path = tmp_path / "locks" / "wallet.lock"
    with (
        wallet_held(tmp_path, first),
        pytest.raises(
            HomeInUse, match=rf"{first} \(pid {os.getpid()}\) spends .* holds {path}: stop it"
        ) as refused,
        wallet_held(tmp_path, second),
    ):
        pass
    assert f"{first} (pid {os.getpid()}) spends" in capsys.readouterr().err
    assert ending_of(refused.value, second.split()[0]).code == 75
    with wallet_held(tmp_path, second):
        pass


def test_commands_that_end_by_themselves_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "BESIDE_SECONDS", 0.0)
    said, order = threading.Event(), []
    monkeypatch.setattr(joining, "say", lambda *_: said.set())

    def second() -> None:
        with wallet_held(tmp_path, "hc-client close"):
            order.append("second")

    thread = threading.Thread(target=second)
    with wallet_held(tmp_path, "hc-client generate"):
        thread.start()
        said.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_n1_a_home_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """N1: a file where the home should be; /proc stands for what is read-only."""
    file = tmp_path / "file"
    file.write_text("")
    for home in (file, Path("/proc/home")):
        with (
            pytest.raises(HomeUnusable, match=r"cannot be written .*: set HC_HOME to a folder"),
            held(home, Hold.NODE, "hc-provider run"),
        ):
            pass
        assert holder(home, Hold.NODE) is None


def test_looking_at_a_lock_makes_nothing(tmp_path: Path) -> None:
    assert holder(tmp_path / "nowhere", Hold.NODE) is None
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_that_cannot_be_written_keeps_nobody_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with key_held("0xAB", tmp_path, "hc-provider run"):
        pass
