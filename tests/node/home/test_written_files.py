"""G1, H1, J2: files that people write, from any editor, and places that are none: taken as meant, or a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from hypercluster.market.chain import Deployment
from hypercluster.market.errors import ChainError, KeystoreError
from hypercluster.market.money import units
from hypercluster.node.catalogue import is_http
from hypercluster.node.cli.doctor.findings import examined, well
from hypercluster.node.cli.elsewhere import found_elsewhere
from hypercluster.node.cli.ending import ending_of
from hypercluster.node.cli.options import Use, check_writable, multiaddr
from hypercluster.node.client.auditing.trusting import BadTrust, read_trusted
from hypercluster.node.home import keys
from hypercluster.node.home.config import BadConfig, read_config
from hypercluster.node.home.keys import Key, first_line
from hypercluster.node.home.policy import load_policy
from hypercluster.node.home.profile import profile_at
from hypercluster.node.home.profile_bytes import BadProfile
from hypercluster.node.replay.recordings import BadRecording, read_recording
from hypercluster.node.shards.store import StoredModel

MARK = b"\xef\xbb\xbf"
NOBODY = "~nobody-of-this-name/x"
ADDRESS = "0x" + "ab" * 20


@pytest.mark.parametrize("raw", [b"secret", b"secret\n", b"secret\r\nmore\n", MARK + b"secret\r\n"])
def test_a_password_is_its_line_whatever_the_editor(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "password").write_bytes(raw)
    assert first_line(tmp_path / "password") == "secret"


@pytest.mark.parametrize(
    ("raw", "why"),
    [(b"", "is empty"), (MARK + b"\n", "is empty"), (b"p\xe4ss\n", "UTF-8"), (b"x" * 70_000, "too long")],
)
def test_what_holds_no_password_is_a_sentence(tmp_path: Path, raw: bytes, why: str) -> None:
    (tmp_path / "password").write_bytes(raw)
    with pytest.raises(KeystoreError, match=why):
        first_line(tmp_path / "password")
    with pytest.raises(KeystoreError, match="cannot be read"):
        first_line(tmp_path)
    with pytest.raises(KeystoreError, match="too long"):
        first_line(Path("/dev/zero"))


def test_keys_that_were_made_with_a_mark_in_the_password_still_open(tmp_path: Path) -> None:
    made = keys.create(tmp_path, Key.WALLET, "\ufeffsecret", work=2)
    assert keys.unlock(tmp_path, Key.WALLET, "secret").address == made.address
    with pytest.raises(KeystoreError):
        keys.unlock(tmp_path, Key.WALLET, "another")


def test_a_byte_order_mark_means_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.toml").write_bytes(MARK + b'[limits]\r\nper_day = "2"\r\n')
    assert load_policy(tmp_path).per_day_wei == 2 * units.HCT
    (tmp_path / "trusted").write_bytes(MARK + ADDRESS.encode())
    assert read_trusted(tmp_path / "trusted") == {ADDRESS}
    (tmp_path / "config.toml").write_bytes(MARK + b"pay_ahead = 2\r\n")
    monkeypatch.setenv("HC_CONFIG", str(tmp_path / "config.toml"))
    config = read_config(["pay_ahead"])
    assert config is not None
    assert config.settings == {"pay_ahead": 2}
    (tmp_path / "deployment.json").write_bytes(MARK + json.dumps({"chain_id": 1}).encode())
    with pytest.raises(ChainError, match="does not say"):
        Deployment.load(tmp_path / "deployment.json")


def test_h1_a_path_in_the_home_of_nobody_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: in settings, profiles, lists, and in any option."""
    monkeypatch.setenv("HC_CONFIG", NOBODY)
    with pytest.raises(BadConfig, match="home of nobody"):
        read_config([])
    with pytest.raises(BadProfile, match="home of nobody"):
        profile_at(NOBODY, tmp_path)
    with pytest.raises(BadTrust, match="home of nobody"):
        read_trusted(Path(NOBODY))
    with pytest.raises(RuntimeError) as caught:
        Path(NOBODY).expanduser()
    ending = ending_of(caught.value, "hc")
    assert (ending.code, "home of nobody" in ending.sentence) == (1, True)


