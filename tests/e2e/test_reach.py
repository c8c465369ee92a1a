"""Addresses on the command lines: refused at once in a sentence, before the chain is asked or a model is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from tests.e2e.shell import Result, Terminal

PEER = "16Uiu2HAm5hPxT7s3TA2f4b4YjAPzS7yLRSgdj87ysDZ6NAXMiRuY"


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A provider's home, and no chain to be reached."""
    home = tmp_path_factory.mktemp("offline")
    for key in keys.PROVIDER:
        keys.create(home, key, "play money", work=2)
    return Terminal(home, {"HC_RPC_URL": "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param("--announce /ip4/0.0.0.0/tcp/4001", "nobody can dial", id="I2 wildcard"),
        pytest.param("--announce nonsense", "'nonsense' is no address", id="I2 nonsense"),
        pytest.param("--announce-direct nonsense", "'nonsense' is no address", id="I2 direct nonsense"),
        pytest.param(f"--announce /ip4/192.0.2.7/tcp/4001/p2p/{PEER}", "another node", id="I3 another id"),
        pytest.param("--announce /dns4/no-such-host.invalid/tcp/4001", "no-such-host", id="I1 unknown name"),
        pytest.param(
            "--direct /dns4/localhost/tcp/4001", "is a name: listen on", id="I1 listening on a name"
        ),
        pytest.param(
            "--bootstrap /dns4/localhost/tcp/4001", "must end in /p2p/", id="I1 bootstrap without peer"
        ),
    ],
)
def test_kind_i_a_provider_is_told_at_once(offline: Terminal, flags: str, words: str) -> None:
    """I1, I2, I3: nothing was loaded and nobody asked."""
    assert words in refused(offline.run("hc-provider", "run", "--layers", "0:1", *flags.split()))


def test_i2_a_verifier_is_told_at_once(offline: Terminal) -> None:
    told = refused(offline.run("hc-verifier", "run", "--announce", "/ip4/0.0.0.0/tcp/4001"))
    assert "nobody can dial" in told


def test_i3_the_own_id_is_taken_off(offline: Terminal) -> None:
    """I3: an address copied from `run` goes through, here as far as to the missing chain."""
    own = peer_of_home(offline.home)
    copied = f"/ip4/192.0.2.7/tcp/4001/p2p/{own}"
    told = refused(offline.run("hc-provider", "run", "--layers", "0:1", "--announce", copied))
    assert copied not in told


def refused(done: Result) -> str:
    assert done.code in (1, 2), done.out + done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    return done.err


def peer_of_home(home: Path) -> str:
    from hypercluster.node.identity import peer_of_key

    return peer_of_key(bytes(keys.unlock(home, Key.NODE, "play money").key))
