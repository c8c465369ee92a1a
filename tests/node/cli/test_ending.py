"""However a command ends, it is a sentence and an exit code, and with --json one document."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import trio
import typer

from hypercluster.market.errors import MarketError
from hypercluster.node.cli.console import Failed
from hypercluster.node.cli.ending import ending_of
from hypercluster.node.cli.program import run, start_logging
from hypercluster.node.home.settings import Settings
from tests.node.cli.test_values import commands

BIN = Path(sys.executable).parent
BROKEN = """
import sys
from hypercluster.node.cli.program import application, run
app = application("A program with a bug.")
@app.command()
def one() -> None: {}["missing"]
@app.command()
def two() -> None:
    def deep(n: int) -> None: raise BaseExceptionGroup("many", [ValueError("x" * 50) for _ in range(40)])
    deep(1)
sys.argv[1:] = sys.argv[2:]
run(app, "hc-broken")
"""


def start(
    command: str, home: Path, *, settings: dict[str, str] | None = None, **how: Any
) -> subprocess.Popen[bytes]:
    """A command as a process of its own, in a home and with nothing else set."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
    program, *words = command.split()
    how = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": "/",
        **how,
    }
    return subprocess.Popen(
        [BIN / program, *words], env={**clean, "HC_HOME": str(home), **(settings or {})}, **how
    )


