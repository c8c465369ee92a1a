"""A stranger's page in a real browser whose owner is logged in: it can neither spend nor read, under whatever name."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.helpers.browsers import chromium
from tests.node.helpers.gateways import FrontDoor, running_gateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from hypercluster.market.chain import Chain
    from hypercluster.node.shards.store import StoredModel

pytestmark = pytest.mark.slow

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
GENERATE = {"model": "tiny", "prompt": "hi", "stream": False, "options": {"num_predict": 2}}

ATTACK = """
async ({gate, chat, generate}) => {
  const told = {};
  const attempt = async (name, work) => {
    try { told[name] = String(await work()); } catch (error) { told[name] = "blocked"; }
  };
  const read = async (response) => response.type === "opaque" ? "opaque" : await response.text();
  const json = {"Content-Type": "application/json"};
  const body = JSON.stringify(chat);
  const send = (path, how) => fetch(gate + path, {method: "POST", credentials: "include", body, ...how}).then(read);
  await attempt("json", () => send("/v1/chat/completions", {headers: json}));
  await attempt("plain", () => send("/v1/chat/completions", {}));
  await attempt("plain opaque", () => send("/v1/chat/completions", {mode: "no-cors"}));
  await attempt("key", () => send("/v1/chat/completions", {headers: {...json, Authorization: "Bearer sk-hc-guess"}}));
  await attempt("ollama", () => send("/api/generate", {mode: "no-cors", body: JSON.stringify(generate)}));
  await attempt("ollama json", () => send("/api/generate", {headers: json, body: JSON.stringify(generate)}));
  await attempt("new key", () => send("/hc/keys", {mode: "no-cors", body: '{"name": "mine"}'}));
  const all = {credentials: "include"};
  await attempt("policy", () => fetch(gate + "/hc/policy", {method: "PUT", body: "{}", ...all}).then(read));
  await attempt("delete", () => fetch(gate + "/hc/keys/x", {method: "DELETE", ...all}).then(read));
  await attempt("logout", () => send("/logout", {mode: "no-cors"}));
  await attempt("beacon", () => {
    navigator.sendBeacon(gate + "/v1/chat/completions", new Blob([body], {type: "text/plain"}));
    return "blocked";
  });
  for (const path of ["/hc/me", "/hc/requests", "/v1/models", "/metrics", "/readyz"]) {
    await attempt("read " + path, () => fetch(gate + path, all).then(read));
    await attempt("read opaque " + path, () => fetch(gate + path, {mode: "no-cors", ...all}).then(read));
  }
  const element = (tag, name, set) => attempt(name, () => new Promise((done) => {
    const made = document.createElement(tag);
    made.onload = () => done("loaded");
    made.onerror = () => done("blocked");
    set(made);
    document.body.append(made);
    setTimeout(() => done("blocked"), 2000);
  }));
  await element("img", "img", (made) => { made.src = gate + "/pages/icon.svg"; });
  await element("script", "script", (made) => { made.src = gate + "/hc/me"; });
  await element("script", "script of ours", (made) => { made.src = gate + "/vendor/preact.js"; });
  await element("link", "style", (made) => { made.rel = "stylesheet"; made.href = gate + "/pages/app.css"; });
  await attempt("events", () => new Promise((done) => {
    const source = new EventSource(gate + "/hc/events", {withCredentials: true});
    source.onopen = () => done("open");
    source.onmessage = (event) => done(event.data);
    source.onerror = () => done("blocked");
  }));
  await attempt("socket", () => new Promise((done) => {
    const socket = new WebSocket(gate.replace("http", "ws") + "/hc/events");
    socket.onopen = () => done("open");
    socket.onerror = () => done("blocked");
  }));
  await attempt("frame", () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.src = gate + "/";
    frame.onload = () => {
      try { done(frame.contentDocument.body.innerHTML || "blocked"); } catch { done("blocked"); }
    };
    document.body.append(frame);
    setTimeout(() => done("blocked"), 2000);
  }));
  await attempt("form", () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.name = "hidden";
    document.body.append(frame);
    const form = document.createElement("form");
    form.method = "POST"; form.action = gate + "/v1/chat/completions"; form.target = "hidden";
    form.enctype = "text/plain";
    const field = document.createElement("input");
    field.name = body.slice(0, -1) + ', "x": "'; field.value = '"}';
    form.append(field);
    document.body.append(form);
    form.submit();
    setTimeout(() => done("blocked"), 1000);
  }));
  return told;
}
"""


@pytest.fixture(scope="module")
def door(
    front_door: FrontDoor, chain: Chain, stored_chatty: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoor]:
    """A gateway that takes calls of Ollama's API without any key, the widest that it opens."""
    home: Path = tmp_path_factory.mktemp("open")
    with running_gateway(
        chain, stored_chatty, home, providers=front_door.providers, ollama_open="open"
    ) as opened:
        opened.new_key("open", budget=10**18)
        yield opened


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another server of this machine, with an empty page."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>cute cats</title><body>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium's own check of such requests is off: it is ours that is tried here, and not every browser has one.
    unchecked = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"
    with chromium("--host-resolver-rules=MAP *.example 127.0.0.1", unchecked) as found:
        yield found


