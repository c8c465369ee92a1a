"""A whole network on this machine: Anvil, the contracts, and provider processes. For demo, tests and benchmarks."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Generic, TypeVar

import coincurve
from eth_account import Account

from hypercluster.market.chain import LOCAL_TERMS, Chain, Deployment, DisputeTerms, Sender, deploy
from hypercluster.market.money.keystore import load_key
from hypercluster.market.money.units import HCT, in_token
from hypercluster.node.errors import NodeError
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.running import RUNNING
from hypercluster.node.home.settings import LEDGER, PEERS, VOUCHERS, Settings
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from hypercluster.node.testnet.faucet import give
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec

START_SECONDS, STOP_SECONDS, LOOK_SECONDS = 300.0, 60.0, 0.01
# The keys guard play money and are unlocked by many processes at once.
LIGHT_SCRYPT = 2**10
STAKE = 100 * HCT
LOG = "log"  # file in a node's home with what it printed
MOST_LOG_BYTES = 16 * 2**20
OF_A_CHAIN = (f"{LEDGER}*", f"{VOUCHERS}*", PEERS)
"""files in a home that are of no use with another chain"""


class LocalNetworkError(NodeError):
    """A process of the local network did not start."""


NodeSpec = TypeVar("NodeSpec", bound=ProviderSpec | VerifierSpec, covariant=True)


@dataclass(eq=False)
class NodeProcess(Generic[NodeSpec]):
    """A running `hc-provider run` or `hc-verifier run`."""

    spec: NodeSpec
    home: Path
    operator: str
    process: subprocess.Popen[bytes]
    peer: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def log(self) -> str:
        """What it printed so far."""
        return (self.home / LOG).read_text(errors="replace")

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.process.terminate()

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait()


ProviderProcess = NodeProcess[ProviderSpec]
VerifierProcess = NodeProcess[VerifierSpec]


def trim(file: Path) -> None:
    """Empty a log that is longer than MOST_LOG_BYTES: whoever appends to it goes on at its beginning."""
    with suppress(OSError):
        if file.stat().st_size > MOST_LOG_BYTES:
            os.truncate(file, 0)


@dataclass(eq=False)
class LocalNetwork:
    """What runs: the chain, the providers and verifiers, and the settings with which a client joins."""

    home: Path
    url: str
    chain: Chain
    providers: list[ProviderProcess] = field(default_factory=list)
    verifiers: list[VerifierProcess] = field(default_factory=list)

    @property
    def nodes(self) -> list[ProviderProcess | VerifierProcess]:
        """All that were started."""
        return [*self.providers, *self.verifiers]

    @property
    def deployment_file(self) -> Path:
        """Addresses of the contracts."""
        return self.home / "deployment.json"

    @property
    def password_file(self) -> Path:
        """Password of all keys of this network."""
        return self.home / "password"

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """Addresses to join through."""
        return self.providers[0].addresses if self.providers else ()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a process of this network whose keys and ledger are in `home`."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("HC_")},
            "HC_HOME": str(home),
            "HC_RPC_URL": self.url,
            "HC_DEPLOYMENT": str(self.deployment_file),
            "HC_PASSWORD_FILE": str(self.password_file),
            **({"HC_BOOTSTRAP": ",".join(self.bootstrap)} if self.bootstrap else {}),
            "HC_LOG_LEVEL": os.environ.get("HC_LOG_LEVEL", "WARNING"),
        }

    def settings(self, home: Path) -> Settings:
        """The same for this process."""
        return Settings(
            home=home,
            rpc_url=self.url,
            deployment=self.deployment_file,
            bootstrap=self.bootstrap,
            password_file=self.password_file,
            profile=None,
        )

    def client(self, hct: int, name: str = "client") -> Settings:
        """Make a client with `hct` wei of HCT in its wallet and return its settings."""
        home = self.home / name
        self._keys(home, keys.CLIENT)
        give(self.chain, keys.address(home, Key.WALLET), hct)
        return self.settings(home)

    def enlist(self, name: str, sessions: int = 1) -> tuple[Path, str]:
        """Make a node's keys, stake for so many sessions and authorise its key; returns its home and operator."""
        home = self.home / name
        self._keys(home, keys.PROVIDER)
        secret = self.password_file.read_text()
        held, node = (load_key(keys.key_file(home, key), secret) for key in (Key.OPERATOR, Key.NODE))
        operator = Sender(self.chain, held)
        stake = max(in_token(STAKE), sessions * self.chain.staking.session_stake)
        for address, amount in ((operator.address, stake), (node.address, 0)):
            give(self.chain, address, amount)
        self.chain.staking.stake(operator, stake)
        self.chain.staking.authorize(operator, coincurve.PrivateKey(bytes(node.key)), stake)
        return home, operator.address

    def start(self, spec: ProviderSpec, home: Path, operator: str, *, model: Path) -> ProviderProcess:
        """Start `hc-provider run`; `wait` says when it is ready."""
        provider = NodeProcess(spec, home, operator, self._spawn(spec, home, model))
        self.providers.append(provider)
        return provider

    def start_verifier(
        self, spec: VerifierSpec, home: Path, operator: str, *, model: Path
    ) -> VerifierProcess:
        """Start `hc-verifier run`; `wait` says when it is ready."""
        verifier = NodeProcess(spec, home, operator, self._spawn(spec, home, model))
        self.verifiers.append(verifier)
        return verifier

    def _spawn(self, spec: ProviderSpec | VerifierSpec, home: Path, model: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *spec.command()]
        command += ["--model", str(model), "--listen", "/ip4/127.0.0.1/tcp/0"]
        (home / RUNNING).unlink(missing_ok=True)
        trim(home / LOG)
        environment = self.environment(home)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        output: IO[bytes]
        with (home / LOG).open("ab") as output:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches it from us, in our order, not from the terminal.
                start_new_session=True,
            )

    def wait(self, provider: ProviderProcess | VerifierProcess) -> None:
        """Return when it serves. Raises LocalNetworkError with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up(provider):
            if provider.process.poll() is not None or time.monotonic() > deadline:
                tail = provider.log.strip()[-600:]
                raise LocalNetworkError(f"The {provider.spec.name} did not start: {tail}")
            time.sleep(LOOK_SECONDS)

    def is_up(self, node: ProviderProcess | VerifierProcess) -> bool:
        """Whether it serves; if so, its peer id and addresses are known from now on."""
        marker = node.home / RUNNING
        if not marker.exists():
            return False
        state = json.loads(marker.read_text())
        node.peer, node.addresses = state["peer"], tuple(state["addresses"])
        return True

    def trim_logs(self) -> None:
        """Empty the logs that have become too long; their nodes go on writing."""
        for node in self.nodes:
            trim(node.home / LOG)

    def lost(self) -> dict[str, int]:
        """What each node, by its peer id, has lost of its stake, in wei."""
        stakes = {node.peer: self.chain.staking.stake_of(node.operator) for node in self.nodes}
        return {peer: STAKE - stake.active - stake.thawing for peer, stake in stakes.items()}

    def stop(self) -> None:
        """End all nodes; those that do not end by themselves are killed."""
        for node in self.nodes:
            node.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for node in self.nodes:
            try:
                node.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.kill()

    def _keys(self, home: Path, wanted: Sequence[Key]) -> None:
        for key in wanted:
            if not keys.key_file(home, key).exists():
                keys.create(home, key, self.password_file.read_text(), work=LIGHT_SCRYPT)


@contextmanager
def running_chain(
    home: Path, *, grace_seconds: int = 60, unbonding_seconds: int = 400, terms: DisputeTerms = LOCAL_TERMS
) -> Iterator[LocalNetwork]:
    """A fresh chain with the contracts, and no providers yet. Keys in `home` are used again, ledgers are not.

    Raises:
        AnvilError, ChainError.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url = stack.enter_context(running_anvil())
        # Every run has a chain of its own.
        for name in OF_A_CHAIN:
            for told in home.glob(f"*/{name}"):
                told.unlink()
        deployment = deploy(
            url,
            Account.from_key(DEPLOYER_KEY),
            min_stake=STAKE,
            grace_seconds=grace_seconds,
            unbonding_seconds=unbonding_seconds,
            terms=terms,
        )
        deployment.save(home / "deployment.json")
        network = LocalNetwork(home, url, Chain(url, Deployment.load(home / "deployment.json")))
        if not network.password_file.exists():
            network.password_file.write_text(secrets.token_urlsafe(16))
            network.password_file.chmod(0o600)
        stack.callback(network.stop)
        yield network


