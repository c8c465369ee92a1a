"""What is besieged in these tests: nodes as processes, on a chain that they have for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hypercluster.node.testnet.localnet import LocalNetwork
    from tests.siege.target import Target


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """A chain and a tiny model, made once; nodes are started on it with nodes.running_target and running_judge."""
    from tests.siege.nodes import running_field

    with running_field(tmp_path_factory.mktemp("siege")) as network:
        yield network


@pytest.fixture(scope="module")
def besieged(field: LocalNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A provider of the whole model with 4 sessions, a process of its own for each module of tests."""
    from tests.siege.nodes import running_target

    name = tmp_path_factory.mktemp("besieged").name
    with running_target(field, name) as target:
        yield target


@pytest.fixture(scope="module")
def judging(
    field: LocalNetwork, besieged: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A verifier beside it, a process of its own for each module of tests."""
    from tests.siege.nodes import running_judge

    name = tmp_path_factory.mktemp("judging").name
    with running_judge(field, name) as target:
        yield target
