"""Contracts are checked before any money moves, by whatever opens the chain, and once for all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.market.chain import Chain, Deployment
from hypercluster.market.errors import ChainError
from hypercluster.node.home.contracts import CHECKED, WrongContracts, check_contracts
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings
from tests.market.proxy import Answer, proxy


def opened(deployment: Deployment, folder: Path, url: str) -> Chain:
    deployment.save(folder / "deployment.json")
    return open_chain(Settings(home=folder, rpc_url=url, deployment=folder / "deployment.json"))


def test_those_that_are_well_are_remembered(deployment: Deployment, anvil: str, tmp_path: Path) -> None:
    asked: list[str] = []

    def count(method: str, ask: Callable[[], bytes]) -> Answer:
        asked.append(method)
        return 200, ask()

    with proxy(anvil, count) as url:
        assert opened(deployment, tmp_path, url).deployment.code == deployment.code
        assert asked.count("eth_getCode") == len(deployment.code) == 6
        opened(deployment, tmp_path, url)
        assert asked.count("eth_getCode") == 6
        (tmp_path / CHECKED).write_text('{"nonsense": [')
        opened(deployment, tmp_path, url)
        assert asked.count("eth_getCode") == 12


def test_those_that_are_others_are_refused(deployment: Deployment, anvil: str, tmp_path: Path) -> None:
    opened(deployment, tmp_path, anvil)
    code = deployment.code
    for wrong, words in (
        (replace(deployment, channels=deployment.token), "channels"),
        (replace(deployment, token="0x" + "11" * 20), "no contract at"),
        (replace(deployment, code=code | {"cases": "0" * 64}), "The code of the cases"),
        (
            replace(deployment, code={}, demands=deployment.proofs, proofs=deployment.demands),
            "demands|proofs",
        ),
    ):
        for _ in range(2):
            with pytest.raises(WrongContracts, match=words):
                opened(wrong, tmp_path, anvil)


def test_a_file_of_an_older_version_is_taken_with_a_warning(
    deployment: Deployment, anvil: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(replace(deployment, code={}), tmp_path, anvil)
    path = tmp_path / "deployment.json"
    older = {name: value for name, value in json.loads(path.read_text()).items() if name != "code"}
    path.write_text(json.dumps(older))
    (tmp_path / CHECKED).unlink()
    with caplog.at_level(logging.WARNING):
        check_contracts(Chain(anvil, Deployment.load(path)), tmp_path)
    assert "says nothing of the contracts' code" in caplog.text


@pytest.mark.parametrize("code", [{"token": "0" * 64}, {"token": 5}, [], "text", {"nobody": "00"}])
def test_hashes_that_are_none(deployment: Deployment, tmp_path: Path, code: object) -> None:
    path = tmp_path / "deployment.json"
    deployment.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": code}))
    with pytest.raises(ChainError, match="cannot be used"):
        Deployment.load(path)
