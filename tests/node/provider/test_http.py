"""What a provider shows over HTTP while it serves and is paid, refuses, and reprices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import trio

from hypercluster.market.economics.graph import node_of
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.pricing import price_step
from hypercluster.market.money.voucher import charge
from hypercluster.node.client.hop import Hop
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.provider.curve import curve_document
from hypercluster.node.provider.mix import USUAL
from hypercluster.node.provider.prices import price_row
from hypercluster.node.rows import WireDtype
from hypercluster.node.serving.terms import HttpTerms
from hypercluster.node.web.login import new_link
from hypercluster.node.wire.messages import Accept, Close, Error
from tests.node.helpers.providers import (
    FREE,
    PRICE,
    PROMPT_PRICE,
    Served,
    new_wallet,
    opening,
    running_provider,
)

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.shards.store import StoredModel

LAYERS = (0, 2)
NAMES = ("earnings", "prices", "sessions", "advise")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("provider")


@pytest.fixture(scope="module")
def served(chain: Chain, stored_tiny: StoredModel, folder: Path) -> Iterator[Served]:
    http = HttpTerms(binds=("127.0.0.1:0",), link_file=folder / "provider.link")
    with running_provider(chain, stored_tiny, folder, LAYERS, sessions=2, http=http) as running:
        yield running


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[httpx.Client]:
    url = served.presence.link.partition("/login")[0]
    with httpx.Client(base_url=url) as client:
        assert client.get(served.presence.link).status_code == 303
        yield client


def get(browser: httpx.Client, path: str) -> Any:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def bill(served: Served) -> dict[str, int]:
    """What three steps cost after two sessions that were refused, one that was only opened, and one without Open."""
    wallet = new_wallet(served.chain)
    account = wallet.channel(served)

    async def work() -> None:
        async with running_host(wallet.session_key) as host:

            async def connected() -> Connection:
                return await dial_steps(host, served.advert, direct=True)

            for changes in ({"max_price_wei": PRICE - 1}, {"layer_stop": 3}):
                connection = await connected()
                await connection.send(opening(served.advert, account, **changes))
                assert isinstance(await connection.receive(10), Error)
                await connection.close()
            connection = await connected()
            await connection.send(Close())
            assert isinstance(await connection.receive(10), Error)
            await connection.close()
            connection = await connected()
            await connection.send(opening(served.advert, account))
            assert isinstance(await connection.receive(10), Accept)
            await connection.close()
            hop = await Hop.open(
                await connected(),
                served.advert,
                account,
                wire_dtype=WireDtype.F32,
                capacity=50,
                top_k=8,
                n_vocab=320,
                is_last=False,
                domain=served.chain.disputes.domain,
                spending=FREE,
            )
            await hop.step([72, 101, 108], 3)
            await hop.step([108], 1)
            await hop.step([111], 1)
            await hop.close()

    trio.run(work)
    return {"billed": charge(PRICE, PROMPT_PRICE, 3) + 2 * PRICE}


def until(look: Any, wanted: Any) -> Any:
    """What `look` gives once `wanted` says so of it."""
    deadline = time.monotonic() + 300
    while not wanted(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_nothing_but_health_and_metrics_is_for_strangers(served: Served, browser: httpx.Client) -> None:
    url = str(browser.base_url)
    with httpx.Client(base_url=url) as stranger:
        for path in ("/hc/me", "/hc/provider", *(f"/hc/provider/{name}" for name in NAMES)):
            answer = stranger.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "login_required")
        assert stranger.get("/healthz").json() == {"status": "ok"}
        ready = stranger.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready"), ready.text
        assert stranger.get("/hc/nothing").status_code == 404
        assert stranger.post("/hc/provider", json={}).status_code == 405
        assert stranger.get("/hc/me", headers={"host": "evil.example"}).status_code == 421
        page = stranger.get("/")
        assert page.headers["content-type"].startswith("text/html")


def test_another_link_opens_the_pages_too(served: Served, browser: httpx.Client, folder: Path) -> None:
    link = new_link(folder / "provider.link")
    with httpx.Client() as other:
        assert other.get(link).status_code == 303
        assert other.get(f"{browser.base_url}/hc/me").json()["role"] == "provider"


def test_how_it_stands(served: Served, browser: httpx.Client, bill: dict[str, int]) -> None:
    me = get(browser, "/hc/me")
    assert me["peer"] == served.advert.peer
    assert me["wallet"]["address"] == served.operator
    found = until(lambda: get(browser, "/hc/provider"), lambda each: each["sessions"]["open"] == 0)
    assert found["layers"] == list(LAYERS)
    assert found["sessions"] == {"open": 0, "parked": 0, "free": 2, "most": 2, "tokens": 256}
    assert (found["price_wei"], found["prompt_price_wei"]) == (str(PRICE), str(PROMPT_PRICE))
    assert found["price_rule"] == "fixed"
    assert found["stake"]["active_wei"] == str(served.chain.staking.minimum)
    assert found["stake"]["eligible"] is True
    assert found["addresses"] == [served.address]
    assert found["demands"] == []
    assert set(found["ready"].values()) == {None}
    assert (found["steps"], found["tokens"]) == (3, 5)  # those by which it measures itself are none


def test_what_it_earned_by_day_and_by_channel(browser: httpx.Client, bill: dict[str, int]) -> None:
    def look() -> Any:
        return get(browser, "/hc/provider/earnings?days=7")

    found = until(look, lambda each: each["channels"] and each["days"][-1]["sessions"])
    assert len(found["days"]) == 7
    today = found["days"][-1]
    assert (today["earned_wei"], today["tokens"], today["prompt_tokens"]) == (str(bill["billed"]), 2, 3)
    assert {each["earned_wei"] for each in found["days"][:-1]} == {"0"}
    (channel,) = found["channels"]
    assert channel["earned_wei"] == found["earned_wei"] == str(bill["billed"])
    assert int(channel["claimed_wei"]) + int(channel["unclaimed_wei"]) == bill["billed"]
    assert channel["state"] == "open"


def test_sessions_that_billed_nothing_are_told_of_too(browser: httpx.Client, bill: dict[str, int]) -> None:
    found = until(lambda: get(browser, "/hc/provider/sessions"), lambda each: len(each["sessions"]) >= 5)
    sessions = found["sessions"]
    assert [each["started"] for each in sessions] == sorted(
        (each["started"] for each in sessions), reverse=True
    )
    assert sorted(str(each["code"]) for each in sessions) == [
        "None", "None", "price_too_low", "unknown_session", "wrong_range"
    ]  # fmt: skip
    paid = [each for each in sessions if each["billed_wei"] != "0"]
    assert [(each["billed_wei"], each["tokens"], each["outcome"]) for each in paid] == [
        (str(bill["billed"]), 2, "closed")
    ]
    older = get(browser, f"/hc/provider/sessions?before={sessions[0]['started']}")["sessions"]
    assert older == sessions[1:]
    assert len(get(browser, "/hc/provider/sessions?limit=2")["sessions"]) == 2


def test_metrics_name_nobody_and_count_what_happened(
    served: Served, browser: httpx.Client, bill: dict[str, int]
) -> None:
    # The job that looks at the figures tells of itself when it has run once more.
    looked = 'hypercluster_job_last_success_timestamp_seconds{job="looking at the figures"}'
    text = until(lambda: httpx.get(f"{browser.base_url}/metrics").text, lambda found: looked in found)
    for line in (
        'hypercluster_provider_refusals_total{code="price_too_low"} 1.0',
        'hypercluster_provider_refusals_total{code="wrong_range"} 1.0',
        "hypercluster_provider_steps_total 3.0",
        "hypercluster_provider_tokens_total 5.0",
        "hypercluster_provider_decode_seconds_count 2.0",
        'hypercluster_provider_sessions{state="free"} 2.0',
        "hypercluster_provider_demands_open 0.0",
        "hypercluster_provider_demand_deadline_seconds +Inf",
        "hypercluster_up_ready 1.0",
    ):
        assert line in text.splitlines(), text
    assert "hypercluster_provider_earned_hct_total" in text
    assert 'hypercluster_build_info{backend="cpu"' in text
    for secret in (served.advert.peer, served.operator, served.presence.link.partition("t=")[2]):
        assert secret not in text


def test_a_query_that_makes_no_sense_is_a_sentence(browser: httpx.Client) -> None:
    bad = """
    sessions?limit=0 sessions?limit=x sessions?limit=٣ sessions?limit= sessions?before= sessions?before=nan
    sessions?before=1e400 earnings?days=0 earnings?days=99999999999999999999 prices?curve=12 prices?curve=-1
    prices?limit=1001
    """
    for path in bad.split():
        answer = browser.get(f"/hc/provider/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_query"), path


def test_the_price_and_the_curve_that_it_climbs(served: Served, browser: httpx.Client) -> None:
    assert get(browser, "/hc/provider/prices") == {"history": [], "curve": None}
    market = MarketParameters()
    own = replace(node_of(served.advert), price_wei=10**11, prompt_price_wei=10**10, stop=4)
    step = price_step(own, [replace(own, id="rival", price_wei=2 * 10**12)], layers=4, market=market)
    row = price_row(replace(step, start=0, stop=2), served.advert.model_id)
    served.ledger.history.save_price(row)
    found = get(browser, "/hc/provider/prices")
    (told,) = found["history"]
    assert (told["price_wei"], told["next_price_wei"]) == (str(step.price_wei), str(step.next_price_wei))
    assert told["rivals"] == 1
    curve = found["curve"]
    assert get(browser, f"/hc/provider/prices?curve={told['id']}")["curve"] == curve
    points = [(int(price), int(worth), chance) for price, worth, chance in curve["points"]]
    assert [price for price, _, _ in points] == sorted(price for price, _, _ in points)
    chances = [chance for _, _, chance in points]
    assert chances == sorted(chances, reverse=True)
    top = max(points, key=lambda point: point[1])[0]
    assert abs(np.log(top / int(curve["best_response_wei"]))) < 0.1
    near = min(points, key=lambda point: abs(np.log(point[0] / step.price_wei)))
    assert abs(near[2] - step.marginal) < 0.02
    # What a ledger of an earlier version holds, or of a market without an outside option.
    assert curve_document(replace_inputs(row, {})) is None
    monopoly = price_step(own, [], layers=4, market=replace(market, outside_weight=float("inf")))
    alone = curve_document(price_row(monopoly, "m"))
    assert alone is not None
    assert {chance for _, _, chance in alone["points"]} == {1.0}


def replace_inputs(row: Any, inputs: dict[str, Any]) -> Any:
    from hypercluster.market.ledger import PriceRow

    return PriceRow(
        model_id=row.model_id,
        layer_start=0,
        layer_stop=2,
        price_before=1,
        price_after=1,
        gradient=0.0,
        probability=0.0,
        inputs=inputs,
    )


def test_what_else_it_could_serve(browser: httpx.Client) -> None:
    found = get(browser, "/hc/provider/advise")
    assert found["why"] is None
    assert found["machine"]["layer_ms"] > 0
    assert found["prompt_ratio"] == USUAL
    best = found["ranges"][0]
    assert 4 * int(best["prompt_price_wei"]) == pytest.approx(int(best["price_wei"]), abs=4)
    every = [[start, stop] for start in range(4) for stop in range(start + 1, 5)]
    assert sorted(each["layers"] for each in found["ranges"]) == every
    revenues = [int(each["revenue_wei"]) for each in found["ranges"]]
    assert revenues == sorted(revenues, reverse=True)
    assert found["ranges"][0]["layers"] == [0, 4]  # nobody else is there, so only the whole model is a path


def test_who_has_only_a_shard_is_advised_by_its_manifest(
    chain: Chain, stored_tiny: StoredModel, tmp_path: Path
) -> None:
    stored_tiny.shard(*LAYERS)
    http = HttpTerms(binds=("127.0.0.1:0",), link_file=tmp_path / "provider.link")
    with running_provider(chain, replace(stored_tiny, source=None), tmp_path, LAYERS, http=http) as running:
        link = running.presence.link
        with httpx.Client(base_url=link.partition("/login")[0]) as client:
            assert client.get(link).status_code == 303
            found = get(client, "/hc/provider/advise")
    assert found["why"] is None
    assert [0, 4] in [each["layers"] for each in found["ranges"]]
