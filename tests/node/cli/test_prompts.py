"""Where prompts come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercluster.node.cli.client.prompts import read_prompt
from hypercluster.node.cli.console import Failed


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\tb\r\n", "a\tb"),
        (b"\xef\xbb\xbfa", "a"),
        (b"a\n\n", "a\n"),
        ("ä".encode() * 70_000, "ä" * 70_000),
    ],
)
def test_x1_a_file_is_taken_as_it_is(tmp_path: Path, data: bytes, text: str) -> None:
    """X1: of any length that a model might hold, without its last line end and byte order mark."""
    file = tmp_path / "prompt.txt"
    file.write_bytes(data)
    assert read_prompt(None, file) == text


def test_x1_what_never_ends_is_refused() -> None:
    with pytest.raises(Failed, match="16 MiB"):
        read_prompt(None, Path("/dev/zero"))


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf\n", b"\xff"])
def test_x1_what_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(data)
    with pytest.raises(Failed, match=r"nothing to continue|not UTF-8"):
        read_prompt(None, file)
