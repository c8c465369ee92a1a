"""H1: all that belongs to a home is in that home, whatever its path is made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypercluster.market.errors import KeystoreError, LedgerError
from hypercluster.market.ledger import Ledger
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.lock import Hold, held, holder
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import open_model

ODD = [
    "what?",
    "what?mode=memory",
    "a#b",
    "100%",
    "50%25",
    "%(here)s",
    "with space",
    "日本語 é",
    "c:d",
    "file:x?mode=memory&cache=shared",
    ":memory:",
    "new\nline",
    "a@b:c",
    "[x]*",
    "'\"$HOME`",
]


@pytest.mark.parametrize("name", ODD)
def test_h1_everything_of_a_home_is_in_it(tmp_path: Path, name: str, tiny_model: Path) -> None:
    """H1: ledger, keys, locks and shards; nothing appears beside it."""
    home = tmp_path / name
    settings = Settings(home=home)
    keys.create(home, Key.NODE, "secret", work=2)
    with held(home, Hold.NODE, "a test"), open_ledger(settings) as ledger:
        assert holder(home, Hold.NODE)
        ledger.history.prices()
        stored = open_model(tiny_model, home)
        assert stored.shard(0, 1).is_relative_to(home)
        assert stored.vocabulary().exists()
    assert (home / "ledger.sqlite").stat().st_size > 0
    assert {path.name for path in home.iterdir()} >= {"ledger.sqlite", "keys", "models"}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_h1_two_homes_never_share_a_ledger(tmp_path: Path) -> None:
    """H1: also where their paths differ only behind a question mark."""
    homes = [tmp_path / name for name in ("h?1", "h?2", "h", "h#1", "h%3F1")]
    for home in homes:
        open_ledger(Settings(home=home)).close()
    assert len({(home / "ledger.sqlite").stat().st_ino for home in homes}) == len(homes)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(home.name for home in homes)


def test_h1_one_home_by_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H1: relative, with a slash at the end, through a link: one home, one ledger."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    for given in ("home", "home/", "./link/", str(tmp_path / "home"), "link/../home"):
        monkeypatch.setenv("HC_HOME", given)
        with open_ledger(Settings()):
            assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "link"]
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize(
    "name", ["HC_HOME", "HC_DEPLOYMENT", "HC_PASSWORD_FILE", "HC_LEDGER_URL", "HC_RPC_URL"]
)
@pytest.mark.parametrize("value", ["", "  "])
def test_h1_an_empty_setting_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H1, G1: an empty HC_HOME is a variable that was not set, not the folder one is in."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is empty"):
        Settings()


def test_h1_a_home_of_nobody_and_an_empty_one_end_in_a_sentence(tmp_path: Path) -> None:
    """H1: at the command line."""
    for value, said in (("", "HC_HOME is empty"), ("~nobody-of-this-name/x", "names a user who has no home")):
        done = subprocess.run(
            [sys.executable, "-m", "hypercluster.node.cli.client", "balance"],
            env={**os.environ, "HC_HOME": value},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_h1_a_url_with_a_question_mark_in_its_path_is_refused(tmp_path: Path) -> None:
    """H1: HC_LEDGER_URL is a URL, where the path ends at a question mark; that is said, not done."""
    with pytest.raises(LedgerError, match="has a \\? in its path"):
        Ledger(f"sqlite:///{tmp_path}/a?b/ledger.sqlite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "programs"), [(Key.NODE, ["hc-provider", "hc-verifier"]), (Key.WALLET, ["hc-client"])]
)
def test_a_home_without_keys_names_every_program_that_makes_them(
    tmp_path: Path, key: Key, programs: list[str]
) -> None:
    with pytest.raises(KeystoreError) as caught:
        keys.address(tmp_path, key)
    assert all(f"{program} init" in str(caught.value) for program in programs)
