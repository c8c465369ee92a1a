"""A way to the chain that loses, delays, repeats and refuses what is sent over it."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eth_account import Account
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import NodeUnreachable, TransactionTimeout
from tests.market.proxy import Answer, proxy

SENDING = "eth_sendRawTransaction"


class Way:
    """What a way to the chain does with each transaction that is sent over it, in turn; then it is a good one."""

    def __init__(self, *does: str) -> None:
        self.does = list(does)
        self.later: list[threading.Thread] = []

    def __call__(self, method: str, ask: Callable[[], bytes]) -> Answer:
        if method != SENDING or not self.does:
            return 200, ask()
        match self.does.pop(0):
            case "lose the request":
                return None
            case "lose the answer":
                ask()
                return None
            case "fail afterwards":
                ask()
                return 503, b"busy"
            case "repeat":
                ask()
                return 200, ask()
            case "deliver late":
                self.later.append(threading.Timer(0.3, ask))
                self.later[-1].start()
                return None
            case "limit":
                return 200, json.dumps(
                    {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "request limit"}}
                ).encode()
        return 200, ask()

    def over(self) -> None:
        for each in self.later:
            each.join()


TROUBLES = (
    "lose the request",
    "lose the answer",
    "fail afterwards",
    "repeat",
    "deliver late",
    "limit",
    "pass",
)


@contextmanager
def over(chain: Chain, way: Way, account: LocalAccount) -> Iterator[tuple[Chain, Sender]]:
    with proxy(chain.url, way) as url:
        there = Chain(url, chain.deployment)
        yield there, Sender(there, account, patience=20)
    way.over()


def fuzz(chain: Chain, account: LocalAccount, schedules: int, seed: int) -> tuple[Counter[str], list[str]]:
    """So many transfers over random ways: how many were said to be sent, not sent or unknown, and what was wrong.

    What was sent must have arrived once, what was not sent must not, and what is unknown may have arrived once or not.
    """
    rng, told, wrong = random.Random(seed), Counter[str](), []
    for number in range(schedules):
        to = Account.create().address
        does = rng.choices(TROUBLES, k=rng.randint(1, 6))
        may: tuple[int, ...]
        with over(chain, Way(*does), account) as (there, sender):
            try:
                there.token.transfer(sender, to, number + 1)
                said, may = "sent", (number + 1,)
            except TransactionTimeout:
                said, may = "unknown", (0, number + 1)
            except NodeUnreachable:
                said, may = "not sent", (0,)
        told[said] += 1
        if (got := chain.token.balance(to)) not in may:
            wrong.append(f"schedule {number} ({', '.join(does)}) was {said}, and {got} arrived")
    return told, wrong
