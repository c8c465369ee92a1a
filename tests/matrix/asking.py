"""The client of a case: what it wishes and asks, here and in a process of its own that is killed."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import trio
from eth_account import Account

from hypercluster.market.chain import Chain, Deployment, Sender
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.units import HCT
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.draft_model import Drafting
from hypercluster.node.client.events import Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import Purse
from hypercluster.node.client.request import Allowance, Request, Sampling, Wishes
from hypercluster.node.client.siblings import Siblings
from hypercluster.node.home.settings import Settings
from hypercluster.node.rows import WireDtype
from hypercluster.node.shards.store import StoredModel, open_model
from tests.matrix.cases import (
    AHEAD,
    DRAFT_MODEL,
    IN_FLIGHT,
    MIXED,
    NO_DRAFTS,
    NOBODY,
    Q8,
    RELAY,
    RESUMED,
    SEEDED,
    Case,
)
from tests.node.helpers.rounding import certify

DRAFTS = 8
TOKENS_AHEAD = 8
"""that a voucher pays for"""
FAILS_AT = 12
"""tokens: some steps have gone over the links by then, and some are to come"""
MEETINGS = (1, FAILS_AT)
"""tokens at which the answers to one prompt wait for each other, so that what fails fails for all of them"""
FIND_SECONDS = 300.0
SEED = 11
PRICE_ONLY = MarketParameters(alpha=1.0, p_ref=1, risk_weight=0.0)
"""who looks at the price guesses as far as rows cost nothing more: three tokens"""

TIME_ONLY = MarketParameters(alpha=0.0, risk_weight=0.0)

Told = Callable[[int], Awaitable[None]]
"""told how many tokens each answer has at least, whenever there is one more"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client finds its providers, as a process of its own can be told; `path` are the peers of the cheap ones
    in the order of their layers, `spare` is who stands by for the middle one, `nodes` how many providers there are.
    """

    rpc: str
    deployment: str
    bootstrap: str
    model: str
    path: tuple[str, ...]
    spare: str
    nodes: int


def request_of(prompt: Sequence[int], tokens: int, seed: int | None) -> Request:
    """Greedy where there is no seed."""
    drawn = Sampling() if seed is None else Sampling(temperature=0.7, seed=seed)
    return Request(prompt=tuple(prompt), allowance=Allowance(tokens=tokens), sampling=drawn)


def seeds_of(case: Case) -> list[int | None]:
    """Of each answer to the last prompt; the first one's is that of the turn before as well."""
    return [SEED + each if case.draws == SEEDED else None for each in range(case.siblings)]


def requests_of(case: Case, prompt: Sequence[int], tokens: int, *, is_last: bool) -> list[Request]:
    """The requests of one turn; only the last one is answered more than once."""
    seeds = seeds_of(case) if is_last else seeds_of(case)[:1]
    return [request_of(prompt, tokens, seed) for seed in seeds]


def wishes_of(case: Case, place: Place) -> Wishes:
    """Windows in flight are worth it only to who looks at the time, so there the path is preferred by name. Rows travel
    as q8 because the model's certificate allows it.
    """
    flying = case.guesses == IN_FLIGHT
    return Wishes(
        market=TIME_ONLY if flying else PRICE_ONLY,
        prefer=(*place.path, place.spare) if flying else (),
        in_flight=4 if flying else 0,
        wire_dtype=None if case.wire == Q8 else WireDtype.named(case.wire),
        deposit_wei=HCT // 100,
        stays=case.session == RESUMED,
        chain=case.rows != RELAY,
        drafts=0 if case.guesses == NO_DRAFTS else DRAFTS,
        pay_ahead=TOKENS_AHEAD if case.vouchers == AHEAD else 1,
        spare=case.spare != NOBODY,
    )


