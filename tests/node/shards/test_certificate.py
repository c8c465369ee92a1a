"""Which types on the wire do a model no harm: as figures say that were measured, and nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hypercluster.node.shards.certificate import FILE, BadCertificate, Certificate, Figures, certified
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.rounding import certify

GOOD: dict[str, Any] = {
    "dtype": "q8", "cuts": 3, "tokens": 4096, "agreement": 0.995, "perplexity": 10.01, "plain": 10.0,
}  # fmt: skip


def of(*changes: dict[str, Any]) -> frozenset[str]:
    return Certificate("ab" * 32, tuple(Figures(**(GOOD | each)) for each in changes)).certified


@pytest.fixture
def stored(stored_tiny: StoredModel, tmp_path: Path) -> StoredModel:
    manifest: Manifest = stored_tiny.manifest
    return StoredModel(manifest, tmp_path, None)


def test_every_figure_has_to_be_good() -> None:
    assert of({}) == {"q8"}
    assert of({"cuts": 7}, {}) == {"q8"}
    assert of({"dtype": "f16"}, {}) == {"f16", "q8"}
    for bad in ({"agreement": 0.9899}, {"perplexity": 10.0501}, {"tokens": 999}):
        assert of(bad) == of({"cuts": 1}, bad) == of({"cuts": 1} | bad, {}) == frozenset()
        assert of(bad, {"dtype": "f16"}) == {"f16"}


def test_who_was_cut_less_often_than_others_is_not_known_well_enough() -> None:
    assert of({"cuts": 1}, {"dtype": "f16"}) == {"f16"}
    assert of({"cuts": 1}, {"dtype": "f16", "cuts": 1}) == {"f16", "q8"}


def test_it_is_read_where_it_was_written(stored: StoredModel) -> None:
    assert certified(stored) == frozenset()
    path = certify(stored, "q8", "f16")
    assert path == stored.folder / FILE
    assert certified(stored) == {"q8", "f16"}
    certify(stored, "q8", agreement=0.5)
    assert certified(stored) == frozenset()


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        "[" * 5000,
        json.dumps({"format": 2, "model_id": "MODEL", "figures": [GOOD]}),
        json.dumps({"format": 1, "model_id": "ab" * 32, "figures": [GOOD]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [GOOD | {"agreement": "0.995"}]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [GOOD | {"perplexity": None}]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [GOOD | {"plain": float("inf")}]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [GOOD | {"tokens": True}]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [GOOD | {"more": 1}]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": [[]]}),
        json.dumps({"format": 1, "model_id": "MODEL", "figures": 3}),
    ],
)
def test_a_file_that_is_none_certifies_nothing(
    stored: StoredModel, document: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = stored.folder / FILE
    path.write_text(document.replace("MODEL", stored.manifest.model_id))
    with pytest.raises(BadCertificate):
        Certificate.load(path, stored.manifest.model_id)
    assert certified(stored) == frozenset()
    assert "no rows of it travel as q8" in caplog.text


def test_no_figures_certify_nothing(stored: StoredModel) -> None:
    Certificate(stored.manifest.model_id, ()).save(stored.folder)
    assert certified(stored) == frozenset()
