"""The line of every process to the chain: a proxy that knows who asks for what, and can cut them off around a call."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector
from hexbytes import HexBytes

from hypercluster.contracts import artifact

CONTRACTS = (
    "DisputeCases",
    "DisputeDemands",
    "DisputeProofs",
    "HyperToken",
    "PaymentChannels",
    "StakingRegistry",
)
CALLS = {
    bytes(function_abi_to_4byte_selector(cast("ABIFunction", entry))): str(entry["name"])
    for name in CONTRACTS
    for entry in artifact(name).abi
    if entry["type"] == "function"
}
"""names of the contracts' functions by their selectors"""

Meddle = Callable[[str, str, Callable[[], bytes]], bytes | None]
"""(who, function, send it on) -> the chain's answer, or None to break the connection"""


def call_of(raw: str) -> str:
    """Name of the function that a signed transaction calls, "" for one that is none of ours."""
    called = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return CALLS.get(bytes(HexBytes(called["data"]))[:4], "")


@contextmanager
def tapped(chain: str, meddle: Meddle) -> Iterator[str]:
    """A proxy before the chain at URL `chain`; whoever goes by the name N uses its URL with /N behind it.

    `meddle` decides on every transaction, in the thread of the one who sends it.
    """
    where = urlsplit(chain)
    local = threading.local()

    def forward(body: bytes) -> bytes:
        for again in (False, True):
            if again or not hasattr(local, "line"):
                local.line = http.client.HTTPConnection(where.hostname or "", where.port)
            try:
                local.line.request("POST", "/", body, {"Content-Type": "application/json"})
                return bytes(local.line.getresponse().read())
            except (OSError, http.client.HTTPException):
                if again:
                    raise
        raise AssertionError

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # killed while it asked
                self.close_connection = True
                return
            asked: Any = json.loads(body)
            answer: bytes | None
            if isinstance(asked, dict) and asked["method"] == "eth_sendRawTransaction":
                answer = meddle(self.path.strip("/"), call_of(asked["params"][0]), lambda: forward(body))
            else:
                answer = forward(body)
            if answer is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, http.client.HTTPException):
                self.close_connection = True  # they were killed while they asked

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
