"""Addresses on the command lines: refused at once in a sentence, before the chain is asked or a model is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from tests.e2e.shell import Result, Terminal
from tests.node.helpers.providers import running_provider

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.shards.store import StoredModel

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


DEAD = f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}"


@pytest.fixture(scope="module")
def looking(anvil: str, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A client's home on a chain."""
    home = tmp_path_factory.mktemp("looking")
    deployment.save(home / "deployment.json")
    for key in keys.CLIENT:
        keys.create(home, key, "play money", work=2)
    (home / "password").write_text("play money")
    return Terminal(
        home,
        {
            "HC_RPC_URL": anvil,
            "HC_DEPLOYMENT": str(home / "deployment.json"),
            "HC_PASSWORD_FILE": str(home / "password"),
        },
    )


@pytest.mark.parametrize("command", ["hc-client peers", "hc-client path", "hc-client generate ROMEO: --json"])
def test_a1_a4_a_dead_bootstrap_is_named_by_every_command(looking: Terminal, command: str) -> None:
    """A1, A4: the address and the reason, exit code 1, no empty table."""
    looking.settings["HC_BOOTSTRAP"] = DEAD
    done = looking.run(*command.split())
    assert done.code == 1
    assert f"{DEAD} refused the connection" in done.err
    assert "nobody serves layer 0" not in done.err


def test_a1_advise_does_not_advise_blindly(looking: Terminal) -> None:
    looking.settings["HC_BOOTSTRAP"] = DEAD
    done = looking.run("hc-provider", "advise", "--memory", "1")
    assert done.code == 1
    assert f"{DEAD} refused the connection" in done.err


def test_a5_a_network_of_another_model(
    looking: Terminal, chain: Chain, stored_tiny: StoredModel, tmp_path: Path
) -> None:
    """A5: which model was looked for, and which ones are served here; found by a name in /etc/hosts (I1)."""
    with running_provider(chain, stored_tiny, tmp_path, (0, 4), announce=()) as served:
        looking.settings["HC_BOOTSTRAP"] = served.address.replace("/ip4/127.0.0.1/", "/dns4/localhost/")
        for command in ("peers", "path"):
            done = looking.run("hc-client", command)
            assert done.code == 1
            assert stored_tiny.manifest.summary in done.err
            assert stored_tiny.manifest.model_id[:16] in done.err
            assert "serves verse (" in done.err