@contextmanager
def running_network(
    home: Path,
    specs: Sequence[ProviderSpec],
    *,
    model: Path,
    verifiers: Sequence[VerifierSpec] = (),
    grace_seconds: int = 60,
    terms: DisputeTerms = LOCAL_TERMS,
    on_started: Callable[[ProviderProcess | VerifierProcess], None] = lambda node: None,
) -> Iterator[LocalNetwork]:
    """A chain, and providers and verifiers that have all started; everything ends with the block.

    Raises:
        LocalNetworkError: one did not start.
        AnvilError, ChainError.
    """
    thaw = max(400, terms.longest_seconds)
    with running_chain(home, grace_seconds=grace_seconds, unbonding_seconds=thaw, terms=terms) as network:
        names = [f"provider-{i + 1}" for i in range(len(specs))]
        names += [f"verifier-{i + 1}" for i in range(len(verifiers))]
        told = [int(dict(pairwise(spec.flags)).get("--sessions", "1")) for spec in specs]
        with ThreadPoolExecutor(4) as pool:
            enlisted = list(pool.map(network.enlist, names, told + [1] * len(verifiers)))
        for index, (spec, (node_home, operator)) in enumerate(zip(specs, enlisted, strict=False)):
            provider = network.start(spec, node_home, operator, model=model)
            if index == 0:
                # The others join through it.
                network.wait(provider)
                on_started(provider)
        for judge, (node_home, operator) in zip(verifiers, enlisted[len(specs) :], strict=True):
            network.start_verifier(judge, node_home, operator, model=model)
        for node in network.nodes[1:]:
            network.wait(node)
            on_started(node)
        yield network
