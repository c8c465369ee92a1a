"""A market that is paid in a plain ERC-20 of six decimals, without permits: commands write and read its amounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from hypercluster.market.chain import LOCAL_TERMS, Chain, Rpc, Sender, deploy
from hypercluster.market.money.units import HCT, IN_HCT, Unit, in_token, pay_in
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from hypercluster.node.testnet.localnet import STAKE, LocalNetwork
from hypercluster.node.testnet.specs import ProviderSpec
from tests.e2e.shell import Terminal
from tests.market.chain.foreign import create

pytestmark = pytest.mark.slow

ONE = 10**6


@pytest.fixture
def network(tmp_path: Path) -> Iterator[LocalNetwork]:
    """A provider that holds all layers, for 2 of the token per million tokens of answer and 1 of prompt."""
    pay_in(Unit(6, "PLAIN"))
    boss = Account.from_key(DEPLOYER_KEY)
    amounts = ("fault", "silence", "bond", "demand_bond")
    terms = replace(LOCAL_TERMS, **{name: in_token(getattr(LOCAL_TERMS, name)) for name in amounts})
    with running_anvil() as url:
        token = create(Sender(Rpc(url), boss), "PlainToken")
        deployment = deploy(
            url,
            boss,
            min_stake=in_token(STAKE),
            unbonding_seconds=400,
            grace_seconds=2,
            terms=terms,
            token=token,
        )
        deployment.save(tmp_path / "deployment.json")
        network = LocalNetwork(tmp_path, url, Chain(url, deployment))
        network.password_file.write_text("sesame")
        network.password_file.chmod(0o600)
        spec = ProviderSpec(layers="0:8", price="2", prompt_price="1", flags=("--price-rule", "fixed"))
        try:
            network.wait(network.start(spec, *network.enlist("provider"), model=demo_model()))
            yield network
        finally:
            network.stop()
            pay_in(IN_HCT)


def test_a_completion_is_paid_claimed_and_shown_in_the_token(network: LocalNetwork) -> None:
    settings = network.client(in_token(10 * HCT))
    environment = network.environment(settings.home)
    terminal = Terminal(settings.home, {n: v for n, v in environment.items() if n.startswith("HC_")})
    asked = (
        "generate",
        "ROMEO:",
        "--model",
        str(demo_model()),
        "-n",
        "5",
        "--deposit",
        "1.5",
        "--max-cost",
        "0.001",
    )
    done = terminal.json("hc-client", *asked, "--audit-rate", "0")
    provider = network.providers[0]
    cost = done["spent_wei"]
    assert 0 < cost < 1000
    assert network.chain.token.balance(network.chain.deployment.channels) == 3 * ONE // 2
    written = f" {cost / ONE:f}".rstrip("0")
    channels = terminal.run("hc-client", "channels")
    assert (channels.code, " 1.5 " in channels.out, f"{written} " in channels.out) == (0, True, True), (
        channels
    )
    balance = terminal.run("hc-client", "balance")
    assert (balance.code, "8.5 PLN" in balance.out) == (0, True), balance
    fine = terminal.run("hc-client", *asked[:-1], "0.0000001")
    assert (fine.code, "use at most 6 decimals" in fine.err) == (2, True)
    assert not [each for each in (channels, balance, fine) if "HCT" in each.out + each.err]

    home = {**terminal.settings, "HC_HOME": str(provider.home)}
    owner = Terminal(provider.home, {name: value for name, value in home.items() if name != "HC_HOME"})
    provider.stop()
    provider.process.wait()
    claimed = owner.run("hc-provider", "claim", "--force")
    assert claimed.code == 0, claimed.err
    assert f"{written} PLN" in claimed.out
    assert network.chain.token.balance(provider.operator) == cost
