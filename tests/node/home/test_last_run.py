"""What a home remembers of the last run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercluster.market.money.claiming import ClaimRule
from hypercluster.node.home.last_run import FILE, LastRun, remember, remembered


def test_i5_a_home_keeps_what_the_last_run_had(tmp_path: Path) -> None:
    """I5: addresses, prices and the rule for claims; what is not named anew stays."""
    assert remembered(tmp_path) == LastRun()
    remember(tmp_path, listen=("/ip4/127.0.0.1/tcp/4001",), direct="off", price_wei=7)
    remember(tmp_path, hct_per_coin=5, claim_multiple=3)
    found = remembered(tmp_path)
    assert (found.listen, found.direct, found.price_wei) == (("/ip4/127.0.0.1/tcp/4001",), "off", 7)
    assert found.claim == ClaimRule(hct_per_coin=5, multiple=3)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"listen": 5}', "null"])
def test_i5_a_file_that_is_spoilt_counts_as_forgotten(tmp_path: Path, text: str) -> None:
    """I5: no start fails because of it, and the next one writes it anew."""
    (tmp_path / FILE).write_text(text)
    assert remembered(tmp_path) == LastRun()
    remember(tmp_path, price_wei=1)
    assert remembered(tmp_path).price_wei == 1
