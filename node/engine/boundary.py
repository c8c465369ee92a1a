"""The evaluation callback of a shard's graph: what enters by name is written over, what leaves is copied out."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import llama_cpp as native
import numpy as np
from llama_cpp._ggml import libggml

from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.rows import Float32s

EvalCallback = Any  # ctypes' function object; its type cannot be spelled


def _function(name: str, returns: Any, *takes: Any) -> Any:
    # by index it is an object of our own: others declare the same functions otherwise
    function = libggml[name]
    function.argtypes, function.restype = list(takes), returns
    return function


get_name = _function("ggml_get_name", ctypes.c_void_p, ctypes.c_void_p)
n_bytes = _function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)
_SPAN = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
_tensor_get = _function("ggml_backend_tensor_get", None, *_SPAN)
_tensor_set = _function("ggml_backend_tensor_set", None, *_SPAN)


class Rows:
    """Where in an array of rows the running graph is; llama.cpp may take a batch in several graphs.

    A tensor holds row after row, or so many `planes` of an equal share of each row.
    """

    def __init__(self, rows: Float32s, planes: int = 1) -> None:
        self._rows, self._planes, self._at, self._end = rows, planes, 0, 0

    def begin(self, n: int) -> None:
        """Expect n rows."""
        self._at, self._end = 0, self._rows[:n].nbytes

    @property
    def complete(self) -> bool:
        """Whether all have passed, and no more."""
        return self._at == self._end

    def write_to(self, tensor: int) -> None:
        """The next rows go into a tensor."""
        size, at = self._passing(tensor)
        if self._at > self._end:
            return
        if self._planes > 1:
            laid = np.ascontiguousarray(self._by_row(at, size).transpose(1, 0, 2))
            _tensor_set(tensor, laid.ctypes.data, 0, size)
        else:
            _tensor_set(tensor, self._rows.ctypes.data + at, 0, size)

    def read_from(self, tensor: int) -> None:
        """The next rows come out of a tensor."""
        size, at = self._passing(tensor)
        if self._at > self._end:
            return
        if self._planes > 1:
            into = self._by_row(at, size)
            laid = np.empty((into.shape[1], into.shape[0], into.shape[2]), np.float32)
            _tensor_get(tensor, laid.ctypes.data, 0, size)
            into[:] = laid.transpose(1, 0, 2)
        else:
            _tensor_get(tensor, self._rows.ctypes.data + at, 0, size)

    def _by_row(self, at: int, size: int) -> Float32s:
        """The rows from byte `at` on that make `size` bytes, float32 [rows, planes, share]: a view."""
        width = self._rows.shape[1]
        first, n = at // (4 * width), size // (4 * width)
        return self._rows[first : first + n].reshape(n, self._planes, width // self._planes)

    def _passing(self, tensor: int) -> tuple[int, int]:
        size, at = n_bytes(tensor), self._at
        self._at += size
        return size, at


class Boundary:
    """What crosses the ends of a shard by the names of tensors: `entry` is overwritten, behind `exit` the graph ends.

    Keep a reference for as long as a context uses `callback`; it is None where there is nothing to do.
    """

    def __init__(
        self, entry: str | None, exit_: str | None, entering: Float32s, leaving: Float32s, planes: int = 1
    ) -> None:
        self._entering = Rows(entering, planes) if entry is not None else None
        self._leaving = Rows(leaving, planes) if exit_ is not None else None
        self.callback: EvalCallback = None
        if entry is not None or exit_ is not None:
            self.callback = native.ggml_backend_sched_eval_callback(self._asked(entry, exit_))

    def begin(self, n: int) -> None:
        """n rows are about to be decoded."""
        for rows in (self._entering, self._leaving):
            if rows is not None:
                rows.begin(n)

    def finish(self) -> None:
        """Raise LlamaError unless every row went in and came out."""
        if self._entering is not None and not self._entering.complete:
            raise LlamaError("llama.cpp did not take the residual of every row")
        if self._leaving is not None and not self._leaving.complete:
            raise LlamaError("llama.cpp did not compute the residual of every row")

    def _asked(self, entry: str | None, exit_: str | None) -> Callable[[int, bool, int | None], bool]:
        """The callback. It is asked about every node of every graph, so it compares one word of the name first."""
        enters, in_word, in_mask = _sought(entry)
        leaves, out_word, out_mask = _sought(exit_)
        word_at, text_at = ctypes.c_uint64.from_address, ctypes.string_at
        entering, leaving = self._entering, self._leaving
        offset = -1

        def named(tensor: int, name: bytes) -> bool:
            return bool(name) and text_at(tensor + offset, len(name)) == name

        def callback(tensor: int, ask: bool, _data: int | None) -> bool:
            nonlocal offset
            if ask:
                if offset < 0:
                    offset = get_name(tensor) - tensor
                word = word_at(tensor + offset).value
                if word & out_mask != out_word and word & in_mask != in_word:
                    return False
                return named(tensor, leaves) or named(tensor, enters)
            if entering is not None and named(tensor, enters):
                entering.write_to(tensor)
                return True
            if leaving is not None:
                leaving.read_from(tensor)
            return False

        return callback


def _sought(name: str | None) -> tuple[bytes, int, int]:
    """A name as llama.cpp stores it, its first word, and the mask of the bytes of the word that are the name's.

    Of no name the word is one that no tensor has.
    """
    if name is None:
        return b"", 1, 0
    stored = name.encode() + b"\0"
    word = stored[:8]
    mask = int.from_bytes((b"\xff" * len(word)).ljust(8, b"\0"), sys.byteorder)
    return stored, int.from_bytes(word.ljust(8, b"\0"), sys.byteorder), mask