@pytest.fixture
def page(browser: Browser, door: FrontDoor) -> Iterator[Page]:
    """A window of somebody who is logged in at the gateway."""
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(door.gateway.logins.one_time_link())
    yield opened
    context.close()


def state(door: FrontDoor) -> tuple[int, list[str]]:
    """All that a stranger might change: what the providers were signed by this wallet, in wei, and the keys."""
    paid = sum(
        channel.best
        for provider in door.providers
        for channel in provider.ledger.payee.channels()
        if channel.payer == door.wallet.sender.address
    )
    return paid, [row.name for row in door.market.ledger.api_keys.list()]


def ask(page: Page, path: str, body: Any = None) -> Any:
    """What a page of the gateway's own gets."""
    how = (
        {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}
        if body
        else {}
    )
    return page.evaluate("async ([path, how]) => (await fetch(path, how)).status", [path, how])


def test_the_page_of_the_gateway_itself_may_do_all_that(page: Page, door: FrontDoor) -> None:
    before = state(door)
    assert ask(page, "/hc/me") == 200
    assert ask(page, "/v1/chat/completions", CHAT) == 200
    assert state(door)[0] > before[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_elsewhere_can_neither_spend_nor_read(
    page: Page, door: FrontDoor, elsewhere: int, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = state(door)
    with caplog.at_level(logging.INFO, "hypercluster.node.web.guard"):
        page.goto(
            f"http://{host}:{elsewhere}/"
        )  # with another port of our own name the browser sends our cookie
        told = page.evaluate(ATTACK, {"gate": door.url, "chat": CHAT, "generate": GENERATE})
    assert {name: got for name, got in told.items() if got not in ("blocked", "opaque")} == {}
    assert state(door) == before
    refused = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert sum("/v1/chat/completions" in line for line in refused) >= 4  # it was the gateway that refused
    assert any("/api/generate" in line for line in refused)
    page.goto(door.url)
    assert ask(page, "/hc/me") == 200  # and nobody was logged out


def test_a_name_that_was_pointed_here_gets_nothing(page: Page, door: FrontDoor) -> None:
    """DNS rebinding: the page came from the attacker, and now its name is ours, so all requests are of its own site."""
    before = state(door)
    origin = f"http://rebound.example:{door.url.rpartition(':')[2]}"
    page.route(
        f"{origin}/cats", lambda route: route.fulfill(body="<!doctype html><body>", content_type="text/html")
    )
    page.goto(f"{origin}/cats")
    told = page.evaluate(ATTACK, {"gate": origin, "chat": CHAT, "generate": GENERATE})
    read = {name: got for name, got in told.items() if got not in ("blocked", "opaque")}
    assert read
    for got in read.values():
        assert json.loads(got)["error"]["code"] == "host_not_allowed"
    assert state(door) == before
    answer = page.goto(origin)
    assert answer is not None
    assert answer.status == 421


def test_a_link_on_another_page_leads_to_ours_without_a_session(
    page: Page, door: FrontDoor, elsewhere: int
) -> None:
    page.goto(f"http://evil.example:{elsewhere}/")
    page.evaluate("url => { location.href = url; }", f"{door.url}/")
    page.wait_for_url(f"{door.url}/**")
    assert "cats" not in page.title()
    page.goto(f"http://evil.example:{elsewhere}/")
    page.evaluate("url => { location.href = url; }", f"{door.url}/hc/me")
    page.wait_for_url(f"{door.url}/hc/me")
    assert "login_required" in page.content() or "401" in page.content() or "link" in page.content()
