"""Asks a gateway over HTTP and times what comes, in a process of its own so that nothing of it slows the gateway.

Reads commands as lines of JSON, answers each with one; see bench_gateway.py, which starts it.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

HOST = KEY = ""
BODY: dict[str, Any] = {}


def ask(connection: http.client.HTTPConnection) -> dict[str, Any]:
    """One stream: its status, ms to the first text, ms between pieces of text, and how many came."""
    began = time.perf_counter()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    connection.request("POST", "/v1/completions", json.dumps(BODY), headers)
    answer = connection.getresponse()
    if answer.status != 200:
        answer.read()
        return {"status": answer.status, "retry_after": answer.headers.get("retry-after")}
    at: list[float] = []
    done = False
    for line in answer:
        if line.startswith(b"data: [DONE]"):
            done = True
        elif line.startswith(b"data: "):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["text"]:
                at.append(time.perf_counter())
    if not at:
        return {"status": 200, "done": done, "pieces": 0}
    between = (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else 0.0
    first = at[0] - began
    return {"status": 200, "done": done, "pieces": len(at), "first": 1000 * first, "each": 1000 * between}


def once(_: int) -> dict[str, Any]:
    """The same over a connection of its own."""
    connection = http.client.HTTPConnection(HOST, timeout=300)
    try:
        return ask(connection)
    finally:
        connection.close()


def main() -> None:
    """Answer commands until the input ends."""
    global HOST, KEY
    kept: http.client.HTTPConnection | None = None
    for line in sys.stdin:
        command = json.loads(line)
        match command.pop("do"):
            case "set":
                HOST, KEY = urlsplit(command["url"]).netloc, command["key"]
                BODY.clear()
                BODY.update(command["body"])
                kept = http.client.HTTPConnection(HOST, timeout=300)
                result: Any = None
            case "ask":
                assert kept is not None
                BODY.update(command)
                result = ask(kept)
            case "streams":
                began = time.perf_counter()
                with ThreadPoolExecutor(command["n"]) as pool:
                    each = list(pool.map(once, range(command["n"])))
                result = {"seconds": time.perf_counter() - began, "each": each}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
