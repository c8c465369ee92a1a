"""The file of operators who are trusted: read strictly, and nothing in it ever means everybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercluster.node.client.auditing.trusting import MOST_BYTES, BadTrust, read_trusted

ONE, TWO = "0x" + "aB" * 20, "0x" + "12" * 20


def test_one_address_a_line_with_comments_and_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "friends"
    file.write_text(f"# friends\n\n{ONE}  # Ann\r\n  {TWO}\n{ONE.lower()}\n")
    assert read_trusted(file) == {ONE.lower(), TWO}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (b"", "names no operator"),
        (b"# nobody\n\n", "names no operator"),
        (f"{ONE}\nann.eth\n".encode(), "Line 2 of .* is no address"),
        (f"{ONE} {TWO}\n".encode(), "Line 1 of .* is no address"),
        (b"*\n", "Line 1 of .* is no address"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"#" * (MOST_BYTES + 1), "too long"),
    ],
)
def test_what_is_no_such_list_is_refused(tmp_path: Path, told: bytes, why: str) -> None:
    file = tmp_path / "friends"
    file.write_bytes(told)
    with pytest.raises(BadTrust, match=why):
        read_trusted(file)


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none", tmp_path):
        with pytest.raises(BadTrust, match="cannot be read"):
            read_trusted(file)
