"""Who is let through to an application, in requests byte for byte, as browsers and strangers send them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from hypercluster.node.web.guard import Guard, guarded, own_origin
from tests.node.helpers.http import dial, exchange, served


class Echo:
    """Says what reached it, and counts."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        request = Request(scope, receive)
        document = {
            "method": request.method,
            "body": len(await request.body()),
            "own": own_origin(scope),
        }
        await JSONResponse(document)(scope, receive, send)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


async def ask(url: str, method: str = "GET", **how: Any) -> httpx.Response:
    async with httpx.AsyncClient(verify=False) as client:  # which would read certificates each time
        return await client.request(method, url, **how)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "me.example@evil",
        "0x7f000001",
        "2130706433",
        "127.1",
        ":80",
        "[::1",
        "[evil]",
        "::1",
        "localhost:80:80",
        "localhost:x",
        "127.0.0.1,evil",
        "127.0.0.1%00",
    ],
)
async def test_a_name_that_anybody_may_point_here_is_refused(host: str) -> None:
    echo = Echo()
    async with served(guarded(echo, hosts=["me.example"])) as url:
        answer = await ask(url, headers={"host": host})
    assert (answer.status_code, code(answer), echo.reached) == (421, "host_not_allowed", 0)


async def test_a_request_without_host_or_with_a_whole_url_is_no_way_around() -> None:
    echo = Echo()
    async with served(guarded(echo)) as url:
        assert (await exchange(url, b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 421 ")
        whole = b"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        assert (await exchange(url, whole)).startswith(b"HTTP/1.1 400 ")
        whole = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert (await exchange(url, whole)).startswith(b"HTTP/1.1 400 ")
        for bad in (b"/a%00b", b"/a%0d%0aSet-Cookie:x", b"*"):
            asked = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % bad
            assert (await exchange(url, asked)).startswith(b"HTTP/1.1 400 ")
    assert echo.reached == 0


async def test_a_refusal_is_one_line_of_the_log_and_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hypercluster.node.web.guard")
    async with served(guarded(Echo(), secret_paths=["/k/"])) as url:
        for path in (b"/k/sk-hc-secret/api/tags", b"/a%0aforged"):
            asked = b"GET %b HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n" % path
            assert (await exchange(url, asked)).startswith(b"HTTP/1.1 4")
    told = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(told) == 2
    assert "secret" not in told[0]
    assert "\n" not in told[1]


async def test_pages_of_others_are_refused_and_told_nothing_that_they_could_read() -> None:
    echo = Echo()
    async with served(guarded(echo)) as url:
        port = url.rpartition(":")[2]
        for origin in (
            "http://evil.example",
            "null",
            "file://",
            "",
            f"http://localhost:{port}",  # another name of this machine is another origin
            "http://127.0.0.1",
            "http://127.0.0.1:1",
            f"ftp://127.0.0.1:{port}",
            f"http://127.0.0.1:{port}.evil.example",
            f"http://127.0.0.1:{port}@evil.example",
        ):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                answer = await ask(
                    url, method, headers={"origin": origin, "content-type": "application/json"}
                )
                assert (answer.status_code, code(answer)) == (403, "origin_not_allowed"), origin
                assert not [name for name in answer.headers if name.startswith("access-control")]
        assert echo.reached == 0
        assert (await ask(url, "POST", headers={"origin": url}, json={})).json()["own"]


async def test_behind_a_proxy_with_tls_the_page_is_of_the_name_that_was_allowed() -> None:
    async with served(guarded(Echo(), hosts=["chat.example"])) as url:
        page = {"host": "chat.example", "origin": "https://chat.example", "sec-fetch-site": "same-origin"}
        assert (await ask(url, "POST", json=1, headers=page)).json()["own"]
        other = page | {"origin": "https://other.example"}
        assert (await ask(url, "POST", json=1, headers=other)).status_code == 403


async def test_without_an_origin_a_browser_says_in_other_ways_where_a_request_comes_from() -> None:
    async with served(guarded(Echo())) as url:
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        for headers, status in (
            ({"sec-fetch-site": "same-origin"}, 200),
            ({"sec-fetch-site": "none"}, 200),
            (link, 200),
            (link | {"sec-fetch-dest": "iframe"}, 403),
            ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
            ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}, 403),
        ):
            assert (await ask(url, headers=headers)).status_code == status, headers
        assert not (await ask(url, headers=link)).json()["own"]
        form = link | {"content-type": "application/x-www-form-urlencoded"}
        assert (await ask(url, "POST", headers=form, content=b"a=1")).status_code == 403


