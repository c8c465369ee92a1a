"""The twin of a model tells, without its weights, whether shards of it are exact."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hypercluster.node.engine import exactness
from hypercluster.node.engine.exactness import Inexact, check_exactness, paths_over
from hypercluster.node.shards import InvalidRange, UnsupportedModel, demo_model
from hypercluster.node.shards.writing import text, write_gguf
from tests.models.headers import HEADERS, write_header


def test_paths_over_a_model_cross_every_boundary_where_a_range_may_begin() -> None:
    for layers, starts in ((1, None), (2, None), (8, None), (61, None), (8, (0, 3, 5)), (8, (0,))):
        allowed = set(range(layers)) if starts is None else set(starts)
        paths = paths_over(layers, starts)
        crossed = {edge for edges in paths for edge in edges[:-1]}
        assert crossed == allowed
        assert all(
            edges[0] == 0 and edges[-1] == layers and list(edges) == sorted(set(edges)) for edges in paths
        )


@pytest.mark.parametrize("name", HEADERS)
def test_shards_of_big_models_are_exact(name: str, tmp_path: Path) -> None:
    """By their metadata alone; along one path here, along all with scripts/twins.py."""
    header = write_header(tmp_path / "header.gguf", name)
    assert header.stat().st_size < 1 << 16
    meta = HEADERS[name][1]
    layers = meta["block_count"] - meta.get("nextn_predict_layers", 0)
    result = check_exactness(header, (0, 1, layers // 2, layers))
    assert (result.architecture, result.layers) == (HEADERS[name][0], layers)


def test_a_model_with_weights_is_judged_wherever_a_range_may_begin() -> None:
    told: list[int] = []
    result = check_exactness(demo_model(), progress=told.append)
    assert result.paths[0] == tuple(range(9))
    assert len(told) == len(result.paths) == 3


def test_a_rule_that_does_not_hold_is_found_with_its_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gpt-oss without what is known of its sliding windows: shards would be silently wrong."""
    from hypercluster.node.engine import twin_running
    from hypercluster.node.shards import rules

    header = write_header(tmp_path / "header.gguf", "gpt-oss-120b", block_count=6)
    naive = dataclasses.replace(rules.RULES["gpt-oss"], sliding=None)
    monkeypatch.setitem(rules.RULES, "gpt-oss", naive)
    runner = twin_running.Runner(header, tmp_path, lambda _doing: None)
    assert runner.difference((0, 1, 6)) > 0.01
    assert runner.difference((0, 6)) == 0
    said = [{"difference": 0.0, "at": 0}, {"difference": 0.5, "at": 3}]
    monkeypatch.setattr(exactness, "_run", lambda *_: said)
    with pytest.raises(Inexact, match=r"header\.gguf.*begins at layer 3 differs by 0\.5"):
        check_exactness(header)


def test_what_llama_cpp_does_not_survive_is_a_sentence(tmp_path: Path) -> None:
    header = write_header(tmp_path / "header.gguf", "gpt-oss-120b", rope__scaling__type=7)
    with pytest.raises(Inexact, match=r"header\.gguf: llama\.cpp .* the model's twin, making its twin"):
        check_exactness(header, (0, 36))
    header = write_header(
        tmp_path / "header.gguf", "gpt-oss-120b", expert_shared_count=1 << 31, block_count=2
    )
    check = pytest.raises((Inexact, UnsupportedModel))
    with check as refused:
        check_exactness(write_header(header, "GLM-4.5", expert_shared_count=(1 << 31) - 1), (0, 92))
    assert str(header) in str(refused.value)


def test_what_has_no_exact_shards_is_refused_before(tmp_path: Path) -> None:
    header = write_header(tmp_path / "header.gguf", "gpt-oss-120b")
    with pytest.raises(InvalidRange, match="36"):
        check_exactness(header, (0, 37))
    other = write_gguf(tmp_path / "other.gguf", {"general.architecture": text("talkie")}, ())
    with pytest.raises(UnsupportedModel, match="talkie"):
        check_exactness(other)


def test_the_command_judges_a_header(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from hypercluster.node.cli.model.app import app

    header = write_header(tmp_path / "header.gguf", "gpt-oss-120b", block_count=4)
    done = CliRunner().invoke(app, ["check", str(header), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["exact"] is True
    assert document["begins"] == [0, 1, 2, 3]
