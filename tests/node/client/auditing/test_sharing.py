"""What a client tells others, and what becomes of what it hears."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.reputation import Reputation
from hypercluster.node.client.auditing.sharing import Sharing, into
from hypercluster.node.evidence.rumour import claim_of
from hypercluster.node.home.settings import Settings
from tests.node.helpers.offers import OPERATOR, new_key
from tests.node.helpers.rumours import DOMAIN, WITNESS, failed, twice


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


async def test_a_proof_that_is_heard_is_a_lie_and_counts_once(ledger: Ledger) -> None:
    heard, claim = into(ledger), claim_of(twice(new_key()), DOMAIN)
    for _ in range(3):
        await heard(claim, 0.0)
    found = ledger.trust.standing(OPERATOR, datetime.now(UTC))
    assert found.of(claim.peer).distrusted
    assert found.reputation.heard == 0
    (event,) = ledger.trust.events()
    assert (event.kind, event.operator, event.peer) == ("lie", OPERATOR, claim.peer)


async def test_a_word_that_is_heard_is_no_evidence(ledger: Ledger) -> None:
    heard = into(ledger)
    await heard(claim_of(failed(new_key(), new_key()), DOMAIN), 0.05)
    found = ledger.trust.standing(OPERATOR, datetime.now(UTC)).reputation
    assert found.heard == pytest.approx(0.3, rel=1e-3)
    assert (found.reliability, found.distrusted) == (Reputation().reliability, False)
    assert ledger.trust.events() == []
    assert [row.witness for row in ledger.trust.rumours()] == [WITNESS]


async def test_who_was_forgiven_is_not_forgiven_what_is_heard_anew(ledger: Ledger) -> None:
    heard, claim = into(ledger), claim_of(twice(new_key()), DOMAIN)
    await heard(claim, 0.0)
    ledger.trust.forgive(OPERATOR)
    assert ledger.trust.standings(datetime.now(UTC)) == {}
    await heard(claim, 0.0)
    assert ledger.trust.standing(OPERATOR, datetime.now(UTC)).reputation.distrusted


def test_what_is_shared_is_set_by_a_word_and_proofs_alone_if_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Sharing(Settings().share_evidence) is Sharing.PROOFS
    monkeypatch.setenv("HC_SHARE_EVIDENCE", "None")
    assert Sharing(Settings().share_evidence) is Sharing.NONE
    for wrong in ("yes", ""):
        monkeypatch.setenv("HC_SHARE_EVIDENCE", wrong)
        with pytest.raises(ValidationError):
            Settings()
