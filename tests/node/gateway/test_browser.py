"""The gateway's pages in a real browser, on a market that runs, serves and is paid."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from hypercluster.market.chain import Chain
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.shards.store import StoredModel
from tests.node.helpers.browsers import NARROW, Visitor, chromium, visitor
from tests.node.helpers.gateways import MODEL, FrontDoor, running_gateway

pytestmark = pytest.mark.slow

PRICE = PriceRule(start_wei=2 * 10**12, start_prompt_wei=10**12 // 2, adapt=False)
PASSWORD = "correct horse"
VIEWS = ("chat", "network", "spend", "keys")


@pytest.fixture(scope="module")
def door(
    chain: Chain, stored_chatty: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoor]:
    """A gateway over three providers, two of them for the same layers, with every stage looked over."""

    async def is_password(text: str) -> bool:
        return text == PASSWORD

    with running_gateway(
        chain,
        stored_chatty,
        tmp_path_factory.mktemp("browser"),
        ranges=((0, 2), (2, 4), (2, 4)),
        terms={"price": PRICE, "refresh_seconds": 4.0},  # on a busy machine offers of a second run out
        auditing=Auditing(policy=Policy(rate=1.0), auditor="own"),
        password=is_password,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def person(browser: Browser, door: FrontDoor) -> Iterator[Visitor]:
    with visitor(browser, door.url, door.gateway.logins.one_time_link()) as found:
        yield found


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def set_tokens(page: Page, most: int) -> None:
    field = page.get_by_label("Tokens at most")
    if not field.is_visible():
        page.get_by_role("button", name="Settings").click()
    field.fill(str(most))


def verified(bundle: Path, home: Path) -> bool:
    """Whether `hc-client verify` finds that a bundle holds, knowing of no chain and no network."""
    command = [sys.executable, "-m", "hypercluster.node.cli.client", "verify", str(bundle)]
    return subprocess.run(command, env={"HC_HOME": str(home)}, capture_output=True).returncode == 0


def test_a_chat_is_typed_streamed_paid_audited_and_found_in_the_books(
    person: Visitor, door: FrontDoor, tmp_path: Path
) -> None:
    page = person.page
    set_tokens(page, 12)
    say(page, "Tell me something")
    turn = page.get_by_role("listitem").filter(has_text=MODEL)
    expect(turn.get_by_text("12 tokens")).to_be_visible()
    expect(turn.get_by_text(re.compile(r"^0\.0\d+ HCT$"))).to_be_visible()
    expect(page.get_by_label("Path, cost and chats").get_by_text("layers 0:2")).to_be_visible()
    expect(turn.get_by_text("2 of 2 stages audited")).to_be_visible()
    turn.get_by_role("link", name="bill").click()
    expect(page.get_by_role("heading", name="Request")).to_be_visible()
    request_id = page.url.rpartition("/")[2]
    row = door.row(request_id).row
    expect(page.get_by_label("Cost").get_by_title(re.compile(r"^[0-9.]+ HCT$")).first).to_be_visible()
    assert (row.endpoint, row.tokens_out, row.outcome) == ("page", 12, "length")
    page.reload()
    expect(page.get_by_label("Audits").get_by_text("passed").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the bundle").click()
    assert download.value.suggested_filename == f"{request_id}.receipts"
    bundle = tmp_path / download.value.suggested_filename
    download.value.save_as(bundle)
    assert verified(bundle, tmp_path)
    bundle.write_bytes(bundle.read_bytes()[:-1] + b"\0")
    assert not verified(bundle, tmp_path)
    page = person.go("chat")
    expect(page.get_by_text("Tell me something").first).to_be_visible()


def test_an_answer_is_stopped_and_costs_what_came(person: Visitor, door: FrontDoor) -> None:
    page = person.page
    say(page, "Go on and on")
    turn = page.get_by_role("listitem").filter(has_text=MODEL)
    expect(turn.get_by_text(re.compile(r"^\d{2,} tokens$"))).to_be_visible()
    expect(turn.get_by_text(re.compile(r"so far$"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(turn.get_by_text("stopped")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_label("Message")).to_be_focused()
    turn.get_by_role("button", name="Regenerate").click()
    page.get_by_role("button", name="Stop").click()
    expect(turn.get_by_text("stopped")).to_be_visible()
    person.go("spend")
    expect(page.get_by_label("Requests", exact=True).get_by_text("stopped")).to_have_count(2)


def test_an_answer_goes_on_while_other_pages_are_looked_at_and_a_reload_ends_it(person: Visitor) -> None:
    page = person.page
    set_tokens(page, 60)
    say(page, "Go on meanwhile")
    turn = page.get_by_role("listitem").filter(has_text=MODEL)
    expect(turn.get_by_text(re.compile(r"^\d+ tokens?$"))).to_be_visible()
    person.go("network")
    expect(page.get_by_role("heading", level=1)).to_have_text("Network")
    person.go("chat")
    expect(turn.get_by_text("60 tokens")).to_be_visible()
    expect(turn.get_by_text("audited")).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    set_tokens(page, 900)
    say(page, "And again")
    expect(turn.get_by_text(re.compile(r"^\d{2,} tokens$"))).to_be_visible()
    page.reload()
    expect(turn.get_by_text("broken off")).to_be_visible()
    expect(turn.get_by_text(re.compile(r"^0\.0\d+ HCT$"))).to_be_visible()
    expect(page.get_by_role("button", name="Go on meanwhile", exact=True)).to_be_visible()


def test_a_key_is_made_used_by_a_program_and_revoked(person: Visitor, door: FrontDoor) -> None:
    page = person.go("keys")
    page.get_by_role("button", name="New key").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("notebook")
    page.get_by_label("Budget in HCT").fill("half")
    expect(page.get_by_text("An amount in HCT, such as 0.5.")).to_be_visible()
    expect(page.get_by_role("button", name="Create")).to_be_disabled()
    page.get_by_label("Budget in HCT").fill("0.5")
    page.get_by_label("for each").select_option("day")
    page.get_by_role("button", name="Create").click()
    key = page.locator("#new-key").inner_text()
    assert key.startswith("sk-hc-")
    headers = {"authorization": f"Bearer {key}", "user-agent": "my-notebook/1"}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    url = f"{door.base_url}/chat/completions"
    assert httpx.post(url, json=body, headers=headers, timeout=600).status_code == 200
    page.get_by_role("button", name="I have it").click()
    assert key not in page.content()
    row = page.get_by_role("row").filter(has_text="notebook")
    expect(row.get_by_text("active")).to_be_visible()
    expect(row.get_by_text("a day")).to_be_visible()
    row.get_by_role("button", name="Revoke the key notebook").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Leave it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(row.get_by_role("button", name="Revoke the key notebook")).to_be_focused()
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Revoke it").click()
    expect(row.get_by_text("revoked")).to_be_visible()
    assert httpx.post(url, json=body, headers=headers).status_code == 401
    person.go("spend")
    expect(page.get_by_label("Requests", exact=True).get_by_text("my-notebook/1").first).to_be_visible()


HOSTILE = """<script>window.hit=1</script> <img src=x onerror="window.hit=1">

