"""kill -9 at random moments, briefly: `make soak` does the same 500 times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.soak import soak

KILLS = 20


@pytest.mark.slow
def test_whoever_is_killed_comes_back_and_all_books_agree_to_the_wei(tmp_path: Path) -> None:
    """Providers, verifiers, clients and a gateway, among them a cheat and a slanderer, killed under load.

    Channels on chain equal both ledgers, requests equal what was signed, transcripts are whole, all seats are free
    again, nothing is left running, cases are decided rightly, and nobody honest loses stake or good name.
    """
    result = soak(tmp_path, kills=KILLS, seed=20)
    assert result.wrong == [], result.document()
    assert sum(result.kills.values()) >= KILLS
    assert result.figures["channels"] > 0
    assert result.figures["requests"] > 0
    assert result.answers.get("whole", 0) > 0
