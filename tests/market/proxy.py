"""A real HTTP proxy before a real chain, which answers as it is told to."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes] | None
Behave = Callable[[str, Callable[[], bytes]], Answer]
"""(method asked for, ask the chain) -> status and body, or None to break the connection"""


@contextmanager
def proxy(
    chain: str,
    behave: Behave,
    on_body: Callable[[bytes], None] = lambda body: None,
    on_headers: Callable[[Message], None] = lambda headers: None,
) -> Iterator[str]:
    """An HTTP server before the chain at URL `chain`; `on_headers` and `on_body` see each request first, in a thread of
    its own.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            on_headers(self.headers)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            on_body(body)
            asked = json.loads(body)
            method = "batch" if isinstance(asked, list) else asked["method"]

            def ask() -> bytes:
                request = urllib.request.Request(chain, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request) as response:
                    return bytes(response.read())

            answer = behave(method, ask)
            if answer is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hanging(chain: str) -> Iterator[tuple[str, threading.Event]]:
    """A proxy that passes everything on until the event is set, and from then on takes requests and says nothing."""
    hangs, over = threading.Event(), threading.Event()

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        if hangs.is_set():
            over.wait()
            return None
        return 200, ask()

    with proxy(chain, behave) as url:
        try:
            yield url, hangs
        finally:
            over.set()
