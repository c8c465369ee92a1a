"""A web server that gives files in ranges, and in every way in which one goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web(ThreadingHTTPServer):
    """Gives `files` by their paths. What goes wrong is set from outside and counts requests or bytes down.

    Attributes:
        drops: for each of the next answers, after how many bytes it breaks off.
        stalls: for each of the next answers, seconds of silence before its last byte.
        lies: at which bytes of a file each answer is wrong; an entry is used up by the answer that told it.
        statuses: of the next answers, instead of a file.
        extra: headers of every answer.
        asked: the Range headers that came.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tags = True
        self.ranges = True
        self.drops: list[int] = []
        self.stalls: list[float] = []
        self.lies: list[int] = []
        self.always_lies = False
        self.statuses: list[int] = []
        self.shifted = 0
        self.extra: dict[str, str] = {}
        self.asked: list[str] = []
        self.sent = 0

    def url(self, path: str) -> str:
        """Where a file is."""
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        web = self.server
        asked = self.headers.get("Range", "")
        web.asked.append(asked)
        content = web.files.get(self.path.partition("?")[0].lstrip("/"))
        if web.statuses:
            self.send_error(web.statuses.pop(0))
        elif content is None:
            self.send_error(404)
        else:
            self._give(content, asked)

    def _give(self, content: bytes, asked: str) -> None:
        web = self.server
        tag = f'"{hash(content):x}"'
        start, stop = 0, len(content)
        partial = bool(asked) and web.ranges and self.headers.get("If-Range", tag) == tag
        if partial:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(len(content), int(last) + 1)
            if start >= stop:
                self.send_error(416)
                return
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start + web.shifted}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        if web.tags:
            self.send_header("ETag", tag)
        for name, value in web.extra.items():
            self.send_header(name, value)
        self.end_headers()
        body = bytearray(content[start:stop])
        for at in list(web.lies):
            if start <= at < stop:
                body[at - start] ^= 0xFF
                if not web.always_lies:
                    web.lies.remove(at)
        drop = web.drops.pop(0) if web.drops else None
        stall = web.stalls.pop(0) if web.stalls else 0.0
        try:
            self.wfile.write(body[: len(body) - 1 if drop is None else drop])
            self.wfile.flush()
            time.sleep(stall)
            if drop is None:
                self.wfile.write(body[-1:])
        except OSError:
            pass
        web.sent += len(body) if drop is None else drop
        if drop is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_web() -> Iterator[Web]:
    """A web server for as long as the block lasts."""
    with Web() as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            web.shutdown()
            thread.join()
