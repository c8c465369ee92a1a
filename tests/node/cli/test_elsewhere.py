"""Every option of every program that runs for long: by flag, by variable, by file, in this order."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from pydantic import ValidationError

from hypercluster.market.redaction import hide
from hypercluster.node.cli.elsewhere import RUNS, is_setting, options_of, variable_of
from hypercluster.node.cli.program import Command
from hypercluster.node.home.config import BadConfig
from hypercluster.node.home.logs import JsonFormatter, logged_with
from hypercluster.node.home.settings import Settings

PEER = "/p2p/16Uiu2HAmQ3vZ8WWbJfRBKzdcnQkLq5xUnYrYJ2v4a1XzGkQm7Wq9"
CANDIDATES = (
    "0.25", "17", "3", "1:3", "300", "/ip4/127.0.0.1/tcp/4001", f"/ip4/127.0.0.1/tcp/4001{PEER}", "127.0.0.1:4080",
    "host.example", "https://chat.example", "name", "name=1:3",
)  # fmt: skip


def apps() -> Iterator[tuple[str, Any]]:
    for folder in sorted(Path(import_module("hypercluster.node.cli").__path__[0]).glob("*/app.py")):
        name = folder.parent.name
        app = import_module(f"hypercluster.node.cli.{name}.app").app
        yield "hc" if name in ("hc", "up") else f"hc-{name}", typer.main.get_command(app)


RUNNING = [
    (program, group, command)
    for program, group in apps()
    for name, command in group.commands.items()
    if name in RUNS and isinstance(command, Command)
]
OPTIONS = [
    pytest.param(program, group, command, name, option, id=f"{program} {command.name} --{name}")
    for program, group, command in RUNNING
    for name, option in options_of(command.params)
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HC_CONFIG", str(tmp_path / "none.toml"))  # so that it is taken back at the end
    monkeypatch.delenv("HC_CONFIG")
    monkeypatch.chdir(tmp_path)


def parsed(program: str, group: Any, command: Any, arguments: list[str], told: str = "") -> dict[str, Any]:
    """What the command would be called with; `told` is an option that a file holds."""
    parent = group.make_context(program, [], resilient_parsing=True)
    required = [
        word
        for name, option in options_of(command.params)
        if option.required
        and f"--{name}" not in arguments
        and variable_of(name) not in os.environ
        and name != told
        for word in (f"--{name}", "0:1")
    ]
    return dict(command.make_context(command.name, [*arguments, *required], parent=parent).params)


def sample(program: str, group: Any, command: Any, name: str, option: Any) -> tuple[list[str], str]:
    """The option on a command line, and its value as text, other than its default."""
    if option.is_flag:
        return [f"--{name}"], "true"
    kind = option.type_descriptor.annotation
    literals = get_args(kind) if get_origin(kind) is Literal else ()
    for candidate in (*map(str, literals), *CANDIDATES):
        try:
            value = parsed(program, group, command, [f"--{name}", candidate])[option.name]
        except typer.BadParameter:
            continue
        if value != option.default:
            return [f"--{name}", candidate], candidate
    raise AssertionError(f"no value known for --{name}: add one to CANDIDATES")


def table_of(program: str, command: Any) -> str:
    return str(command.name) if program == "hc" else program.removeprefix("hc-")


def test_programs_that_run_for_long_are_found() -> None:
    assert {"hc-provider", "hc-verifier", "hc-gateway"} <= {program for program, _, _ in RUNNING}


@pytest.mark.parametrize(("program", "group", "command", "name", "option"), OPTIONS)
def test_every_option_is_read_from_flag_variable_and_file(
    program: str,
    group: Any,
    command: Any,
    name: str,
    option: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if is_setting(name):
        return  # every program is told this by Settings
    words, text = sample(program, group, command, name, option)
    by_flag = parsed(program, group, command, words)[option.name]
    default = parsed(program, group, command, [])[option.name] if not option.required else None
    assert by_flag != default or option.is_flag
    monkeypatch.setenv(variable_of(name), text)
    assert parsed(program, group, command, [])[option.name] == by_flag
    monkeypatch.delenv(variable_of(name))
    told = "true" if option.is_flag else json.dumps([text] if option.multiple else text)
    (tmp_path / "hc.toml").write_text(f"[{table_of(program, command)}]\n{name} = {told}\n")
    monkeypatch.setenv("HC_CONFIG", str(tmp_path / "hc.toml"))
    assert parsed(program, group, command, [], name)[option.name] == by_flag


@pytest.fixture
def provider() -> tuple[str, Any, Any]:
    return next(each for each in RUNNING if each[0] == "hc-provider")


def test_flag_comes_before_variable_before_dotenv_before_file(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hc.toml").write_text(
        '[provider]\nsessions = 5\nprice = 2.5\nhttp = ["127.0.0.1:1", "[::1]:2"]\n'
    )
    config = ["--config", str(tmp_path / "hc.toml")]
    assert parsed(*provider, config)["sessions"] == 5
    assert parsed(*provider, config)["asked_price"] == 25 * 10**11
    assert parsed(*provider, config)["http"] == ["127.0.0.1:1", "[::1]:2"]
    (tmp_path / ".env").write_text("HC_SESSIONS=6\n")
    assert parsed(*provider, config)["sessions"] == 6
    monkeypatch.setenv("HC_SESSIONS", "7")
    assert parsed(*provider, config)["sessions"] == 7
    assert parsed(*provider, [*config, "--sessions", "8"])["sessions"] == 8
    monkeypatch.setenv("HC_HTTP", "127.0.0.1:3, 127.0.0.1:4")
    assert parsed(*provider, config)["http"] == ["127.0.0.1:3", "127.0.0.1:4"]


@pytest.mark.parametrize("text", ["false", "0", "no", "off"])
def test_a_switch_can_be_told_off(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HC_FLASH_ATTENTION", text)
    assert parsed(*provider, [])["flash_attention"] is False


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("HC_SESSIONS", "", "HC_SESSIONS is empty"),
        ("HC_LISTEN", " , ", "HC_LISTEN is empty"),
        ("HC_SESSIONS", "x", r"no whole number from 1 to 256 \(it stands in HC_SESSIONS\)"),
        ("HC_FLASH_ATTENTION", "maybe", "it stands in HC_FLASH_ATTENTION"),
        ("HC_LISTEN", "/ip4/127.0.0.1/tcp/1 nonsense", "it stands in HC_LISTEN"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch, variable: str, text: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(typer.BadParameter, match=sentence):
        parsed(*provider, [])


def test_a_variable_does_not_count_where_a_flag_is_given(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HC_SESSIONS", "nonsense")
    assert parsed(*provider, ["--sessions", "2"])["sessions"] == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[provider]\nprise = 1",
            "'prise' is not known as an option in .provider. of .*: did you mean price",
        ),
        ("[provder]\nprice = 1", "'provder' is not known as a table of .*: did you mean provider"),
        ("rpc_ur = 'http://x'", "'rpc_ur' is not known as a setting of .*: did you mean rpc_url"),
        ("sessions = 3", "'sessions' is not known as a setting"),
        ("[provider]\nbootstrap = ['x']", "it stands at the top, outside of any table"),
        ("provider = 3", "'provider' is not known as a setting"),
        ("[provider]\nsessions = ''", "sessions in .provider. of .* is empty"),
        ("[provider]\nlisten = []", "is empty"),
        ("[provider]\nsessions = [1, 2]", "is one value"),
        ("[provider]\nsessions = {a = 1}", "is one value"),
        ("home = ''", "home in .* is empty"),
        ("[provider", "is no TOML"),
        ("\xff", "is no TOML|not known"),
    ],
)
def test_a_file_that_nobody_understands_is_a_sentence(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "hc.toml").write_text(text)
    monkeypatch.setenv("HC_CONFIG", str(tmp_path / "hc.toml"))
    with pytest.raises(BadConfig, match=sentence):
        parsed(*provider, [])


def test_a_file_that_is_not_there_is_a_sentence(
    provider: tuple[str, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadConfig, match="cannot be read: no such file"):
        parsed(*provider, ["--config", "nowhere.toml"])
    monkeypatch.setenv("HC_CONFIG", " ")
    with pytest.raises(BadConfig, match="HC_CONFIG is empty"):
        Settings()


def test_settings_stand_at_the_top_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hc.toml").write_text(
        'home = "~/x"\nlog_format = "json"\nbootstrap = ["/dns4/a.example/tcp/1"]\n[provider]\nprice = 1\n'
    )
    monkeypatch.setenv("HC_CONFIG", str(tmp_path / "hc.toml"))
    settings = Settings()
    assert settings.home == Path.home() / "x"
    assert (settings.log_format, settings.bootstrap) == ("json", ("/dns4/a.example/tcp/1",))
    monkeypatch.setenv("HC_HOME", str(tmp_path))
    assert Settings().home == tmp_path


def test_a_log_for_machines_is_one_object_a_line_without_secrets() -> None:
    hide("https://user:sesame-open@rpc.example/v3/abcdef12345")
    logger = logging.getLogger("hypercluster.test")

    def line(error: BaseException | None = None) -> dict[str, Any]:
        record = logger.makeRecord(
            logger.name,
            logging.WARNING,
            "f",
            1,
            "asked %s:\n\u2028%r",
            ("https://user:sesame-open@rpc.example/v3/abcdef12345", "ü"),
            (type(error), error, error.__traceback__) if error else None,
        )
        text = JsonFormatter().format(record)
        assert len(text.splitlines()) == 1
        assert "sesame" not in text
        assert "abcdef" not in text
        found: dict[str, Any] = json.loads(text)
        return found

    plain = line()
    assert (plain["level"], plain["logger"]) == ("WARNING", "hypercluster.test")
    assert plain["msg"].startswith("asked https://…")
    assert plain["ts"].endswith("Z")
    assert not {"request_id", "session", "peer", "exception"} & plain.keys()
    with pytest.raises(ValueError, match="no answer") as caught:
        raise ValueError("no answer of https://user:sesame-open@rpc.example/v3/abcdef12345")
    assert "ValueError: no answer" in line(caught.value)["exception"]
    with logged_with(request_id="r1"), logged_with(session="s1", peer="p1"):
        both = line()
    assert (both["request_id"], both["session"], both["peer"]) == ("r1", "s1", "p1")
    assert "session" not in line()


@pytest.mark.parametrize(
    ("name", "value"), [("HC_OPERATOR_HOPS", "0"), ("HC_OPERATOR_REQUESTS", "1.5"), ("HC_TRIALS", "-1")]
)
def test_a_share_that_is_none_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="can be"):
        Settings()
    monkeypatch.setenv(name, "0.3")
    assert 0.3 in (Settings().shares.hops, Settings().shares.requests, Settings().shares.trials)


def test_a_file_of_variables_that_is_a_fifo_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    # Whoever reads it is given something, so that nothing waits for ever.
    writer = threading.Thread(target=(tmp_path / ".env").write_text, args=("HC_LOG_LEVEL=debug\n",))
    writer.start()
    try:
        with pytest.raises(BadConfig, match=r"The file \.env in this folder is a FIFO"):
            Settings()
        with pytest.raises(BadConfig, match=r"\.env in this folder is a FIFO"):
            parsed(*RUNNING[0], [])
    finally:
        reader = os.open(tmp_path / ".env", os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(reader)


def test_a_folder_of_that_name_is_none(tmp_path: Path) -> None:
    """As some call their virtual environment."""
    (tmp_path / ".env").mkdir()
    assert Settings().log_level == "WARNING"
