"""A chain and a small model for every test that wants one, made once per run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain, Deployment
    from hypercluster.node.shards.store import StoredModel
    from tests.node.helpers.gateways import FrontDoor

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
    """The same, opened."""
    from hypercluster.node.shards.store import open_model

    return open_model(tiny_model, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file of SmolLM2, a real model that chats; fetched once per machine."""
    from hypercluster.node.catalogue import SMOLLM2
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.shards import FetchFailed, fetch

    assert SMOLLM2.source is not None
    try:
        return fetch(SMOLLM2.source, Settings().cache_folder)
    except FetchFailed as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


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
