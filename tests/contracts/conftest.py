"""Contract tests: ape drives an Anvil of its own and tests the committed artifacts.

    ape test tests/contracts --network ethereum:local:foundry

from the repository root, after `npm ci` in contracts/. Anvil starts on a free port and ends with the run;
what it keeps goes to .build/ape, not to the user's home. `--update-gas` rewrites contracts/gas-snapshot.json.
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ape
import pytest
from ape.contracts import ContractContainer
from ethpm_types import ContractType

import hypercluster.contracts
from hypercluster.contracts import artifact
from tests.contracts.kinds import (
    Account,
    Accounts,
    Chain,
    Contract,
    Deploy,
    Descriptor,
    Receipt,
    Signature,
    Sleep,
)
from tests.contracts.signing import compact, sign_voucher, words

if TYPE_CHECKING:
    from tests.contracts.court import Court

ROOT = Path(__file__).resolve().parents[2]
HCT = 10**18
DAY = 86_400
UNLIMITED = 2**256 - 1

# The platform's own binary: npm's launcher script leaves its child behind when it is killed.
ANVIL = ROOT / "contracts" / "node_modules" / "@foundry-rs"
os.environ["PATH"] = os.pathsep.join(
    [*(str(folder) for folder in sorted(ANVIL.glob("anvil-*/bin"))), os.environ["PATH"]]
)
# What ape and Anvil keep stays in the project; Anvil spills old states into ~/.foundry and leaves them there.
KEPT = ROOT / ".build" / "ape"
ape.config.DATA_FOLDER = KEPT
os.environ["HOME"] = str(KEPT)
shutil.rmtree(KEPT / ".foundry", ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-gas", action="store_true", help="rewrite contracts/gas-snapshot.json")
    parser.addoption("--artifacts", type=Path, help="test other artifacts than the committed ones")
    parser.addoption(
        "--coin", help="address that holds a coin: the switch of a mutant, see scripts/mutants.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    if folder := config.getoption("--artifacts"):
        hypercluster.contracts._ARTIFACTS = folder


@pytest.fixture(scope="session")
def deploy(deployer: Account, request: pytest.FixtureRequest) -> Deploy:
    """Deploy a committed artifact: deploy(name, *constructor arguments, sender=deployer)."""
    if coin := request.config.getoption("--coin"):
        deployer.provider.set_balance(coin, 1)

    def deploy(name: str, *arguments: object, sender: Account = deployer) -> Deploy:
        compiled = artifact(name)
        fields = {
            "contractName": name,
            "abi": compiled.abi,
            "deploymentBytecode": {"bytecode": compiled.bytecode},
            "runtimeBytecode": {"bytecode": compiled.deployed_bytecode},
        }
        return sender.deploy(ContractContainer(ContractType.model_validate(fields)), *arguments)

    return deploy


@pytest.fixture(scope="session")
def deployer(accounts: Accounts) -> Account:
    return accounts[0]


@pytest.fixture(scope="session")
def payer(accounts: Accounts) -> Account:
    return accounts[1]


@pytest.fixture(scope="session")
def payee(accounts: Accounts) -> Account:
    return accounts[2]


@pytest.fixture(scope="session")
def signer(accounts: Accounts) -> Account:
    return accounts[3]


@pytest.fixture(scope="session")
def stranger(accounts: Accounts) -> Account:
    return accounts[4]


@pytest.fixture(scope="session")
def operator(accounts: Accounts) -> Account:
    return accounts[5]


@pytest.fixture(scope="session")
def node_key(accounts: Accounts) -> Account:
    return accounts[6]


@pytest.fixture(scope="session")
def slasher(accounts: Accounts) -> Account:
    """Stands where the contracts of disputes will: the registry only looks at the address."""
    return accounts[7]


@pytest.fixture(scope="session")
def token(deploy: Deploy, deployer: Account, payer: Account, operator: Account) -> Contract:
    token = deploy("HyperToken", deployer, 1_000_000 * HCT)
    for account in (payer, operator):
        token.transfer(account, 10_000 * HCT, sender=deployer)
    return token


@pytest.fixture(scope="session")
def channels(deploy: Deploy, payer: Account, token: Contract) -> Contract:
    channels = deploy("PaymentChannels", token, 3600)
    token.approve(channels, UNLIMITED, sender=payer)
    return channels


@pytest.fixture(scope="session")
def registry(
    deploy: Deploy, deployer: Account, token: Contract, operator: Account, slasher: Account
) -> Contract:
    registry = deploy("StakingRegistry", token, 7 * DAY, 100 * HCT, 6 * HCT)
    registry.setSlashers([slasher], sender=deployer)
    token.approve(registry, UNLIMITED, sender=operator)
    return registry


@pytest.fixture(scope="session")
def court(deploy: Deploy, accounts: Accounts, deployer: Account, token: Contract) -> "Court":
    """Disputes over the work of one node, with six verifiers on the list and committees of three."""
    from tests.contracts.court import Court

    return Court(deploy, accounts, deployer, token)


@pytest.fixture(scope="module", params=[3, 5, 7])
def sized(
    request: pytest.FixtureRequest,
    deploy: Deploy,
    accounts: Accounts,
    deployer: Account,
    token: Contract,
    court: "Court",
    stranger: Account,  # like the court: what comes for all tests has to come before what comes for some
) -> "Court":
    """Disputes in committees of three, five (the default) and seven, with three verifiers more on the list."""
    from tests.contracts.court import TERMS, Court

    seats = request.param
    if seats == TERMS["seats"]:
        return court
    return Court(deploy, accounts, deployer, token, TERMS | {"seats": seats}, verifiers=seats + 3)


@pytest.fixture(scope="session")
def desk(channels: Contract, payer: Account, payee: Account, signer: Account) -> "Desk":
    return Desk(channels, payer, payee, signer)


@pytest.fixture
def drawn(court: "Court") -> tuple[int, list[Account]]:
    """A case and its committee."""
    case = court.open()
    return case, court.draw(case)


@pytest.fixture
def sleep(chain: Chain) -> Sleep:
    """Let seconds pass before the next block."""

    def sleep(seconds: int) -> None:
        chain.pending_timestamp += seconds

    return sleep


def events(receipt: Receipt) -> list[tuple[str, dict[str, Any]]]:
    """What a transaction logged: [(event, {field: value})]."""
    return [(log.event_name, dict(log.event_arguments)) for log in receipt.events]


class Desk:
    """Channels from `payer` to `payee`, told apart by their salt, with `signer` at hand."""

    def __init__(self, channels: Contract, payer: Account, payee: Account, signer: Account) -> None:
        self.channels, self.payer, self.payee, self.signer = channels, payer, payee, signer

    def descriptor(self, salt: int = 0) -> Descriptor:
        """The channel as contract calls take it."""
        return (self.payer.address, self.payee.address, self.signer.address, salt.to_bytes(32, "big"))

    def id(self, channel: Descriptor) -> bytes:
        return self.channels.channelIdOf(channel)

    def open(self, salt: int = 0, deposit: int = 10 * HCT) -> Descriptor:
        self.channels.open(*self.descriptor(salt)[1:], deposit, sender=self.payer)
        return self.descriptor(salt)

    def sign(
        self, channel: Descriptor, cumulative: int, account: Account | None = None, **other: Any
    ) -> Signature:
        """Signature (v, r, s) of a voucher, by the channel's signer unless told otherwise."""
        key = (account or self.signer).private_key
        return sign_voucher(key, self.channels.address, self.id(channel), cumulative, **other)

    def voucher(self, channel: Descriptor, cumulative: int) -> bytes:
        """Compact signature of a voucher."""
        return compact(self.sign(channel, cumulative))

    def claim(
        self, channel: Descriptor, cumulative: int, signature: Signature | None = None
    ) -> tuple[Any, ...]:
        """A row for settleBatch."""
        payer, _, signer, salt = channel
        return (payer, signer, salt, cumulative, *words(signature or self.sign(channel, cumulative)))

    def figures(self, channel: Descriptor) -> tuple[int, ...]:
        """(settled, deposit, closeAt, status)."""
        return tuple(self.channels.channels(self.id(channel)))