See ![i](http://127.0.0.1:9/i.png)
[a](javascript:window.hit=1) [b](data:text/html,<script>window.hit=1</script>) [c](http://example.org/)
<iframe srcdoc="<script>parent.hit=1</script>"></iframe> <style>body{display:none}</style>
<form action="http://127.0.0.1:9/"><button>x</button></form> <a href="http://127.0.0.1:9/" ping="http://127.0.0.1:9/">d</a>
<svg><use href="http://127.0.0.1:9/x.svg#a"></use></svg> <math><mtext><img src=x onerror=window.hit=1></mtext></math>"""


def test_what_a_model_writes_neither_runs_nor_loads_anything(person: Visitor) -> None:
    page = person.page
    turns = [
        {"role": "user", "text": "<b>hi</b>"},
        {"role": "assistant", "text": HOSTILE, "reasoning": HOSTILE},
    ]
    chat = {
        "id": "x",
        "title": HOSTILE,
        "model": MODEL,
        "system": "",
        "temperature": "",
        "most": "",
        "changed": 1,
    }
    page.evaluate(
        "chats => localStorage.setItem('hc.chats', JSON.stringify(chats))", [chat | {"turns": turns}]
    )
    page.reload()
    text = page.locator(".turn .text").last
    expect(text.get_by_text("[image: i]")).to_be_visible()
    expect(text.get_by_text("<script>window.hit=1</script>", exact=False).first).to_be_visible()
    assert page.evaluate("window.hit") is None
    kinds = text.evaluate("box => [...box.querySelectorAll('*')].map(each => each.localName)")
    assert set(kinds) <= {"p", "br", "a", "code", "em", "strong"}
    links = text.evaluate(
        "box => [...box.querySelectorAll('a[href]')].map(each => [each.href, each.target, each.rel])"
    )
    assert links == [["http://example.org/", "_blank", "noopener noreferrer nofollow"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_telephone_and_are_free_of_serious_faults(
    browser: Browser, door: FrontDoor, scheme: str
) -> None:
    link = door.gateway.logins.one_time_link()
    with visitor(browser, door.url, link, viewport=NARROW, color_scheme=scheme) as person:
        for view in VIEWS:
            page = person.go(view)
            expect(page.get_by_role("heading", level=1)).to_have_text(view.capitalize())
            expect(page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)
            assert person.width_beyond() <= 0, view
            assert person.faults() == [], view
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 128) == (scheme == "dark")
        person.page.set_viewport_size({"width": 1280, "height": 900})
        for view in VIEWS:
            person.go(view)
            expect(page.get_by_role("heading", level=1)).to_have_text(view.capitalize())
            assert person.faults() == [], view


FOCUS = """() => {
  const here = document.activeElement;
  const drawn = [here, here.closest(".say")].some((each) => each && getComputedStyle(each).outlineStyle !== "none");
  return [here.getAttribute("aria-label") ?? here.innerText, drawn || here === document.body];
}"""
"""what has the focus, and whether a line is drawn around it"""


def test_everything_is_reached_by_keyboard(person: Visitor) -> None:
    page = person.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Chat")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        name, seen = page.evaluate(FOCUS)
        reached.add(name)
        assert seen, f"nothing shows that {name!r} has the focus"
    assert {"Settings", "New chat", "Message"} <= reached
    page.get_by_role("link", name="Network").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Network")
    expect(page.locator("main")).to_be_focused()


def test_an_ended_session_shows_the_way_back_in(browser: Browser, door: FrontDoor) -> None:
    with visitor(browser, door.url, door.gateway.logins.one_time_link()) as person:
        page = person.go("keys")
        expect(page.get_by_role("heading", level=1)).to_have_text("Keys")
        person.forgiving = True
        page.evaluate(
            "fetch('/logout', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
        )
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
        expect(page.get_by_text("hc-gateway link")).to_be_visible()
        assert person.faults() == []
        page.goto(door.gateway.logins.one_time_link())
        expect(page.get_by_role("heading", level=1)).to_have_text("Chat")


def test_the_map_shows_a_provider_that_is_gone(person: Visitor, door: FrontDoor) -> None:
    page = person.go("network")
    table = page.get_by_label("Providers", exact=True).get_by_role("row")
    expect(table).to_have_count(4)
    leaving = next(each for each in door.providers if each.advert.layer_start == 2)
    bar = page.locator(".map g", has=page.locator("title", has_text=leaving.advert.peer))
    expect(bar).to_have_count(1)
    leaving.stop()
    expect(bar).to_have_count(0)
    expect(table).to_have_count(3)
    words = page.get_by_label("Coverage in words")
    expect(words.get_by_text(re.compile("Layers 2:4 have one provider only"))).to_be_visible()
    next(each for each in door.providers if each.advert.layer_start == 2 and each is not leaving).stop()
    expect(words.get_by_text(re.compile("Layers 2:4 have no provider"))).to_be_visible()
    expect(page.get_by_label("Path", exact=True).get_by_role("heading", name="No path")).to_be_visible()
    person.go("chat")
    expect(page.get_by_text("nobody serves some layers now")).to_be_visible()


def test_a_gateway_that_stops_is_said_to_and_comes_back(
    browser: Browser, chain: Chain, stored_chatty: StoredModel, tmp_path: Path
) -> None:
    with visitor(browser, "http://127.0.0.1", "about:blank") as person:
        person.forgiving = True
        page = person.page
        with running_gateway(chain, stored_chatty, tmp_path / "a", ranges=((0, 2), (2, 4))) as first:
            bind = first.url.removeprefix("http://")
            page.goto(first.gateway.logins.one_time_link())
            expect(page.get_by_role("heading", level=1)).to_have_text("Chat")
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        with running_gateway(chain, stored_chatty, tmp_path / "b", binds=(bind,)) as second:
            # Its sessions are over with it, which is said; a new link opens the pages again.
            expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
            page.goto(second.gateway.logins.one_time_link())
            expect(page.get_by_label("Message")).to_be_visible()
