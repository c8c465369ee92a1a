"""Of how many decimals amounts are: as the deployment file or the profile of the settings says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.market.chain import Chain, Deployment
from hypercluster.market.errors import ChainError
from hypercluster.market.money.units import IN_HCT, Unit, pay_in, unit
from hypercluster.node.errors import NodeError
from hypercluster.node.home.contracts import WrongContracts
from hypercluster.node.home.profile import profile_of
from hypercluster.node.home.resources import open_chain, told_unit
from hypercluster.node.home.settings import Settings


def test_the_deployment_file_or_the_profile_tells(
    tmp_path: Path, deployment: Deployment, chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HC_HOME", str(tmp_path))
    assert told_unit() == (18, "HCT")  # there is no network yet
    file, profile = tmp_path / "deployment.json", tmp_path / "profile.json"
    replace(deployment, decimals=6, symbol="PLN").save(file)
    monkeypatch.setenv("HC_DEPLOYMENT", str(file))
    assert told_unit() == Deployment.load(file).unit == (6, "PLN")
    older = json.loads(file.read_text())
    del older["decimals"], older["symbol"]
    file.write_text(json.dumps(older))
    assert told_unit() == Deployment.load(file).unit == (18, "HCT")
    for wrong in ("6", 5, 25, None, True, [6]):
        file.write_text(json.dumps(older | {"decimals": wrong}))
        assert told_unit() == IN_HCT
        with pytest.raises(ChainError, match="6 to 24 decimals"):
            Deployment.load(file)
    for wrong in ("", "\x1b[2J", "US DC", "USD\u20ae0", "A" * 13, None, 5, "[bold]"):
        file.write_text(json.dumps(older | {"symbol": wrong}))
        assert told_unit() == IN_HCT
        with pytest.raises(ChainError, match="The symbol of a token is 1 to 12 letters"):
            Deployment.load(file)
    replace(profile_of(chain, "others"), unit=Unit(8, "PLN")).save(profile)
    monkeypatch.delenv("HC_DEPLOYMENT")
    monkeypatch.setenv("HC_PROFILE", str(profile))
    assert told_unit() == (8, "PLN")
    document = json.loads(profile.read_text())
    document["chain"]["decimals"] = 3
    (tmp_path / "bad.json").write_text(json.dumps(document))
    monkeypatch.setenv("HC_PROFILE", str(tmp_path / "bad.json"))
    assert told_unit() == IN_HCT
    with pytest.raises(NodeError, match="6 to 24 decimals, not 3"):
        _ = Settings().network_profile


def test_a_deployment_that_is_wrong_about_its_token_opens_no_chain(
    tmp_path: Path, deployment: Deployment, anvil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deployment.json"
    settings = Settings(home=tmp_path, rpc_url=anvil, deployment=file, profile=None)
    replace(deployment, decimals=6).save(file)
    try:
        with pytest.raises(WrongContracts, match="has 18 decimals, and the deployment says 6"):
            open_chain(settings)
        deployment.save(file)
        open_chain(settings)
        assert unit() == (18, "HCT")
    finally:
        pay_in(IN_HCT)
