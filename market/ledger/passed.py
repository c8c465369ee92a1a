"""What a verifier signed passes for. It is never pruned: a contradiction has no age."""

from __future__ import annotations

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from hypercluster.market.errors import LedgerError
from hypercluster.market.ledger.tables import PassedRow


class Passed:
    """Passes by their question. Methods may be called from several threads, and by several processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def some(self) -> bool:
        """Say whether anything was ever passed."""
        with Session(self._engine) as session:
            return session.scalar(select(PassedRow.question).limit(1)) is not None

    def first(self, question: bytes, own_root: bytes) -> bytes:
        """Return the root of what was computed when a question was passed first, which is now if it never was.

        Written down when this returns, so that it comes before the signature. Raises LedgerError.
        """
        with Session(self._engine) as session, session.begin():
            if (known := session.get(PassedRow, question)) is not None:
                return known.own_root
            try:
                with session.begin_nested():
                    session.add(PassedRow(question=question, own_root=own_root))
            except LedgerError:
                # Another process was quicker; the insert has waited for its commit.
                known = session.get(PassedRow, question)
                if known is None:
                    raise
                return known.own_root
        return own_root
