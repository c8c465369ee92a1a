"""hc-model as a user runs it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.cli.model.checking import path_through
from hypercluster.node.shards import Manifest, check_shard, check_source
from hypercluster.node.shards.certificate import Certificate
from hypercluster.node.shards.writing import text, uint32
from tests.node.helpers.random_models import Shape, rewritten, write_random_model

SMALL = Shape(layers=3, n_embd=64, n_ff=64, n_vocab=300, context=128, tied=True, rope_freqs=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("source") / "model.gguf", SMALL)


def hc_model(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from hypercluster.node.cli.model import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("command", ["inspect", "manifest", "split", "check", "wire"])
def test_help_teaches_with_an_example(command: str) -> None:
    assert f"Example: hc-model {command} " in hc_model(command, "--help").stdout


def test_inspect_tells_what_is_there(source: Path) -> None:
    shown = hc_model("inspect", source).stdout
    assert "can be split" in shown
    assert "layers 0:3, each" in shown
    document = json.loads(hc_model("inspect", source, "--json").stdout)
    assert document["supported"] is True
    assert "no chat template" in document["chat_reason"]
    assert (document["layers"], document["n_embd"], document["n_vocab"]) == (3, 64, 300)
    parts = sum(document["part_bytes"].values()) + sum(document["layer_bytes"])
    assert parts - document["part_bytes"]["embedding"] == sum(
        row["bytes"] for row in document["types"].values()
    )


def test_inspect_explains_what_cannot_be_split(source: Path, tmp_path: Path) -> None:
    path = rewritten(
        source, tmp_path / "[b]x.gguf", metadata={"general.architecture": text("[/red]\x1b[31mmamba")}
    )
    assert "is none of the" in " ".join(hc_model("inspect", path, code=3).stdout.split())
    document = json.loads(hc_model("inspect", path, "--json", code=3).stdout)
    assert document["supported"] is False
    assert "mamba" in document["reason"]
    assert document["error"] == document["reason"]


def test_split_writes_a_folder_that_checks_out(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    document = json.loads(hc_model("split", source, "--split", "0:1,1:3", "-o", folder, "--json").stdout)
    manifest = Manifest.load(folder / "manifest.json")
    assert document["model_id"] == manifest.model_id
    assert [row["layers"] for row in document["shards"]] == [[0, 1], [1, 3]]
    for row in document["shards"]:
        check_shard(Path(row["path"]), manifest, *row["layers"])
    assert (folder / "vocab.gguf").exists()
    assert manifest.model_id in hc_model("split", source, "--layers", "0:2", "-o", folder).stdout
    assert manifest.model_id in hc_model("split", source, "--parts", "3", "-o", folder).stdout
    assert len(list(folder.glob("layers-*.gguf"))) == 5
    assert not list(folder.glob(".*"))

    other = write_random_model(tmp_path / "other.gguf", Shape(layers=1, n_embd=32, n_ff=32))
    refused = hc_model("split", other, "--parts", "1", "-o", folder, code=1)
    assert "belongs to another model" in refused.stderr


def test_split_writes_nothing_that_the_twin_refuses(source: Path, tmp_path: Path) -> None:
    odd = rewritten(source, tmp_path / "odd.gguf", metadata={"llama.expert_count": uint32(4)})
    folder = tmp_path / "shards"
    refused = hc_model("split", odd, "--parts", 2, "-o", folder, code=1)
    assert "llama.cpp does not take the model's twin" in refused.stderr
    assert not folder.exists()
    hc_model("split", odd, "--parts", 2, "--no-check", "-o", folder)
    assert len(list(folder.glob("layers-*.gguf"))) == 2


@pytest.mark.parametrize(
    ("ranges", "starts", "path"),
    [
        ([(0, 8)], None, (0, 8)),
        ([(2, 5)], None, (0, 2, 5, 8)),
        ([(0, 3), (3, 8)], None, (0, 3, 8)),
        ([(2, 5)], (0, 2, 6), (0, 2, 8)),
    ],
)
def test_a_path_goes_through_the_ranges_and_may_begin_where_the_model_says(
    ranges: list[tuple[int, int]], starts: tuple[int, ...] | None, path: tuple[int, ...]
) -> None:
    assert path_through(ranges, 8, starts) == path


def test_manifest_prints_or_writes(source: Path, tmp_path: Path) -> None:
    printed = hc_model("manifest", source).stdout
    manifest = Manifest.parse(printed.encode())
    shown = hc_model("manifest", source, "-o", tmp_path / "manifest.json").stdout
    assert manifest.model_id in shown
    assert Manifest.load(tmp_path / "manifest.json") == manifest


def test_check_compares_and_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    arguments = ("check", source, "--split", "0:1,1:3", "--tokens", 6, "--threads", 1, "--prompt", "the then")
    document = json.loads(hc_model(*arguments, "--json").stdout)
    assert document["identical"] is True
    assert document["max_difference"] == 0.0
    assert document["split"] == document["unsplit"]
    assert len(document["split"]) == 6
    assert document["ranges"] == [[0, 1], [1, 3]]
    shown = hc_model(*arguments).stdout
    assert "greedy ids equal: yes" in shown
    assert "maximum absolute logit difference: 0.0" in shown
    assert list(tmp_path.iterdir()) == []


def test_check_works_without_a_vocabulary(tmp_path: Path) -> None:
    path = write_random_model(
        tmp_path / "bare.gguf", Shape(layers=2, vocabulary=False, quantisation=Type.Q4_0)
    )
    assert json.loads(
        hc_model("check", path, "--split", "0:1,1:2", "--tokens", 3, "--threads", 1, "--json").stdout
    )["identical"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("split", "{}", "--parts", 9, "-o", "{}.d"), "cannot be cut into 9"),
        (("split", "{}", "--layers", "2:9", "-o", "{}.d"), "do not exist"),
        (("split", "{}", "--parts", 1, "-o", "{}/x"), "cannot be written"),
        (("check", "{}", "--split", "0:1,2:3"), "leaves a gap"),
        (("check", "{}", "--split", "0:3", "--tokens", 500), "context"),
        (("inspect", "{}.nothing"), "cannot be read"),
        (("manifest", __file__), "no GGUF file"),
    ],
)
def test_errors_are_one_sentence(source: Path, arguments: tuple[object, ...], reason: str) -> None:
    done = hc_model(*(str(argument).format(source) for argument in arguments), code=1)
    assert reason in done.stderr
    assert done.stdout == ""
    assert check_source(source)
    assert "exactly one of" in hc_model("split", source, "-o", f"{source}.d", code=2).stderr


def test_what_rounded_rows_do_to_a_model_is_measured_and_kept(source: Path, tmp_path: Path) -> None:
    text, folder = tmp_path / "text.txt", tmp_path / "figures"
    text.write_text((Path(__file__).resolve().parents[3] / "docs" / "verification.md").read_text()[:16_000])
    arguments = ("wire", source, "--text", text, "--tokens", 1000, "--threads", 1, "-o", folder)
    told = json.loads(hc_model(*arguments, "--json").stdout)
    rows = {(row["dtype"], row["cuts"]): row for row in told["figures"]}
    assert rows.keys() == {("f16", 1), ("q8", 1)}
    for row in rows.values():
        assert row["tokens"] == 1000
        assert row["agreement"] > 0.8
        assert row["perplexity"] == pytest.approx(row["plain"], rel=0.02)
    # f16 has three bits more than q8.
    assert rows["f16", 1]["agreement"] >= rows["q8", 1]["agreement"]
    kept = Certificate.load(folder / "wire.json", told["model_id"])
    assert sorted(kept.certified) == told["certified"]
    assert [row["harmless"] for row in told["figures"]] == [each.harmless for each in kept.figures]
    text.write_text("too short")
    assert "1000 at least" in hc_model(*arguments, code=1).stderr
    text.unlink()
    assert "cannot be read" in hc_model(*arguments, code=1).stderr
