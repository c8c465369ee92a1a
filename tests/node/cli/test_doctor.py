"""What `doctor` finds on a chain of its own, in homes that are well and in homes that are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Deployment, Sender, deploy
from hypercluster.market.chain.checking import contradictions
from hypercluster.market.money import HCT
from hypercluster.node.cli.doctor import home
from hypercluster.node.testnet.anvil import running_anvil
from tests.e2e.shell import Terminal

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def anvil() -> Iterator[str]:
    """A chain of its own: other tests move the clock of the one that they share, which a doctor would notice."""
    with running_anvil() as url:
        yield url


@pytest.fixture(scope="module")
def deployment(anvil: str, accounts: list[LocalAccount]) -> Deployment:
    return deploy(anvil, accounts[0])


@pytest.fixture(scope="module")
def chain(anvil: str, deployment: Deployment) -> Chain:
    return Chain(anvil, deployment)


@pytest.fixture
def terminal(anvil: str, deployment: Deployment, tmp_path: Path) -> Terminal:
    """A terminal with a chain and a password."""
    secret, file = tmp_path / "password", tmp_path / "deployment.json"
    secret.write_text(PASSWORD + "\n")
    deployment.save(file)
    return Terminal(
        tmp_path, {"HC_RPC_URL": anvil, "HC_DEPLOYMENT": str(file), "HC_PASSWORD_FILE": str(secret)}
    )


def test_contracts_that_belong_together(chain: Chain) -> None:
    assert [*contradictions(chain)] == []


def test_contracts_of_two_deployments(
    chain: Chain, anvil: str, deployment: Deployment, accounts: list[LocalAccount]
) -> None:
    """Whoever mixes them could have stake taken by a contract of another's, or pay in another token."""
    other = deploy(anvil, accounts[0])
    for wrong in (
        replace(deployment, channels=other.channels),
        replace(deployment, token=other.token),
        replace(deployment, registry=other.registry),
        replace(deployment, cases=other.cases),
        replace(deployment, demands=deployment.proofs, proofs=deployment.registry),
        replace(deployment, channels=accounts[3].address),
    ):
        assert [*contradictions(Chain(anvil, wrong))], wrong


def findings(terminal: Terminal, program: str, code: int) -> dict[str, dict[str, Any]]:
    done = terminal.run(program, "doctor", "--json")
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err
    return {each["what"]: each for each in json.loads(done.out)}


@pytest.mark.slow
def test_a_client_from_nothing_to_well(
    terminal: Terminal, chain: Chain, accounts: list[LocalAccount]
) -> None:
    boss = Sender(chain, accounts[0])
    found = findings(terminal, "hc-client", 1)
    assert "hc-client init" in found["keys"]["seen"]
    assert found["chain"]["health"] == "well"
    assert found["network"]["health"] == "unknown"

    assert terminal.run("hc-client", "init").code == 0
    found = findings(terminal, "hc-client", 1)
    assert found["session key"]["health"] == found["wallet key"]["health"] == "well"
    assert found["HCT"]["health"] == "odd"
    assert found["coin for gas"]["health"] == "ill"

    wallet = json.loads((terminal.home / "keys" / "wallet.json").read_text())["address"]
    address = chain.web3.to_checksum_address("0x" + wallet.removeprefix("0x"))
    chain.token.transfer(boss, address, HCT)
    boss.transact("to send coin", address, "0x", 10**18)
    found = findings(terminal, "hc-client", 0)
    assert all(each["health"] in ("well", "unknown") for each in found.values()), found

    told = Path(terminal.settings["HC_DEPLOYMENT"])
    replace(chain.deployment, symbol="USDC").save(told)
    token = findings(terminal, "hc-client", 0)["token"]
    assert (token["health"], "called HCT on the chain, and USDC" in token["seen"]) == ("odd", True)
    chain.deployment.save(told)

    (terminal.home / "policy.toml").write_text("total = lots")
    Path(terminal.settings["HC_PASSWORD_FILE"]).write_text("wrong\n")
    (terminal.home / "keys" / "session.json").chmod(0o644)
    found = findings(terminal, "hc-client", 1)
    assert found["policy"]["health"] == "ill"
    assert "chmod 600" in found["session key"]["todo"]
    assert "password" in found["keys"]["seen"]


@pytest.mark.parametrize(
    ("enabled", "health"),
    [("always [madvise] never\n", ["well"]), ("always madvise [never]\n", ["odd"]), (None, [])],
)
def test_huge_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: str | None, health: list[str]
) -> None:
    told = tmp_path / "enabled"
    if enabled is not None:
        told.write_text(enabled)
    monkeypatch.setattr(home, "HUGE_PAGES", told)
    assert [each.health.value for each in home.pages()] == health


@pytest.mark.slow
def test_a_provider_that_is_not_registered(terminal: Terminal) -> None:
    assert terminal.run("hc-provider", "init").code == 0
    found = findings(terminal, "hc-provider", 1)
    assert found["engine"]["health"] == "well"
    assert "register" in found["registration"]["todo"]
    assert found["reachability"]["health"] == "unknown"
    assert found["contracts"]["health"] == "well"


def test_a_chain_that_does_not_answer(terminal: Terminal) -> None:
    terminal.settings["HC_RPC_URL"] = "http://127.0.0.1:9"
    found = findings(terminal, "hc-client", 1)
    assert found["chain"]["health"] == "ill"
    assert "contracts" not in found