@pytest.mark.parametrize("raw", [b"\xff\xfeH\0", b"HC_X=\xe4\n"])
def test_g1_a_file_env_that_is_no_text_stops_what_runs_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    """G1: `run` reads it for its own options before the settings are read."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(raw)
    context = SimpleNamespace(find_root=lambda: SimpleNamespace(info_name="hc-provider"), info_name="run")
    with pytest.raises(BadConfig, match="is no text in UTF-8"):
        found_elsewhere(context, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[::1", "http://x:abc", "http://x:99999", "http://x:0", "http://a..b", "http://ü..x",
     "http://" + "a" * 64 + ".x", "ws://x", "x:80", "https://user:word@/path"],
)  # fmt: skip
def test_m1_a_url_that_no_request_can_be_sent_to_is_none(url: str) -> None:
    assert not is_http(url)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8545", "https://u:p@x.org/k?y", "HTTP://127.0.0.1:8545/", "http://ü.x."]
)
def test_a_url_of_any_form_is_one(url: str) -> None:
    assert is_http(url)


def test_m1_a_profile_from_a_url_that_is_none_shows_nothing_of_it(tmp_path: Path) -> None:
    """M1: it may hold a secret."""
    with pytest.raises(BadProfile) as caught:
        profile_at("https://user:secret-word@[x/profile", tmp_path)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("use", ["announce", "listen", "join"])
def test_i2_the_refusal_of_an_address_names_its_own_option_only(use: Use) -> None:
    """I2: --announce-direct was told of as --announce."""
    read = multiaddr("Help.", "--other", use=use).parser
    with pytest.raises(typer.BadParameter) as caught:
        read("/dns4/localhost/tcp/0")
    assert not str(caught.value).startswith("--")


def test_a_recording_that_is_a_device_is_not_read_for_ever(stored_tiny: StoredModel) -> None:
    with pytest.raises(BadRecording, match="no regular file"):
        read_recording(Path("/dev/zero"), stored_tiny)


def test_x2_a_place_for_results_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    """X2: minutes of work were lost where the file could not be written."""
    (tmp_path / "file").write_text("")
    check_writable("--out", None)
    check_writable("--out", tmp_path / "file")
    check_writable("--out", tmp_path / "new" / "deep" / "x.csv")
    check_writable("--out", tmp_path, folder=True)
    for path, folder in (
        (tmp_path, False),
        (tmp_path / "file", True),
        (tmp_path / "file" / "x.csv", False),
    ):
        with pytest.raises(typer.BadParameter, match="--out"):
            check_writable("--out", path, folder=folder)


def _group() -> None:
    raise BaseExceptionGroup("many", [BadConfig("One thing is wrong.")])


def _password() -> None:
    first_line(Path("/nowhere/password"))


def _file() -> None:
    Path("/nowhere/file").read_text()


@pytest.mark.parametrize("fails", [_group, _password, _file])
def test_d1_whatever_a_check_of_doctor_ends_with_is_a_finding(fails: Callable[[], None]) -> None:
    """D1: also what a nursery wraps; the checks behind it are made all the same."""

    def failing():  # type: ignore[no-untyped-def]
        fails()
        yield well("never", "")

    first, second = examined([("it", failing), ("next", lambda: [well("next", "fine")])])
    assert (first.health, second.health) == ("ill", "well")
    assert first.seen.endswith(".")
    assert "Errno" not in first.seen
    with pytest.raises(ZeroDivisionError):
        [*examined([("a bug", lambda: [well("x", str(1 // 0))])])]


def test_t1_a_text_without_an_amount_asks_for_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """T1, X4: the last words of a command that was interrupted are not held up by a URL that does not answer."""

    def never() -> units.Unit:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(units, "_unit", never)
    assert units.named("interrupted.") == "interrupted."