async def test_what_calls_itself_no_json_is_refused_even_when_it_is_empty() -> None:
    echo = Echo()
    async with served(guarded(echo)) as url:
        for kind in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json",
                     "application/jsonx", "text/plain, application/json"):  # fmt: skip
            for method in ("POST", "PUT", "PATCH"):
                answer = await ask(url, method, content=b"{}", headers={"content-type": kind} if kind else {})
                assert (answer.status_code, code(answer)) == (415, "json_required"), kind
        assert (await ask(url, "POST")).status_code == 415
        squeezed = {"content-type": "application/json", "content-encoding": "gzip"}
        assert (await ask(url, "POST", content=b"x", headers=squeezed)).status_code == 415
        assert echo.reached == 0
        for good in ("application/json", "Application/JSON; charset=utf-8"):
            answer = await ask(url, "POST", content=b"{}", headers={"content-type": good})
            assert answer.json() == {"method": "POST", "body": 2, "own": True}


async def test_where_the_path_is_a_secret_any_body_is_read_and_no_other_page() -> None:
    async with served(guarded(Echo(), secret_paths=["/k/"])) as url:
        assert (await ask(url + "/k/secret", "POST", content=b"x")).json()["body"] == 1
        assert (await ask(url + "/k/../k", "POST", content=b"x")).status_code == 415
        foreign = await ask(
            url + "/k/secret", "POST", content=b"x", headers={"origin": "http://evil.example"}
        )
        assert foreign.status_code == 403


async def test_a_body_that_is_too_long_gets_an_answer_that_its_sender_reads() -> None:
    async with served(guarded(Echo(), most_body=1000)) as url:
        assert (await ask(url, "POST", json="x" * 998)).json()["body"] == 1000
        for length in (999, 3 * 2**20):
            answer = await ask(url, "POST", json="x" * length)
            assert (answer.status_code, code(answer)) == (413, "body_too_long")

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 100

        chunked = await ask(url, "POST", content=parts(), headers={"content-type": "application/json"})
        assert (chunked.status_code, code(chunked)) == (413, "body_too_long")


async def test_a_body_that_trickles_or_stops_is_given_up() -> None:
    echo = Echo()
    guard = guarded(echo, body_seconds=0.3)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with served(guard) as url:
        answer = await exchange(url, head + b"Content-Length: 10\r\n\r\n123")
        assert answer.startswith(b"HTTP/1.1 408 ")
        stream = await dial(url)
        await stream.send_all(head + b"Content-Length: 10\r\n\r\n123")
        await stream.aclose()
        assert (await ask(url, "POST", json=1)).json()["body"] == 1
    assert echo.reached == 2  # the one that left was seen to be gone
    assert isinstance(guard, Guard)
    assert guard._reading == 0


async def test_only_http_1_and_no_websockets() -> None:
    echo = Echo()
    async with served(guarded(echo)) as url:
        upgrade = (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await exchange(url, upgrade, seconds=3)).startswith(b"HTTP/1.1 403")
        assert (await ask(url, "TRACE")).status_code == 405
        assert (await ask(url, "PROPFIND")).status_code == 405
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        await exchange(url, preface, seconds=1)
    assert echo.reached == 0


async def test_listed_pages_may_use_keys_of_their_own_and_no_cookies() -> None:
    page = "https://chat.example"
    async with served(guarded(Echo(), origins=[page])) as url:
        answer = await ask(
            url,
            "OPTIONS",
            headers={
                "origin": page,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            },
        )
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "access-control-allow-credentials" not in answer.headers
        answer = await ask(url, "POST", json=1, headers={"origin": page, "sec-fetch-site": "cross-site"})
        assert answer.headers["access-control-allow-origin"] == page
        assert answer.headers["vary"] == "Origin"
        assert not answer.json()["own"]
        assert (await ask(url, headers={"origin": page + ".evil.example"})).status_code == 403
        assert (await ask(url, headers={"origin": page, "host": "evil.example"})).status_code == 421


async def test_every_answer_is_safe_to_show_and_kept_by_nobody() -> None:
    async def loose(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("x", headers={"cache-control": "max-age=5"})(scope, receive, send)

    async with served(guarded(loose)) as url:
        for answer in (await ask(url), await ask(url, headers={"host": "evil.example"})):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert (await ask(url)).headers["cache-control"] == "max-age=5"


async def test_many_bodies_at_once_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypercluster.node.web.guard.BODIES_AT_ONCE", 5000)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3000\r\n\r\n"
    async with served(guarded(Echo(), body_seconds=20)) as url:
        held = [await dial(url) for _ in range(2)]
        for each in held[:1]:
            await each.send_all(head + b"x" * 2900)
        await trio.testing.wait_all_tasks_blocked(0.1)
        await held[1].send_all(head + b"x" * 2900)
        answer = b""
        while b"busy" not in answer:
            answer += await held[1].receive_some()
        await held[0].send_all(b"x" * 100)
        assert (await held[0].receive_some()).startswith(b"HTTP/1.1 200")
        for each in held:
            await each.aclose()
