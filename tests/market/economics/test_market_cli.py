from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hypercluster.market.economics.advert_file import AdvertFile, BadAdvertFile, load_adverts, save_adverts
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.simulation.experiments import NoExperiment, Setup, run_experiment
from hypercluster.node.cli.market.app import app

TEXT = """{
 "layers": 6,
 "market": {"alpha": 0.5, "p_ref": 1000000000000, "c_ref": 10.0, "temperature": 1.0, "outside_weight": 8.0},
 "adverts": [
  {"id": "head-cheap", "start": 0, "stop": 3, "price_wei": 500000000000, "cost_ms": 20.0},
  {"id": "head-fast", "start": 0, "stop": 3, "price_wei": 2000000000000, "cost_ms": 4.0},
  {"id": "tail", "start": 3, "stop": 6, "price_wei": 900000000000, "cost_ms": 6.0, "latency_ms": 1.5},
  {"id": "whole", "start": 0, "stop": 6, "price_wei": 4000000000000, "cost_ms": 9.0}
 ]
}
"""


@pytest.fixture
def adverts(tmp_path: Path) -> Path:
    file = tmp_path / "market.json"
    file.write_text(TEXT)
    return file


def call(*args: object) -> Any:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_path(adverts: Path) -> None:
    found = call("path", "--adverts", adverts, "--alpha", 0.9, "--json")
    assert found["nodes"] == ["head-cheap", "tail"]
    assert found["price_wei"] == 1_400_000_000_000
    assert found["ms"] == pytest.approx(29.0)
    assert found["weight"] == pytest.approx(0.9 * 1.4 + 0.1 * 2.9)
    assert call("path", "--adverts", adverts, "--alpha", 0.1, "--json")["nodes"] == ["whole"]


def test_several_paths_and_limits(adverts: Path) -> None:
    several = call("path", "--adverts", adverts, "--k", 3, "--json")
    assert [set(path) for path in several] == [{"weight", "price_wei", "ms", "nodes"}] * 3
    disjoint = call("path", "--adverts", adverts, "--k", 3, "--share", 0, "--json")
    assert [path["nodes"] for path in disjoint] == [["head-fast", "tail"], ["whole"]]
    limited = call("path", "--adverts", adverts, "--alpha", 1, "--max-ms", 15, "--json")
    assert limited["nodes"] == ["head-fast", "tail"]


def test_frontier_marginals_and_price(adverts: Path) -> None:
    frontier = call("frontier", "--adverts", adverts, "--json")
    assert [set(point) for point in frontier] == [{"price_wei", "ms", "nodes"}] * 3
    chances = call("marginals", "--adverts", adverts, "--json")
    assert set(chances) == {"head-cheap", "head-fast", "tail", "whole"}
    assert chances["head-cheap"] + chances["head-fast"] == pytest.approx(chances["tail"])
    priced = call("price", "--adverts", adverts, "--peer", "tail", "--json")
    assert set(priced) == {"price_wei", "revenue", "gradient", "best_response_wei"}
    assert (priced["best_response_wei"] > priced["price_wei"]) == (priced["gradient"] > 0)


@pytest.mark.parametrize("command", [["path"], ["frontier"], ["marginals"], ["price", "--peer", "tail"]])
def test_people_get_a_table(adverts: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--adverts", str(adverts)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "tail" in result.stdout


@pytest.mark.parametrize("what", ["dag", "frontier", "revenue"])
@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_pictures(adverts: Path, tmp_path: Path, what: str, suffix: str) -> None:
    to = tmp_path / f"picture.{suffix}"
    args = ["plot", what, "--adverts", str(adverts), "--to", str(to), "--peer", "tail"]
    assert CliRunner().invoke(app, args, catch_exceptions=False).exit_code == 0
    assert to.stat().st_size > 2000


def test_a_file_survives_saving_and_loading(tmp_path: Path) -> None:
    nodes = (Node("a", 0, 2, 7, 1.5, 2.0, 3, 8, 5, 0.5, 0.25, 0.125, 512, 64), Node("b", 2, 4, 9, 2.5))
    market = MarketParameters(outside_weight=float("inf"), risk_weight=0.5)
    file = AdvertFile(4, nodes, {("a", "b"): 3.5}, market)
    save_adverts(tmp_path / "f.json", file)
    assert load_adverts(tmp_path / "f.json") == file


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ('"cost_ms": 4.0', '"cost_ms": -4.0', 6, "adverts.1.cost_ms"),
        ('"cost_ms": 4.0', '"cost_ms": "4"', 6, "adverts.1.cost_ms"),
        ('"price_wei": 900000000000, ', "", 7, "adverts.2.price_wei"),
        ('"stop": 6, "price_wei": 4', '"stop": 7, "price_wei": 4', 8, "adverts.3.stop"),
        ('"head-fast"', '"head-cheap"', 6, "adverts.1.id"),
        ('"price_wei": 2000000000000', '"price_wei": 0.5', 6, "adverts.1.price_wei"),
        ('"latency_ms"', '"latency"', 7, "adverts.2.latency"),
        ('"latency_ms": 1.5', '"risk": -1.5', 7, "adverts.2.risk"),
        ('"latency_ms": 1.5', '"session_tokens": 0', 7, "adverts.2.session_tokens"),
        ('"alpha": 0.5', '"risk_weight": -0.5', 3, "market.risk_weight"),
        ('"alpha": 0.5', '"alpha": 1.5', 3, "market.alpha"),
        ('"layers": 6', '"layers": 0', 2, "layers"),
        ('"cost_ms": 9.0}', '"cost_ms": 9.0', 9, "not JSON"),
        ('"cost_ms": 9.0}', '"cost_ms": NaN}', 8, "adverts.3.cost_ms"),
    ],
)
def test_bad_files_are_refused_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, field: str
) -> None:
    assert TEXT.count(old) == 1 or old.startswith('"head')
    file = tmp_path / "bad.json"
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(BadAdvertFile) as caught:
        load_adverts(file)
    assert f"line {line}" in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff\xfe", b'{"layers": 1}', b"[" * 5000], ids=len)
def test_nonsense_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(BadAdvertFile, match=r"bad\.json"):
        load_adverts(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadAdvertFile, match="cannot be read"):
        load_adverts(tmp_path / "none.json")


def test_a_simulation_writes_its_run_and_repeats(tmp_path: Path) -> None:
    args = ["simulate", "--providers", 50, "--layers", 8, "--ticks", 10, "--sessions", 5, "--json"]
    first = call(*args, "--out", tmp_path / "run.csv", "--plot", tmp_path / "run.svg")
    assert (tmp_path / "run.csv").read_text().count("\n") == 11
    assert (tmp_path / "run-providers.csv").exists()
    assert (tmp_path / "run.svg").stat().st_size > 2000
    assert call(*args) == first
    assert first["tokens_per_s"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["paper", "equilibrium", "earnings", "shocks", "alternatives", "deterrence", "slander", "disputes"],
)
def test_experiments_run_small(tmp_path: Path, name: str) -> None:
    found = call("simulate", "--experiment", name, "--effort", 0.02, "--out", tmp_path, "--json")
    assert all(rows for rows in found.values())
    assert list(tmp_path.glob("*.svg"))


def test_an_unknown_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoExperiment, match="paper, equilibrium"):
        run_experiment("none", Setup(tmp_path))
    result = CliRunner().invoke(app, ["simulate", "--experiment", "none", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "shocks" in result.output