def end(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def sentence(command: str, home: Path, *, code: int = 1, **how: Any) -> str:
    """The error of a command that fails as it should."""
    ended, _, err = end(start(command, home, **how))
    assert ended == code, err
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(".")
    return lines[0]


def test_n1_the_home_is_a_file(tmp_path: Path) -> None:
    """N1: a home that cannot be one."""
    (tmp_path / "file").write_text("")
    (tmp_path / "password").write_text("secret\n")
    settings = {"HC_PASSWORD_FILE": str(tmp_path / "password")}
    assert "file" in sentence("hc-client init", tmp_path / "file", settings=settings)
    assert "file" in sentence("hc-client reputation", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("command", ["hc-client init", "hc-client reputation", "hc-provider prices"])
def test_n1_another_users_home(tmp_path: Path, command: str) -> None:
    """N1: what belongs to somebody else is said so."""
    (tmp_path / "password").write_text("secret\n")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(0o755)
    settings = {"HC_PASSWORD_FILE": str(tmp_path / "password")}
    nobody = pwd.getpwnam("nobody").pw_uid
    assert "ermission denied" in sentence(command, locked / "home", settings=settings, user=nobody)


@pytest.mark.parametrize("command", ["hc-client init", "hc-client reputation"])
def test_n1_a_full_disk(tmp_path: Path, command: str) -> None:
    """N1: nothing can be written any more; here a limit of the process plays the full disk."""
    (tmp_path / "password").write_text("secret\n")
    settings = {"HC_PASSWORD_FILE": str(tmp_path / "password")}

    def nothing_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    sentence(command, tmp_path, settings=settings, preexec_fn=nothing_more)


@pytest.mark.parametrize("command", ["hc-client --version", "hc-client --help", "hc-client audits --json"])
def test_n1_standard_output_is_full(tmp_path: Path, command: str) -> None:
    """N1: /dev/full takes nothing."""
    with Path("/dev/full").open("wb") as full:
        told = sentence(command, tmp_path, stdout=full)
    assert "the output cannot be written: No space left on device" in told


@pytest.mark.parametrize("command", ["hc-client --version", "hc-client --help", "hc-client audits --json"])
def test_n1_nobody_reads_on(tmp_path: Path, command: str) -> None:
    """N1: as with `| head -1`."""
    ours, theirs = os.pipe()
    os.close(ours)
    code, _, err = end(start(command, tmp_path, stdout=theirs))
    os.close(theirs)
    assert (code, err) == (141, "")


def test_n1_standard_streams_are_closed(tmp_path: Path) -> None:
    """N1: no terminal, no streams at all; the ledger does not become standard output."""

    def close_all() -> None:
        for number in range(3):
            os.close(number)

    process = start("hc-client audits", tmp_path, stdin=None, stdout=None, stderr=None, preexec_fn=close_all)
    assert end(process)[0] == 0
    assert (tmp_path / "ledger.sqlite").read_bytes()[:15] == b"SQLite format 3"
    assert "HC_PASSWORD_FILE" in sentence("hc-client init", tmp_path, preexec_fn=lambda: os.close(0))


def test_n1_ctrl_c_while_a_module_in_c_begins(tmp_path: Path) -> None:
    """N1: what Cython runs as a module begins swallows whatever is raised in it, an interruption too."""
    script = (
        "import abc, os, signal; from hypercluster.node.cli.start import program\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "register = abc.ABCMeta.register\n"
        "def interrupted(self, kind):\n"
        "    if kind.__module__ == 'numpy.random._generator': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return register(self, kind)\n"
        "abc.ABCMeta.register = interrupted\n"
        "program('hypercluster.node.cli.market.app')()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "simulate", "--ticks", "10"],
        capture_output=True,
        env={**os.environ, "HC_HOME": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_n1_ctrl_c_while_a_command_is_loading(tmp_path: Path, delay: float) -> None:
    """N1: from our first line on, Ctrl-C ends a command without a word."""
    script = (
        "import os; from hypercluster.node.cli.start import program; os.write(1, b'!')\n"
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "program('hypercluster.node.cli.market.app')()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "simulate", "--ticks", "10000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HC_HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"!"
    time.sleep(delay + 0.02)
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert (code, err) == (130, "")


@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"COLUMNS": "20"},
        {"COLUMNS": "0", "TERM": "dumb"},
        {"NO_COLOR": "1", "TERMINAL_WIDTH": "wide"},
        {"FORCE_COLOR": "1", "COLUMNS": "5"},
    ],
    ids=str,
)
def test_n1_terminals_of_all_kinds(tmp_path: Path, settings: dict[str, str]) -> None:
    """N1: neither an encoding nor a width ends a command otherwise."""
    code, out, err = end(start("hc-client --help", tmp_path, settings=settings))
    assert (code, err) == (0, "")
    assert "generate" in out
    assert "…" not in out
    code, out, err = end(start("hc-client reputation é→ --json", tmp_path, settings=settings))
    assert code in (1, 2)  # 2 where Python is told to take the name for something else than UTF-8
    assert "error" in json.loads(out)
    assert len(err.splitlines()) == 1
    assert "\x1b" not in err or "FORCE_COLOR" in settings


@pytest.mark.parametrize("command", ["one", "two"])
def test_d1_a_bug_is_one_sentence(tmp_path: Path, command: str) -> None:
    """D1: what nobody foresaw is no page of traces, unless it is asked for."""

    def broken(**settings: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", BROKEN, "hc", command],
            env={**os.environ, "HC_HOME": str(tmp_path), **settings},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    code, err = broken()
    assert code == 70
    assert len(err.splitlines()) == 1
    assert "this is a bug in hc-broken" in err
    assert "HC_LOG_LEVEL=debug" in err
    code, err = broken(HC_LOG_LEVEL="debug")
    assert code == 70
    assert "Traceback" in err


def test_d1_what_a_nursery_wraps_is_the_sentence_alone() -> None:
    """D1: a command that fails within trio's nurseries."""

    async def failing() -> None:
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(trio.sleep_forever)
            inner.start_soon(trio.lowlevel.checkpoint)
            raise Failed("the prompt has no tokens.")

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(failing)
    ending = ending_of(caught.value, "hc")
    assert (ending.code, ending.sentence) == (1, "the prompt has no tokens.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
        (typer.Exit(1), 1),
        (SystemExit(3), 3),
        (SystemExit("text"), 1),
        (BrokenPipeError(32, "Broken pipe"), 141),
        (MarketError("No."), 1),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (MemoryError(), 1),
        (BaseExceptionGroup("", [ValueError("x"), KeyboardInterrupt()]), 130),
        (ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [MarketError("No.")])]), 1),
        (ValueError("x"), 70),
        (RecursionError(), 70),
    ],
    ids=repr,
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert ending_of(error, "hc").code == code


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of this process as they were."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("command", [name for name, command in commands() if "json_" in str(command.params)])
def test_json_is_one_document_also_when_it_fails(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *names = command.removeprefix("hc-").split()
    app = import_module(f"hypercluster.node.cli.{program}.app").app
    monkeypatch.setattr(sys, "argv", [program, *names, "--no-such-option", "--json"])
    with pytest.raises(SystemExit) as ended:
        run(app, f"hc-{program}")
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)) == {"error"}
    assert json.loads(printed.out)["error"] in printed.err


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize("where", ["environment", "file"])
def test_g1_no_setting_is_empty(
    name: str, value: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: an empty variable is neither the default nor nothing: it is refused by name."""
    monkeypatch.chdir(tmp_path)
    variable = f"HC_{name.upper()}"
    if where == "environment":
        monkeypatch.setenv(variable, value)
    else:
        monkeypatch.delenv(variable, raising=False)
        Path(".env").write_text(f'{variable}="{value}"\n')
    with pytest.raises(Failed, match=f"{variable} is empty"):
        start_logging()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HC_RPC_URL", "localhost:8545"),
        ("HC_RPC_URL", "http://"),
        ("HC_RPC_URL", "http://user:word@127.0.0.1:99999"),
        ("HC_RPC_URL", "http://a..b"),
        ("HC_PAY_AHEAD", "0"),
        ("HC_PAY_AHEAD", "65"),
        ("HC_MDNS", "maybe"),
        ("HC_LOG_LEVEL", "loud"),
        ("HC_HOME", "~nobody-of-this-name/x"),
    ],
)
def test_settings_that_are_none(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Failed, match=variable):
        start_logging()
