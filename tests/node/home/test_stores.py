"""Every store in a home has a bound, stands in the documentation, and is told of before it is full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hypercluster.node.home.settings import Settings
from hypercluster.node.home.stores import STORES, Store, size

OPERATING = Path(__file__).parents[3] / "docs" / "operating.md"


@pytest.mark.parametrize("store", STORES, ids=lambda store: str(store.name))
def test_the_documentation_has_a_row_for_each_store(store: Store) -> None:
    rows = [line for line in OPERATING.read_text().splitlines() if line.startswith(f"| {store.name} |")]
    assert len(rows) == 1, f"docs/operating.md has no row for the {store.name}"
    assert size(store.most) in rows[0]
    assert store.full in rows[0]
    assert (store.option or "|") in rows[0]


def test_a_store_that_is_nearly_full_is_told_of(tmp_path: Path) -> None:
    receipts = replace(next(store for store in STORES if "receipts" in store.name), most=1000)
    folder = tmp_path / "receipts" / "2026-05-20"
    folder.mkdir(parents=True)
    (folder / "a.receipts").write_bytes(bytes(800))
    assert receipts.taken(tmp_path) == 800
    assert receipts.sentence(800) is None
    (folder / "b.receipts").write_bytes(bytes(150))
    told = receipts.sentence(receipts.taken(tmp_path))
    assert told is not None
    assert told.endswith("When they are full, those of the oldest day go.")


def test_nothing_that_a_home_holds_belongs_to_no_store(tmp_path: Path) -> None:
    """What the patterns name is what the programs write: they are read off the same names."""
    from hypercluster.node.client.receipt_files import RECEIPTS
    from hypercluster.node.home.settings import EVIDENCE, PEERS, TRANSCRIPTS, VOUCHERS
    from hypercluster.node.testnet.localnet import LOG

    settings = Settings(home=tmp_path)
    for name in (VOUCHERS, PEERS, LOG, "ledger.sqlite"):
        (settings.home / name).write_bytes(b"x")
    for folder, name in (
        (f"{TRANSCRIPTS}/client", "a.transcript"),
        (f"{TRANSCRIPTS}/provider", "a.transcript"),
        (EVIDENCE, "a.transcript"),
        (f"{RECEIPTS}/2026-05-20", "a.receipts"),
    ):
        (settings.home / folder).mkdir(parents=True)
        (settings.home / folder / name).write_bytes(b"x")
    assert {store.name: store.taken(tmp_path) for store in STORES} == {store.name: 1 for store in STORES}
