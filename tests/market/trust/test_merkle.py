"""Merkle trees against the definition in RFC 9162, and proofs that do not fit."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.trust.merkle import BadProof, proof, root, split_rows, verify

rows = st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40)


def defined(entries: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word."""
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\1" + defined(entries[:k]) + defined(entries[k:])).digest()


@given(rows)
def test_the_root_is_that_of_the_rfc(entries: list[bytes]) -> None:
    assert root(entries) == defined(entries)


@given(rows, st.data())
def test_every_row_can_be_shown_and_nothing_else(entries: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    path = proof(entries, index)
    assert verify(entries[index], index, len(entries), path, root(entries))
    assert not verify(entries[index] + b"x", index, len(entries), path, root(entries))
    other = data.draw(st.integers(0, len(entries) - 1))
    if entries[other] != entries[index]:
        assert not verify(entries[index], other, len(entries), path, root(entries))
    assert not verify(entries[index], index, len(entries), [*path, bytes(32)], root(entries))
    if path:
        assert not verify(entries[index], index, len(entries), path[:-1], root(entries))


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (5, 4)])
def test_an_index_beyond_the_rows_proves_nothing(index: int, size: int) -> None:
    assert not verify(b"a", index, size, [], root([b"a"]))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(BadProof, match="at least one row"):
        root([])
    with pytest.raises(BadProof, match="no row 2 among 2"):
        proof([b"a", b"b"], 2)


@pytest.mark.parametrize(("data", "count"), [(b"abc", 2), (b"", 1), (b"ab", 0), (b"ab", -1), (b"ab", 3)])
def test_data_that_do_not_divide_are_refused(data: bytes, count: int) -> None:
    with pytest.raises(BadProof):
        split_rows(data, count)


def test_rows_are_cut_in_order() -> None:
    assert split_rows(b"abcdef", 3) == [b"ab", b"cd", b"ef"]
