"""A market by hand, over several terminals: a chain, two providers, a client, and everybody's money."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from web3.types import RPCEndpoint

from hypercluster.market.chain import Rpc
from hypercluster.market.money.units import HCT, parse_price
from hypercluster.node.testnet.anvil import free_port
from tests.e2e.shell import Running, Terminal

pytestmark = pytest.mark.slow

TOKENS = 12
GRACE = 2
UNBONDING = 400


@dataclass(eq=False)
class Town:
    """A chain that runs, and who lives there."""

    chain: Running
    folder: Path
    settings: dict[str, str]

    def terminal(self, name: str) -> Terminal:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return Terminal(home, self.settings)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    secret = folder / "password"
    secret.write_text("open sesame\n")
    home = folder / "testnet"
    home.mkdir()
    port = str(free_port())
    command = ["hc-testnet", "up", "--port", port, "--grace", str(GRACE), "--unbonding", str(UNBONDING)]
    with Terminal(home).running(*command, until="Ctrl-C ends the chain.") as chain:
        export = next(line for line in chain.printed.splitlines() if "export " in line)
        settings = dict(word.split("=", 1) for word in export.split()[1:])
        yield Town(chain, folder, {**settings, "HC_PASSWORD_FILE": str(secret)})


def later(town: Town, seconds: int) -> None:
    """Let the chain's time pass."""
    profile = json.loads(Path(town.settings["HC_PROFILE"]).read_text())
    rpc = Rpc(profile["chain"]["rpc_url"])
    for method, arguments in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        rpc.web3.provider.make_request(RPCEndpoint(method), arguments)


def staked(town: Town, name: str) -> Terminal:
    provider = town.terminal(name)
    keys = provider.json("hc-provider", "init")
    funded = provider.json("hc-testnet", "fund", keys["operator"])
    assert funded["hct_wei"] == 1000 * HCT
    stake = provider.json("hc-provider", "register")
    assert (stake["operator"], stake["node"]) == (keys["operator"], keys["node"])
    assert (stake["active_wei"], stake["share_wei"], stake["sessions"]) == (100 * HCT, 100 * HCT, 16)
    return provider


def serving(layers: str, price: str) -> list[str]:
    """Claims nothing by itself, so that the test can."""
    flags = "--price-rule fixed --listen /ip4/127.0.0.1/tcp/0 --refresh 2 --claim-multiple 1000000000"
    return ["hc-provider", "run", "--layers", layers, "--price", price, *flags.split()]


def test_a_market_by_hand(town: Town) -> None:
    first, second, client = staked(town, "first"), staked(town, "second"), town.terminal("client")
    wallet = client.json("hc-client", "init")["wallet"]

    with first.running(*serving("0:3", "1"), until="/p2p/") as one:
        status = first.json("hc-provider", "status")
        assert status["running"]["layers"] == [0, 3]
        assert status["eligible"]
        assert status["active_wei"] == 100 * HCT
        [address] = status["running"]["addresses"]
        for terminal in (second, client):
            terminal.settings = {**terminal.settings, "HC_BOOTSTRAP": address}
        # To whom gas is worth nothing claims as little as is owed here.
        with second.running(*serving("3:8", "2.5"), "--hct-per-coin", "0", until="/p2p/") as two:
            peers = client.json("hc-client", "peers", "--wait", "2")
            assert [peer["layers"] for peer in peers] == [[0, 3], [3, 8]]
            path = client.json("hc-client", "path", "--alpha", "1")
            assert [node["price_wei"] for node in path["nodes"]] == [parse_price("1"), parse_price("2.5")]
            assert path["price_wei"] == parse_price("3.5")

            empty = client.run("hc-client", "generate", "ROMEO:")
            assert (empty.code, empty.out.strip()) == (1, "ROMEO:")
            assert "error: " in empty.err
            assert wallet in empty.err
            assert client.json("hc-client", "fund", "--hct", "5")["hct_wei"] == 5 * HCT

            done = client.json("hc-client", "generate", "ROMEO:", "-n", str(TOKENS))
            spent = done["spent_wei"]
            assert [hop["peer"] for hop in done["path"]] == [node["peer"] for node in path["nodes"]]
            assert spent == sum(hop["paid_wei"] for hop in done["path"]) > 0
            assert done["finish_reason"] == "length"

            # People get the same text, and pay again.
            shown = client.run("hc-client", "generate", "ROMEO:", "-n", str(TOKENS))
            assert shown.code == 0, shown.err
            assert shown.out.rstrip() == ("ROMEO:" + done["text"]).rstrip()
            assert "2 providers" in shown.err

            stopped = client.json("hc-client", "generate", "ROMEO:", "-n", "60", "--max-cost", "0.00004")
            assert stopped["finish_reason"] == "cost"
            assert 0 < stopped["spent_wei"] <= HCT // 25_000
            refused = client.run("hc-client", "generate", "ROMEO:", "--max-cost", "0.000000001")
            assert refused.code == 1
            assert "limit of this request" in refused.err

            total = 2 * spent + stopped["spent_wei"]
            channels = client.json("hc-client", "channels")
            assert sum(each["spent_wei"] for each in channels) == total
            assert {each["state"] for each in channels if each["deposit_wei"]} == {"open"}

            # One claims by hand while it runs, the other by itself.
            earned = first.json("hc-provider", "earnings")
            refused = first.run("hc-provider", "claim")
            assert (refused.code, "--force claims all the same" in refused.err) == (1, True)
            claimed = first.json("hc-provider", "claim", "--force")
            assert claimed["claimed_wei"] == sum(each["earned_wei"] for each in earned["channels"]) > 0
            assert first.json("hc-provider", "claim")["claimed_wei"] == 0
            asked = client.json("hc-client", "close")
            # Those that the empty wallet could not open are listed, with nothing to be done.
            assert [each["action"] for each in asked].count("asked to close") == 2
            deadline = time.monotonic() + 300
            while sum(each["settled_wei"] for each in client.json("hc-client", "channels")) < total:
                assert time.monotonic() < deadline
            time.sleep(GRACE)
            rest = client.json("hc-client", "close")
            assert [each["action"] for each in rest].count("withdrawn") == 2
        assert "Traceback" not in one.printed + two.printed
    assert (one.process.returncode, two.process.returncode) == (0, 0)

    # To the wei: what the client misses is what the providers have.
    assert client.json("hc-client", "balance")["hct_wei"] == 5 * HCT - total
    holds = [each.json("hc-provider", "status")["balance_wei"] for each in (first, second)]
    assert sum(holds) == 2 * 900 * HCT + total
    states = [each["state"] for each in client.json("hc-client", "channels")]
    assert (states.count("ended"), states.count("open"), states.count("closing")) == (2, 0, 0)
    assert second.json("hc-provider", "earnings")["channels"][0]["unclaimed_wei"] == 0

    thawing = first.json("hc-provider", "unstake", "all")
    assert (thawing["active_wei"], thawing["thawing_wei"]) == (0, 100 * HCT)
    later(town, UNBONDING + 1)
    assert first.json("hc-provider", "withdraw")["thawing_wei"] == 0
    status = first.json("hc-provider", "status")
    assert status["balance_wei"] == holds[0] + 100 * HCT
    assert not status["eligible"]
    assert status["running"] is None
