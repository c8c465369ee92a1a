"""For shards that keep all layers of their model: what comes before the range is not computed.

Some graphs look at a layer's number in the model. Their shards keep every layer, with zeros for weights outside of the
range. The residual enters by name, and every node before it that nothing behind it needs loses the flag by which
ggml's backends know what to compute.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from hypercluster.node.engine.boundary import Boundary, get_name
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.rows import Float32s

_FLAGS, _SOURCES, _VIEWED, _NAME = 148, 152, 232, 256
"""where struct ggml_tensor of ggml 0.25 has flags, src[10], view_src and name"""
_COMPUTE = 16


@dataclass(frozen=True, slots=True)
class _Node:
    tensor: int
    needs: tuple[int, ...]


class Skeleton(Boundary):
    """A Boundary whose graph begins, but for what the range needs, behind `entry`.

    The first llama_decode of each number of rows computes everything, to see what is needed; the graphs of the same
    number have the same nodes. Takes rows of one sequence at a time.
    """

    def __init__(
        self, entry: str | None, exit_: str | None, entering: Float32s, leaving: Float32s, planes: int = 1
    ) -> None:
        self._needless: dict[int, frozenset[int]] = {}
        self._rows = 0
        self._seen: list[_Node] = []
        self._entry_at: int | None = None
        self._asked_for = 0
        self._strange = False
        super().__init__(entry, exit_, entering, leaving, planes)

    def begin(self, n: int) -> None:
        """n rows are about to be decoded."""
        super().begin(n)
        self._rows, self._seen, self._entry_at, self._asked_for = n, [], None, 0

    def finish(self) -> None:
        """Raise LlamaError unless every row went in and came out."""
        if self._strange:
            raise LlamaError("this llama.cpp lays its tensors out in a way that is not known here")
        super().finish()
        if self._entry_at is not None and self._rows not in self._needless:
            self._needless[self._rows] = _needless(self._seen, self._entry_at)

    def _asked(self, entry: str | None, exit_: str | None) -> Callable[[int, bool, int | None], bool]:
        crosses = super()._asked(entry, exit_)
        if entry is None:
            return crosses
        enters = entry.encode() + b"\0"

        def callback(tensor: int, ask: bool, data: int | None) -> bool:
            if not ask:
                return crosses(tensor, ask, data)
            if get_name(tensor) - tensor != _NAME:
                self._strange = True
                return False
            at, self._asked_for = self._asked_for, self._asked_for + 1
            skipped = self._needless.get(self._rows)
            if skipped is None:
                self._seen.append(_node(tensor))
            elif at in skipped:
                ctypes.c_int32.from_address(tensor + _FLAGS).value &= ~_COMPUTE
            if self._entry_at is None and ctypes.string_at(tensor + _NAME, len(enters)) == enters:
                self._entry_at = at
                return True
            return crosses(tensor, ask, data)

        return callback


def _node(tensor: int) -> _Node:
    needs = (ctypes.c_uint64 * 10).from_address(tensor + _SOURCES)
    viewed = ctypes.c_uint64.from_address(tensor + _VIEWED).value
    return _Node(tensor, (*needs, viewed))


def _needless(nodes: list[_Node], entry: int) -> frozenset[int]:
    """Numbers of the nodes before `entry` that nothing behind it needs."""
    number = {node.tensor: at for at, node in enumerate(nodes)}
    needed: set[int] = set()
    open_ = list(range(entry + 1, len(nodes)))
    while open_:
        at = open_.pop()
        if at in needed or at == entry:
            continue
        needed.add(at)
        open_ += [number[source] for source in nodes[at].needs if source in number]
    return frozenset(at for at in range(entry + 1) if at not in needed)
