"""What a verifier shows over HTTP: its cases with what the chain says of them, audits sold, and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from hypercluster.market.chain.disputes import Vote
from hypercluster.market.ledger import Duty, DutyPhase, SoldAudit
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.serving.terms import HttpTerms
from tests.node.helpers.verifiers import AUDIT_PRICE, Judging, running_verifier

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.shards.store import StoredModel


@pytest.fixture(scope="module")
def judging(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Judging]:
    folder = tmp_path_factory.mktemp("verifier")
    http = HttpTerms(binds=("127.0.0.1:0",), link_file=folder / "verifier.link")
    bounds = calibrate(stored_tiny, texts=2, tokens=24)
    with running_verifier(chain, stored_tiny, bounds, folder, http=http) as running:
        yield running


@pytest.fixture(scope="module")
def browser(judging: Judging) -> Iterator[httpx.Client]:
    link = judging.presence.link
    with httpx.Client(base_url=link.partition("/login")[0]) as client:
        assert client.get(link).status_code == 303
        yield client


def get(browser: httpx.Client, path: str) -> Any:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def seat(judging: Judging, chain: Chain, case_id: int, phase: DutyPhase, vote: Vote | None) -> Duty:
    return Duty(
        contract=chain.disputes.cases.address,
        chain_id=chain.chain_id,
        case_id=case_id,
        seat=1,
        members=[judging.node.address] * 3,
        node=judging.operator.address,
        receipt_hash=bytes(32),
        stage_hash=bytes(32),
        phase=phase,
        vote=vote,
        fingerprint=bytes(32),
        salt=b"\7" * 32,
        commit_deadline=int(time.time()) + 60,
        reveal_deadline=0,
    )


@pytest.fixture(scope="module")
def seated(judging: Judging, browser: httpx.Client, chain: Chain) -> Any:
    """What is told of it when it has had two seats: one that it missed, and one in which it said guilty."""
    trust = judging.ledger.trust
    trust.save_duty(seat(judging, chain, 10**9, DutyPhase.MISSED, None))
    trust.save_duty(seat(judging, chain, 10**9 + 1, DutyPhase.RESOLVED, Vote.GUILTY))
    deadline = time.monotonic() + 300
    while len((found := get(browser, "/hc/verifier"))["cases"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def test_how_it_stands_and_what_it_judges(browser: httpx.Client, seated: Any) -> None:
    assert get(browser, "/hc/me")["role"] == "verifier"
    found = seated
    assert [(each["case"], each["phase"], each["vote"], each["outcome"]) for each in found["cases"]] == [
        (10**9 + 1, "resolved", "guilty", None),
        (10**9, "missed", None, None),
    ]
    assert found["cases"][0]["seats"] == 3
    assert found["audits"] == {"running": 0, "most": 4}
    assert found["price_wei"] == str(AUDIT_PRICE)
    assert (found["enlisted"], found["credits_wei"], found["credits_at"]) == (False, "0", None)
    assert found["stake"]["eligible"] is True
    assert set(found["ready"].values()) == {None}
    salt, vote = "07" * 32, "salt"
    assert salt not in str(found)
    assert vote not in found["cases"][0]


def test_audits_that_were_paid_for(judging: Judging, browser: httpx.Client) -> None:
    assert get(browser, "/hc/verifier/audits") == {"audits": [], "total": {"audits": 0, "paid_wei": "0"}}
    for tokens, finding in ((5, "pass"), (2, "fail"), (7, "pass")):
        judging.ledger.trust.save_sale(
            SoldAudit(
                model_id="m",
                layer_start=0,
                layer_stop=2,
                channel_id=b"\1" * 32,
                tokens=tokens,
                finding=finding,
                median_error=None,
                max_error=0.5,
                agreement=1.0,
                exact=False,
                paid=tokens * 10**22,
                seconds=0.1,
            )
        )
    found = get(browser, "/hc/verifier/audits?limit=2")
    assert [(each["tokens"], each["finding"], each["median_error"]) for each in found["audits"]] == [
        (7, "pass", None),
        (2, "fail", None),
    ]
    assert found["total"] == {"audits": 3, "paid_wei": str(14 * 10**22)}
    older = get(browser, f"/hc/verifier/audits?before={found['audits'][-1]['id']}")
    assert [each["tokens"] for each in older["audits"]] == [5]
    assert browser.get("/hc/verifier/audits?before=x").status_code == 400


@pytest.mark.usefixtures("seated")
def test_metrics_name_nobody(judging: Judging, browser: httpx.Client) -> None:
    text = httpx.get(f"{browser.base_url}/metrics").text
    assert 'hypercluster_verifier_cases{phase="resolved"} 1.0' in text
    assert "hypercluster_verifier_reveal_deadline_seconds" in text
    assert "hypercluster_up_ready 1.0" in text
    for secret in (judging.advert.peer, judging.operator.address, judging.node.address):
        assert secret not in text
    assert httpx.get(f"{browser.base_url}/hc/verifier").status_code == 401
