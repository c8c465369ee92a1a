"""The providers that all cases share: a cheap path of three, whose middle one fails when it is told to, and who takes
its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import IncomingChannel
from hypercluster.node.engine import reference
from hypercluster.node.engine.steps import StepOutput
from hypercluster.node.errors import ConnectionLost
from hypercluster.node.network.connection import Connection
from hypercluster.node.provider import process as provider
from hypercluster.node.provider.links import Outlet
from hypercluster.node.provider.prices import PriceRule
from hypercluster.node.provider.process import HONEST
from hypercluster.node.provider.service import Service
from hypercluster.node.provider.sessions import serve_session
from hypercluster.node.rows import TopK, WireDtype
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.cheats import TamperedEngine, Tampering
from hypercluster.node.wire.codec import Message
from hypercluster.node.wire.links import Rows
from hypercluster.node.wire.messages import LinkState, Step, StepResult
from tests.matrix.asking import Place, request_of
from tests.matrix.cases import CHEATS, CUT, FAILS, FROZEN, KILLED, MIXED, NOBODY, Q8, RELAY, Case
from tests.node.helpers.answers import answered, drawn_by, model_of
from tests.node.helpers.providers import Served, Wallet, running_provider
from tests.node.helpers.rounding import generate

WAIT = 60.0
CHEAP, DEAR, DEAREST = 100, 150, 200
PATH = {"head": (0, 1), "middle": (1, 3), "tail": (3, 4)}
NODES = PATH | {"spare": (1, 3), "other": (1, 3)}
PROMPT = (72, 101, 108, 108)


@dataclass(eq=False)
class Temper:
    """How a provider is, as a case says, and its links to the one after."""

    mood: str = ""
    outlets: list[Watched] = field(default_factory=list)
    rows: int = 0
    """that it answered"""


class Watched(Outlet):
    """A link that is cut when it is told to be, and counts what went over it."""

    def __init__(self, temper: Temper, frame_bound: int) -> None:
        super().__init__(frame_bound)
        self.sent, self._temper = 0, temper
        temper.outlets.append(self)

    async def send(self, rows: Rows) -> bool:
        if self._temper.mood == CUT and self._connection is not None:
            await self._connection.reset()
        done = await super().send(rows)
        self.sent += done
        return done


class Moody:
    """A connection whose provider dies on it, or freezes, when it is told to."""

    def __init__(self, inner: Connection, temper: Temper) -> None:
        self.peer, self.direct, self.source, self.ip = inner.peer, inner.direct, inner.source, inner.ip
        self.raise_bound, self.close = inner.raise_bound, inner.close
        self._inner, self._temper = inner, temper

    async def receive(self, timeout: float | None = None) -> Message:
        message = await self._inner.receive(timeout)
        if isinstance(message, Step) and self._temper.mood == FROZEN:
            while self._temper.mood:
                await trio.sleep(0.05)
            raise ConnectionLost("It was frozen.")
        return message

    async def send(self, message: Message, timeout: float | None = None) -> None:
        if isinstance(message, StepResult):
            if self._temper.mood == KILLED:
                raise ConnectionLost("It is dead.")
            self._temper.rows += message.rows
        await self._inner.send(message, timeout)


class Tempted(Tampering):
    """Answers less than was computed when it is told to."""

    def __init__(self, temper: Temper) -> None:
        super().__init__("truncate")
        self._temper = temper

    def __call__(self, slot: int, output: StepOutput) -> StepOutput:
        return super().__call__(slot, output) if self._temper.mood == CHEATS else output


@dataclass(eq=False)
class World:
    """What all cases share."""

    chain: Chain
    stored: StoredModel
    place: Place
    served: dict[str, Served]
    tempers: dict[str, Temper]
    text: list[int]
    """that the unsplit model continues PROMPT with"""

    def names(self, peers: list[str]) -> list[str]:
        by_peer = {served.advert.peer: name for name, served in self.served.items()}
        return [by_peer[peer] for peer in peers]

    def books(self, wallet: Wallet) -> dict[str, list[IncomingChannel]]:
        """What the providers hold from a wallet, by name."""
        return {
            name: [row for row in served.ledger.payee.channels() if row.payer == wallet.sender.address]
            for name, served in self.served.items()
        }

    def calm(self) -> None:
        """All are honest, and none has a link."""
        for temper in self.tempers.values():
            temper.mood, temper.rows = "", 0
            temper.outlets.clear()

    async def at_rest(self) -> None:
        """Return when no session is open."""
        with trio.fail_after(WAIT):
            while any(served.open_sessions for served in self.served.values()):
                await trio.sleep(0.02)

    async def linked(self, case: Case) -> None:
        """Return when the links stand that a case has."""
        ends = () if case.rows == RELAY else ("head",) if case.rows == MIXED else ("head", "middle")
        with trio.fail_after(WAIT):
            for name in ends:
                outlets = self.tempers[name].outlets
                while not outlets or outlets[-1].state is not LinkState.STANDS:
                    await trio.sleep(0.01)

    async def stands_by(self, case: Case, prompt: int) -> None:
        """Return when the spare, if there is one, has read so long a prompt for each answer to it."""
        with trio.fail_after(WAIT):
            while case.spare != NOBODY and self.tempers["spare"].rows < prompt * case.siblings:
                await trio.sleep(0.01)

    def fail(self, case: Case) -> None:
        """Have fail what fails in a case, from now on."""
        if case.failure in (KILLED, FROZEN):
            self.tempers["middle"].mood = case.failure
        elif case.failure == CUT:
            self.tempers["head"].mood = CUT
        if case.spare == FAILS:
            self.tempers["spare"].mood = FROZEN if case.failure == FROZEN else KILLED

    def sent(self) -> dict[str, bool]:
        """Who sent rows to the one after."""
        return {name: any(each.sent for each in temper.outlets) for name, temper in self.tempers.items()}

    def answer(self, case: Case, prompt: Sequence[int], tokens: int, seed: int | None) -> tuple[int, ...]:
        """What has to come: what the unsplit model answers, through a client's own drawing. Where rows travel as q8
        that may be another text; then it is what the path's shards answer in this process with rows rounded alike.
        """
        return self._answer(case.wire == Q8, tuple(prompt), tokens, seed)

    @lru_cache(maxsize=64)  # noqa: B019 - one world lives as long as the module
    def _answer(
        self, rounded: bool, prompt: tuple[int, ...], tokens: int, seed: int | None
    ) -> tuple[int, ...]:
        assert self.stored.source is not None
        request = request_of(prompt, tokens, seed)
        with closing(model_of(self.stored.vocabulary())) as model:
            if not rounded:
                return tuple(answered(self.stored.source, model, request)[0].tokens)
            k = min(request.wanted_top_k, model.n_vocab)
            run = partial(self._rounded, k)
            return tuple(drawn_by(run, model, request)[0].tokens)

    def _rounded(self, k: int, prompt: Sequence[int], tokens: int, choose: Callable[[TopK], int]) -> None:
        generate(self.stored, [*PATH.values()], prompt, tokens, WireDtype.Q8, k, choose)


@contextmanager
def running_world(chain: Chain, stored: StoredModel, folder: Path) -> Iterator[World]:
    """Its providers run as long as the block lasts."""
    assert stored.source
    text = [int(each) for each in reference.generate(stored.source, PROMPT, 40, threads=1).ids]
    served: dict[str, Served] = {}
    tempers = {name: Temper() for name in NODES}

    def serving(temper: Temper) -> Any:
        async def serve(connection: Connection, service: Service) -> None:
            await serve_session(Moody(connection, temper), service)  # type: ignore[arg-type]

        return serve

    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, layers in NODES.items():
            temper, price = tempers[name], {"spare": DEAR, "other": DEAREST}.get(name, CHEAP)
            patch.setattr(provider, "serve_session", serving(temper))
            ways = replace(HONEST, outlet=partial(Watched, temper))
            if name == "middle":
                ways = replace(ways, engine=partial(TamperedEngine, Tempted(temper)))
            terms: dict[str, Any] = {
                "sessions": 6,
                "session_tokens": 120,
                "step_tokens": 16,
                "refresh_seconds": 20.0,
                "price": PriceRule(start_wei=price, start_prompt_wei=price // 4, adapt=False),
                "bootstrap": (served["head"].address,) if served else (),
                "ways": ways,
            }
            served[name] = stack.enter_context(
                running_provider(chain, stored, folder / name, layers, **terms)
            )
        deployment = folder / "deployment.json"
        chain.deployment.save(deployment)
        place = Place(
            rpc=chain.url,
            deployment=str(deployment),
            bootstrap=served["head"].address,
            model=str(stored.source),
            path=tuple(served[name].advert.peer for name in PATH),
            spare=served["spare"].advert.peer,
            nodes=len(NODES),
        )
        yield World(chain, stored, place, served, tempers, text)
