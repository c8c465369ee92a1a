"""The market as a program sees it: models by name, requests that run at the same time, one wallet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import trio

from hypercluster.market.money.budget import Budget
from hypercluster.node.client.request import Allowance, Asker, BadRequest, Request, Sampling
from hypercluster.node.engine.chat import Message
from hypercluster.node.errors import NodeError
from hypercluster.node.home.policy import WalletPolicy, load_policy
from hypercluster.node.traffic.answer import Answer
from hypercluster.node.traffic.caller import Caller
from hypercluster.node.traffic.entries import MarketClosed, ModelEntry, NamedModel, NameTaken, UnknownModel
from hypercluster.node.traffic.happenings import Happening, RequestAudited
from hypercluster.node.traffic.offers import entry_of
from hypercluster.node.traffic.watching import Watch, watch_offers

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from hypercluster.node.client.client import Client
    from hypercluster.node.client.joining import Station
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.client.siblings import Siblings
    from hypercluster.node.shards import Manifest

MOST_TOKENS = 2**20
"""asked for where nobody says how many: as many as the path holds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What there is to spend. Amounts in wei: of HCT, and of the chain's own coin for gas."""

    address: str
    hct_wei: int
    gas_wei: int
    in_channels_wei: int
    """deposited and not signed away"""
    policy: WalletPolicy


class Wanted(TypedDict, total=False):
    """What `Market.chat` and `Market.complete` may be told, by name."""

    model: str | None
    """by name, alias or id; the first where None"""
    tokens: int | None
    """to generate at most; as many as the path holds where None"""
    max_cost_wei: int | None
    """to pay providers at most"""
    stop: Sequence[str]
    """texts that end the answer"""
    sampling: Sampling | None
    """otherwise as the model's entry says"""
    wishes: Wishes | None
    caller: Caller | None


