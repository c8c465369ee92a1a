"""Texts at which an answer ends, however the tokens cut them."""

from __future__ import annotations

from collections.abc import Sequence


class StopGate:
    """Lets text through up to the first of `stops`, and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stop: str | None = None
        """the text that ended the answer"""

    @property
    def stopped(self) -> bool:
        """Whether one of them came."""
        return self.stop is not None

    def push(self, text: str) -> str:
        """Return what may be shown now; nothing more after a stop."""
        if self.stopped:
            return ""
        self._held += text
        # the one that is complete first, however the tokens cut them; of two the longer
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.stop = min(found)
            shown, self._held = self._held[:at], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """Return what was held back for a stop that did not come."""
        rest, self._held = self._held, ""
        return rest

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
