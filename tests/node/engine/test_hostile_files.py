"""No file is judged with more than a sentence, and what llama.cpp does not survive ends a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.models.hostile import good_models, search


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, with limits as Linux has them")
def test_hostile_files_are_refused_with_a_sentence_or_end_a_process_of_their_own(tmp_path: Path) -> None:
    """More with scripts/fuzz_files.py."""
    found = search(40, 7, tmp_path, good_models(tmp_path, ("llama", "gpt-oss", "gemma3")))
    assert found.wrong == []
    assert found.seen.total() == 40
    assert found.seen["refused"] > 5
    assert found.seen["computed"] + found.seen["computed no numbers"] > 5
