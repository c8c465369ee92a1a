"""The server against slow, silent, greedy and early-leaving clients."""

from __future__ import annotations

import logging
import socket
from functools import partial

import httpx
import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from hypercluster.node.web.serving import HEADER_BYTES, CannotServe, host_and_port, serve
from tests.node.helpers.http import dial, exchange, served


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{scope['method']} {scope['path']}".encode()})


class Streaming:
    """Sends a part at once and another every 10 ms for ever; says when it ended."""

    def __init__(self, part: bytes = b"x") -> None:
        self.part, self.ended, self.sent = part, trio.Event(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                while True:
                    message: Message = {"type": "http.response.body", "body": self.part, "more_body": True}
                    await send(message)
                    self.sent += 1
                    await trio.sleep(0.01)
        finally:
            self.ended.set()


async def test_several_addresses_serve_one_application() -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, hello, ["127.0.0.1:0", "[::1]:0"]))
        async with httpx.AsyncClient() as client:
            for url in urls:
                answer = await client.get(url + "/a%20b?q=1")
                assert (answer.status_code, answer.text) == (200, "GET /a b")
                assert "server" not in answer.headers
                head = await client.head(url)
                assert (head.status_code, head.content) == (200, b"")
        nursery.cancel_scope.cancel()


async def test_an_address_of_another_machine_is_a_sentence() -> None:
    with pytest.raises(CannotServe, match="cannot assign requested address"):
        await serve(hello, ["192.0.2.1:0"])


async def test_an_address_for_all_is_told_as_one_that_can_be_opened() -> None:
    async with served(hello, "0.0.0.0:0") as url, httpx.AsyncClient() as client:
        assert url.startswith("http://127.0.0.1:")
        assert (await client.get(url)).status_code == 200


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotServe, match=r"address already in use\. End what listens there"):
            await serve(hello, ["127.0.0.1:0", bind])


@pytest.mark.parametrize(
    "bind",
    ["", "127.0.0.1", ":80", "[::1]", "::1:80", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:٣", "h:-1"],
)
def test_what_is_no_address_is_refused(bind: str) -> None:
    with pytest.raises(CannotServe, match="is no address to serve at"):
        host_and_port(bind)


async def test_no_address_is_not_every_address() -> None:
    with pytest.raises(CannotServe, match="No address"):
        await serve(hello, [])
    with pytest.raises(CannotServe, match="no host has the name"):
        await serve(hello, ["no-such-host.invalid:80"])


async def test_headers_that_come_slowly_or_never_end_the_connection() -> None:
    async with served(hello, idle_s=0.3) as url:
        assert await exchange(url, b"") == b""
        stream = await dial(url)
        with trio.fail_after(300):
            try:
                while True:
                    await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n"[:1])
                    await trio.sleep(0.05)
            except trio.BrokenResourceError:
                pass
        again = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert (await exchange(url, again + b"GET / HT")).count(b"200") == 1


async def test_headers_have_a_bound() -> None:
    async with served(hello) as url:
        giant = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * HEADER_BYTES
        assert (await exchange(url, giant)).startswith(b"HTTP/1.1 431 ")
        assert (await exchange(url, b"GET /" + b"x" * 2 * HEADER_BYTES)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_an_error_and_the_server_goes_on(request_: bytes) -> None:
    async with served(hello) as url:
        answer = await exchange(url, request_ + b"\r\n\r\n", seconds=3)
        assert answer[9:10] in (b"4", b"5")
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).status_code == 200


async def test_who_reads_nothing_is_given_up() -> None:
    app = Streaming(b"x" * 2**20)
    async with served(app, send_s=0.3) as url:
        stream = await dial(url)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with trio.fail_after(300):
            await app.ended.wait()
        assert app.sent < 64
        await stream.aclose()


async def test_the_end_waits_for_who_reads_and_not_for_who_does_not() -> None:
    app = Streaming(b"x" * 2**20)
    with trio.fail_after(300):
        async with served(app, graceful_s=0.3) as url:
            silent = await dial(url)
            idle = await dial(url)
            await silent.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await silent.receive_some(1)
    assert app.ended.is_set()
    with pytest.raises(OSError, match="failed"):
        await dial(url)
    await idle.aclose()
    await silent.aclose()


async def test_an_answer_under_way_is_finished_at_the_end() -> None:
    begun = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await trio.sleep(0.5)
        await hello(scope, receive, send)

    got: list[httpx.Response] = []

    async with trio.open_nursery() as asking:

        async def ask(url: str) -> None:
            async with httpx.AsyncClient() as client:
                got.append(await client.get(url))

        async with served(slow, graceful_s=10) as url:
            asking.start_soon(ask, url)
            await begun.wait()
    assert got[0].text == "GET /"


async def test_a_client_that_leaves_ends_its_stream() -> None:
    app = Streaming()
    async with served(app) as url:
        stream = await dial(url)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await stream.receive_some()
        await stream.aclose()
        with trio.fail_after(300):
            await app.ended.wait()


async def test_silent_connections_keep_nobody_out_and_busy_ones_are_not_ended() -> None:
    app = Streaming()
    async with served(app, most_connections=3) as url:
        silent = [await dial(url) for _ in range(6)]
        busy = [await dial(url) for _ in range(3)]
        for each in busy:
            await each.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await each.receive_some()).startswith(b"HTTP/1.1 200")
        answer = await exchange(url, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        for each in busy:
            assert await each.receive_some()
        for each in silent + busy:
            await each.aclose()


async def test_a_bug_in_the_application_is_an_answer_and_goes_to_our_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("a bug")

    async with served(wrong) as url, httpx.AsyncClient() as client:
        with caplog.at_level(logging.ERROR):
            assert (await client.get(url)).status_code == 500
            assert (await client.get(url)).status_code == 500
    assert {record.name for record in caplog.records} == {"hypercluster.node.web.serving"}
    assert "ZeroDivisionError" in caplog.text
