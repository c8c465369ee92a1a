"""What an attack got for answers, and what it cost whoever made it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypercluster.market.chain import Mined


@dataclass(slots=True)
class Tally:
    """Counts of one attack, from its start."""

    answers: Counter[str] = field(default_factory=Counter)
    """how often each thing happened: codes of errors by name, messages by type, what raised"""
    gas: int = 0
    locked_wei: int = 0
    """HCT in channels and stake, which come back"""
    spent_wei: int = 0
    """HCT that does not come back: signed away to the target"""
    sent_bytes: int = 0
    """on sockets, filled in by the attacker's process"""
    cpu_seconds: float = 0.0
    """of the attacker's process"""

    @property
    def acts(self) -> int:
        """How much was tried and ended."""
        return self.answers.total()

    def answered(self, what: str) -> None:
        self.answers[what] += 1

    def mined(self, *mined: Mined, locked: int = 0) -> None:
        """Note transactions that lock `locked` wei of HCT."""
        self.gas += sum(each.gas_used for each in mined)
        self.locked_wei += locked

    def to_json(self) -> str:
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Tally:
        fields = json.loads(text)
        return cls(**{**fields, "answers": Counter(fields["answers"])})
