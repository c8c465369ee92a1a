"""`connect`: from a profile, or the settings of this home, to a market that a program spends through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import trio

from hypercluster.market.errors import KeystoreError
from hypercluster.node.catalogue import VERSE
from hypercluster.node.errors import NodeError
from hypercluster.node.home.keys import first_line
from hypercluster.node.home.lock import Hold, held
from hypercluster.node.home.profile import KEPT, NetworkProfile
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.naming import Showing, listed, stored_at, stored_of, unseen
from hypercluster.node.threads import Threads
from hypercluster.node.traffic.entries import NamedModel, named_of

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.draft_model import Drafting
    from hypercluster.node.client.own_layers import Ends
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.traffic.blocking import BlockingMarket
    from hypercluster.node.traffic.market import Market


class NoPassword(NodeError):
    """The keys are locked and nobody said with what."""


class WrongLoop(NodeError):
    """The asynchronous form was used under another event loop than trio's."""


def connect(
    profile: str | Path | NetworkProfile | None = None,
    *,
    home: str | Path | None = None,
    models: Sequence[str | Path | NamedModel] | None = None,
    password: str | None = None,
    limit_wei: int | None = None,
    wishes: Wishes | None = None,
    auditing: Auditing | None = None,
    drafting: Drafting | None = None,
    own: Ends | None = None,
    program: str = "a Python program",
    settings: Settings | None = None,
    wallet_held: bool = False,
) -> Connection:
    """A market to ask for completions, which are paid from the wallet of a home.

    ::

        with connect("network.json") as market:                # blocking, in any program
            print(market.chat("Hello").text())

        async with connect("network.json") as market:          # in trio
            print(await market.chat("Hello").text())

    Args:
        profile: of the network, as a file, an https URL or read already; otherwise what HC_PROFILE and the other
            settings say.
        home: folder of keys, ledger and policy; HC_HOME otherwise.
        models: by name, or files, or opened already; the first of the profile otherwise, or the demo model where
            there is no profile.
        password: of the keys; the first line of HC_PASSWORD_FILE otherwise.
        limit_wei: what all requests together may cost; the policy of the home holds besides.
        wishes: over whom requests go that say nothing else.
        auditing: how completions are looked over; nothing is without it.
        drafting: which model guesses ahead, for models of the same tokens; `wishes.drafts` says how many.
        own: layers at the ends of the models that are computed here, and of which no provider sees anything.
        program: what other processes are told of this one, which alone spends from the home meanwhile.
        settings: instead of those of the environment.
        wallet_held: whoever calls holds the wallet of the home (node.home.lock) already.

    Raises, when the block is entered:
        HomeInUse: another process spends from this home.
        NoPassword, KeystoreError: the keys are locked or missing.
        NodeError, MarketError: the profile, a model, the chain, the ledger or the network is not to be had.
    """
    return Connection(
        partial(_settings, profile, home, settings),
        models=models,
        password=password,
        limit_wei=limit_wei,
        wishes=wishes,
        auditing=auditing,
        drafting=drafting,
        own=own,
        program=program,
        wallet_held=wallet_held,
    )


class Connection:
    """What `connect` returns: a context manager of both kinds. For one block."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        models: Sequence[str | Path | NamedModel] | None,
        password: str | None,
        limit_wei: int | None,
        wishes: Wishes | None,
        auditing: Auditing | None,
        drafting: Drafting | None,
        own: Ends | None,
        program: str,
        wallet_held: bool,
    ) -> None:
        self._settings = settings
        self._models, self._password, self._program = models, password, program
        self._wallet_held = wallet_held
        self._limit_wei, self._wishes, self._auditing = limit_wei, wishes, auditing
        self._drafting, self._own = drafting, own
        self._stack = AsyncExitStack()
        self._blocking: BlockingMarket | None = None

    async def __aenter__(self) -> Market:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            raise WrongLoop(
                "`async with connect(...)` runs on trio. Elsewhere use `with connect(...)`, in a thread where an "
                "event loop runs."
            ) from None
        async with self._stack as stack:
            market = await self._open(stack)
            self._stack = stack.pop_all()
        return market

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    def __enter__(self) -> BlockingMarket:
        from hypercluster.node.traffic.blocking import BlockingMarket

        self._blocking = BlockingMarket(self)
        return self._blocking.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._blocking is not None
        self._blocking.exit()

    async def _open(self, stack: AsyncExitStack) -> Market:
        from hypercluster.node.client.purse import purse_of
        from hypercluster.node.traffic.opening import open_market

        run = trio.to_thread.run_sync
        settings: Settings = await run(self._settings)
        if not self._wallet_held:
            await run(stack.enter_context, held(settings.home, Hold.WALLET, self._program))
        word = self._password if self._password is not None else await run(password_of, settings)
        chain = await Threads(1, abandon=True)(open_chain, settings)
        purse = await run(purse_of, settings.home, chain, word)
        models = await run(named_models, self._models, settings)
        if self._drafting is not None:
            await run(self._drafting.check, [each.stored for each in models])
        if self._own is not None:
            for each in models:
                self._own.of(each.stored)
        return await stack.enter_async_context(
            open_market(
                settings,
                chain,
                purse,
                models,
                limit_wei=self._limit_wei,
                wishes=self._wishes,
                auditing=self._auditing,
                drafting=self._drafting,
                own=self._own,
            )
        )


def _settings(
    profile: str | Path | NetworkProfile | None, home: str | Path | None, settings: Settings | None
) -> Settings:
    told: dict[str, Any] = {} if settings is None else settings.model_dump(exclude_unset=True)
    if home is not None:
        told["home"] = Path(home)
    if isinstance(profile, NetworkProfile):
        place = Settings(**(told | {"profile": None})).home
        file = place / KEPT / "given.json"
        profile.save(file)
        profile = file
    if profile is not None:
        told["profile"] = str(profile)
    return Settings(**told)


def named_models(
    wanted: Sequence[str | Path | NamedModel] | None, settings: Settings, showing: Showing = unseen
) -> list[NamedModel]:
    """The models of these names or files, or opened already; where None, the first of the profile, else the demo model.

    Raises:
        UnknownModel, FetchFailed, ModelMissing, ShardError: one is not to be had.
    """
    found = []
    if wanted is None:
        profile = settings.network_profile
        first = profile.models[0] if profile is not None and profile.models else VERSE
        wanted = [first.model_id]
    for each in wanted:
        if isinstance(each, NamedModel):
            found.append(each)
            continue
        name = str(each)
        model = listed(name, settings.catalogue)
        if model is not None:
            stored = stored_of(model, settings.home, settings.cache_folder, showing)
            found.append(named_of(model, stored))
        else:
            path = Path(name).expanduser()
            stored = stored_at(path, settings.home, showing)
            found.append(NamedModel(path.name if path.is_dir() else path.stem, stored))
    return found


def password_of(settings: Settings) -> str:
    """The first line of the password file. Raises NoPassword."""
    file = settings.password_file
    if file is None:
        raise NoPassword(
            f"The keys in {settings.home} are locked: give `password`, or set HC_PASSWORD_FILE to a file that holds it."
        )
    try:
        return first_line(file)
    except KeystoreError as error:
        raise NoPassword(str(error)) from None