@asynccontextmanager
async def client_of(
    case: Case, place: Place, chain: Chain, stored: StoredModel, purse: Purse, home: Path
) -> AsyncIterator[Client]:
    """A client that knows all providers, looks at prices, and has every stage computed again by itself."""
    guesser = Drafting(stored=stored, sessions=case.siblings)
    settings = Settings(home=home, bootstrap=(place.bootstrap,))
    async with joined(
        settings,
        chain,
        stored,
        purse,
        wishes=wishes_of(case, place),
        auditing=Auditing(policy=Policy(rate=1.0), auditor="own"),
        drafting=guesser if case.guesses in (DRAFT_MODEL, IN_FLIGHT) else None,
    ) as client:
        with trio.fail_after(FIND_SECONDS):
            while sum(advert.free >= 3 for advert in client.adverts()) < place.nodes:
                await trio.sleep(0.05)
        if case.rows == MIXED:
            client.opener.links.strain(*place.path[-2:])
        yield client


async def answered(client: Client, requests: Sequence[Request], told: Told) -> list[Completion]:
    """What comes of requests that run at the same time, siblings where there are several: the one that ran the prompt
    first. Raises what made one of them fail.
    """
    siblings = Siblings() if len(requests) > 1 else None
    completing = [client.complete(each, "", siblings) for each in requests]
    came, met = [0] * len(requests), {tokens: trio.Event() for tokens in MEETINGS}

    async def count(place: int) -> None:
        least, had = min(came), came[place] + 1
        came[place] = had
        if min(came) > least:
            await told(had)
            if had in met:
                met[had].set()
        elif had in met:
            await met[had].wait()

    async def run(place: int) -> None:
        try:
            async with completing[place] as events:
                async for event in events:
                    if isinstance(event, Token):
                        await count(place)
        finally:
            # Nobody waits for an answer that failed.
            for each in met.values():
                each.set()

    async with trio.open_nursery() as nursery:
        for place in range(len(requests)):
            nursery.start_soon(run, place)
    found = [each.completion for each in completing]
    for done in found:
        if done.error is not None:
            raise done.error
    return sorted(found, key=lambda done: done.cached)


async def silent(_came: int) -> None:
    return


async def main(told: dict[str, object]) -> None:
    """Run the turns that it is told, and print how many tokens each answer to the last one has; at those where they
    wait for each other it goes on when it is sent a line.
    """
    case, place = Case(**told["case"]), Place(**told["place"])  # type: ignore[arg-type]
    home = Path(str(told["home"]))
    chain = Chain(place.rpc, Deployment.load(Path(place.deployment)))
    sender = Sender(chain, Account.from_key(str(told["wallet"])))
    session_key = bytes.fromhex(str(told["session_key"]))
    purse = Purse(session_key=session_key, wallet=sender.address, unlock=lambda: sender)
    stored = open_model(Path(place.model), home / "models")
    certify(stored, "q8")

    async def say(came: int) -> None:
        sys.stdout.write(f"{came}\n")
        sys.stdout.flush()
        if came in MEETINGS:
            await trio.to_thread.run_sync(sys.stdin.readline)

    turns: list[tuple[list[int], int]] = told["turns"]  # type: ignore[assignment]
    async with client_of(case, place, chain, stored, purse, home) as client:
        for number, (prompt, tokens) in enumerate(turns, 1):
            is_last = number == len(turns)
            requests = requests_of(case, prompt, tokens, is_last=is_last)
            await answered(client, requests, say if is_last else silent)


def command(
    case: Case,
    place: Place,
    wallet: str,
    session_key: bytes,
    home: Path,
    turns: Sequence[tuple[list[int], int]],
) -> list[str]:
    """The command line of a process that does that."""
    told = {
        "case": case._asdict(),
        "place": asdict(place),
        "wallet": wallet,
        "session_key": session_key.hex(),
        "home": str(home),
        "turns": turns,
    }
    return [sys.executable, "-m", "tests.matrix.asking", json.dumps(told)]


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