class Market:
    """Runs requests over the models that it knows; see `open_market`.

    Args:
        place: the host, the wallet and the ledger that all models share.
        nursery: in which the models live; they end with it.
        limit_wei: what all requests together may cost; None for no bound but the policy's.
    """

    def __init__(self, place: Station, nursery: trio.Nursery, limit_wei: int | None = None) -> None:
        self.settings, self.chain = place.settings, place.chain
        self.ledger, self.payer = place.ledger, place.payer
        self._place, self._nursery = place, nursery
        self._models: dict[str, tuple[NamedModel, Client]] = {}
        self._watch = Watch()
        self._budget = Budget("limit of this connection", limit_wei)
        self._open: set[Answer] = set()
        self._closed = False

    async def trade(self, model: NamedModel) -> None:
        """Trade in one more model, or give one that is there already these names.

        Raises:
            NodeError: its vocabulary cannot be read, or one of the names is another model's.
        """
        for name in (model.name, *model.aliases):
            for other, _ in self._models.values():
                if other.model_id != model.model_id and other.is_called(name):
                    raise NameTaken(f"The name {name!r} is that of another model, {other.model_id[:16]}.")
        if known := self._models.get(model.model_id):
            self._models[model.model_id] = model, known[1]
            return
        client = await self._nursery.start(self._keep, model)
        if isinstance(client, NodeError):
            raise client
        self._models[model.model_id] = model, client

    async def _keep(
        self, model: NamedModel, task_status: TaskStatus[Client | NodeError] = trio.TASK_STATUS_IGNORED
    ) -> None:
        started = False
        try:
            async with self._place.client(model.stored) as client:
                started = True
                task_status.started(client)
                await watch_offers(client, self.ledger, self._watch)
        except NodeError as error:
            if started:
                raise
            # Whoever asked is to hear of it, and the other models live on.
            task_status.started(error)

    # --- what there is --------------------------------------------------------------------------------------------

    def models(self) -> tuple[ModelEntry, ...]:
        """What is offered of each model now, in the order in which they came."""
        return tuple(entry_of(named, client) for named, client in self._models.values())

    def model(self, name: str | None = None) -> ModelEntry:
        """One of them by its name, alias or id; the first without a name. Raises UnknownModel."""
        return entry_of(*self._find(name))

    def manifest(self, name: str | None = None) -> Manifest:
        """What identifies a model. Raises UnknownModel."""
        return self._find(name)[0].stored.manifest

    def client(self, name: str | None = None) -> Client:
        """Who runs the completions of a model: its adverts, routes and latencies. Raises UnknownModel."""
        return self._find(name)[1]

    async def wallet(self) -> Wallet:
        """What the wallet holds and may spend. Raises ChainError, LedgerError."""
        rows = await trio.to_thread.run_sync(
            partial(self.ledger.payer.channels, self.payer.domain, ended=False)
        )
        mine = [row for row in rows if row.payer == self.payer.payer]
        return Wallet(
            address=self.payer.payer,
            hct_wei=await trio.to_thread.run_sync(self.chain.token.balance, self.payer.payer),
            gas_wei=await trio.to_thread.run_sync(self.chain.balance, self.payer.payer),
            in_channels_wei=sum(max(0, row.deposit - row.signed) for row in mine),
            policy=load_policy(self.settings.home),
        )

    @property
    def spent_wei(self) -> int:
        """What all requests of this market cost so far, steps without a good answer and audits included."""
        return self._budget.spent_wei

    def watched(self) -> AbstractContextManager[trio.MemoryReceiveChannel[Happening]]:
        """What happens within the block."""
        return self._watch.followed()

    # --- what is asked --------------------------------------------------------------------------------------------

    def run(self, request: Request, caller: Caller | None = None, siblings: Siblings | None = None) -> Answer:
        """Run a request, whose `model` may be a name, an alias or an id; `siblings` as Client.complete takes them.

        Raises:
            UnknownModel: no model is called so.
            QueueFull: too many wait already.
            MarketClosed: its block has ended.
        """
        if self._closed:
            raise MarketClosed("The market is closed: use it within its block.")
        named, client = self._find(request.model)
        caller = caller or Caller()
        asker = Asker(
            key_id=caller.key_id,
            app=caller.app,
            endpoint=caller.endpoint,
            model_name=request.model if request.model and request.model != named.model_id else named.name,
        )
        budgets = (*request.budgets, *caller.budgets, self._budget)
        asked = replace(request, model=named.model_id, budgets=budgets, asker=asker)
        key = caller.key_id or ""
        client.line.check_room(key)
        return Answer(
            client.complete(asked, key, siblings),
            named,
            caller,
            self._watch,
            on_begun=self._open.add,
            on_ended=partial(self._ended, client),
        )

    def chat(self, messages: str | Sequence[Message | Mapping[str, str]], **wanted: Unpack[Wanted]) -> Answer:
        """The model's answer to a question, or to the turns of a chat: Messages, or {"role": ..., "content": ...}.

        Raises:
            UnknownModel, BadRequest, QueueFull.
        """
        turns = (Message("user", messages),) if isinstance(messages, str) else tuple(map(_turn, messages))
        return self._ask(turns, **wanted)

    def complete(self, prompt: str | Sequence[int], **wanted: Unpack[Wanted]) -> Answer:
        """The continuation of a text, or of token ids; otherwise as `chat`."""
        return self._ask(prompt if isinstance(prompt, str) else tuple(prompt), **wanted)

    def _ask(
        self,
        prompt: str | tuple[int, ...] | tuple[Message, ...],
        *,
        model: str | None = None,
        tokens: int | None = None,
        max_cost_wei: int | None = None,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        wishes: Wishes | None = None,
        caller: Caller | None = None,
    ) -> Answer:
        request = Request(
            prompt=prompt,
            allowance=Allowance(tokens=MOST_TOKENS if tokens is None else tokens, cost_wei=max_cost_wei),
            sampling=sampling or self._find(model)[0].sampling or Sampling(),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            wishes=wishes,
            model=model,
        )
        return self.run(request, caller)

    async def close(self) -> None:
        """End all requests that somebody left open, and take no more."""
        self._closed = True
        for answer in list(self._open):
            # Whoever is in the middle of one of them ends it.
            with suppress(RuntimeError):
                await answer.aclose()

    def _ended(self, client: Client, answer: Answer) -> None:
        self._open.discard(answer)
        completion = answer.completion
        if client.audits is None:
            return

        async def follow() -> None:
            async for report in client.follow(completion.request_id):
                self._watch.tell(
                    RequestAudited(
                        completion.request_id,
                        client.model.model_id,
                        report.peer,
                        report.finding,
                        completion.doubtful,
                    )
                )

        self._nursery.start_soon(follow)

    def _find(self, name: str | None) -> tuple[NamedModel, Client]:
        for named, client in self._models.values():
            if name is None or named.is_called(name):
                return named, client
        if name is None:
            raise UnknownModel("No model is traded in here: name one at the start.")
        known = ", ".join(named.name for named, _ in self._models.values())
        raise UnknownModel(f"There is no model {name[:80]!r} here. Known are: {known or 'none'}.")


def _turn(message: Message | Mapping[str, str]) -> Message:
    """Raises BadRequest."""
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise BadRequest('A turn of a chat is a Message, or {"role": "user", "content": "..."}.')
    return Message(message["role"], message["content"])
