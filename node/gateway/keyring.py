"""Who may ask: API keys with their budgets, and the page of whoever owns the wallet."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from hypercluster.market.ledger.api_keys import digest_of
from hypercluster.market.money.budget import Period, PeriodBudget
from hypercluster.market.money.units import format_hct
from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.rates import Rates
from hypercluster.node.threads import Threads
from hypercluster.node.traffic.caller import Caller

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from hypercluster.market.ledger import ApiKeyRow, Ledger
    from hypercluster.node.traffic.entries import ModelEntry
    from hypercluster.node.web.login import Logins

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""for so long what the ledger said of keys counts; then it is asked again, as another process may have changed it"""
MOST_KEY = 200
"""characters"""
MOST_APP = 80


@dataclass(eq=False)
class Visit:
    """One call while it runs: on whose behalf, and whether its key still counts."""

    caller: Caller
    models: tuple[str, ...] = ()
    """names and ids that may be asked for; none: all"""
    ended: trio.Event = field(default_factory=trio.Event)
    """set when the key stops to count"""
    refusal: ApiError | None = None
    """why it stopped"""

    def allows(self, entry: ModelEntry) -> bool:
        """Whether the key is for a model, by any of its names."""
        return not self.models or not {entry.name, entry.model_id, *entry.aliases}.isdisjoint(self.models)

    def check(self, entry: ModelEntry) -> None:
        """Refuse a model that the key is not for. Raises ApiError."""
        if not self.allows(entry):
            raise ApiError(
                403,
                "model_not_allowed",
                f"The key {self.caller.name!r} is not for the model {entry.name}; it is for "
                f"{', '.join(self.models)}.",
                type="permission_error",
                param="model",
            )

    def end(self, refusal: ApiError) -> None:
        """Stop what runs, at its next step."""
        self.refusal = refusal
        self.ended.set()


class Keyring:
    """Lets calls in by their key. Its table is shared with `hc-gateway keys`, whose changes count within a second.

    Args:
        logins: of the pages; their cookie counts as the key of whoever owns the wallet.
    """

    def __init__(self, ledger: Ledger, logins: Logins | None = None) -> None:
        self._ledger, self._logins = ledger, logins
        self._thread = Threads(1)
        self._rows: dict[bytes, ApiKeyRow] = {}
        self._read_at = -1e9
        self._budgets: dict[str, PeriodBudget] = {}
        self._rates = Rates()
        self._visits: dict[Visit, str] = {}
        self._used: dict[str, datetime] = {}

    async def admit(
        self, request: HTTPConnection, endpoint: str, key: str | None = None, *, spends: bool = True
    ) -> Visit:
        """Let a call in: by `key`, else by its Authorization or x-api-key header, else by the cookie of a page.

        What `spends` nothing is not counted and needs no budget.

        Raises:
            ApiError: 401 for an unknown, revoked or expired key, 402 for a budget that is spent, 429 for too many
                calls.
        """
        app = request.headers.get("user-agent", "")[:MOST_APP]
        text = key if key is not None else key_of(request)
        if text is None:
            if self._logins is not None and self._logins.logged_in(request.scope):
                return Visit(Caller(name="page", app="page", endpoint="page"))
            raise _unknown("No API key was given: send it as Authorization: Bearer sk-hc-...")
        return await self._visit(await self._row(text), app, endpoint, spends)

    async def admit_as(self, name: str, request: HTTPConnection, endpoint: str) -> Visit:
        """Let a call without a key in as if it had the key of that name. Raises as `admit` does."""
        await self.refresh()
        for row in self._rows.values():
            if row.name == name and not row.refusal(datetime.now(UTC)):
                return await self._visit(row, request.headers.get("user-agent", "")[:MOST_APP], endpoint)
        raise _unknown(f"Calls without a key count as the key {name!r}, and there is none of that name.")

    async def _visit(self, row: ApiKeyRow, app: str, endpoint: str, spends: bool = True) -> Visit:
        if not spends:
            return Visit(
                Caller(key_id=row.key_id, name=row.name, app=app, endpoint=endpoint), tuple(row.models)
            )
        if (retry_after := self._rates.take(row.key_id, row.rpm)) is not None:
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"The key {row.name!r} may be used {row.rpm} times a minute: try again in {retry_after} s.",
                type="rate_limit_error",
                retry_after=retry_after,
            )
        budget = await self.budget(row)
        if budget.left_wei == 0:
            raise ApiError(
                402,
                "insufficient_quota",
                f"The {budget.name} is {format_hct(budget.limit_wei or 0)} HCT, and all of it is spent.",
                type="insufficient_quota",
            )
        self._used[row.key_id] = datetime.now(UTC)
        caller = Caller(key_id=row.key_id, name=row.name, app=app, endpoint=endpoint, budgets=(budget,))
        return Visit(caller, tuple(row.models))

    @contextmanager
    def running(self, visit: Visit) -> Iterator[None]:
        """For as long as the block lasts the visit ends when its key stops to count."""
        if visit.caller.key_id is None:
            yield
            return
        self._visits[visit] = visit.caller.key_id
        try:
            yield
        finally:
            del self._visits[visit]

    async def watch(self) -> None:
        """Look after the calls that run, until cancelled: revoked and expired keys end theirs."""
        while True:
            await trio.sleep(FRESH_SECONDS)
            try:
                if self._visits:
                    await self.refresh()
                await self._note_uses()
            except Exception as error:  # noqa: BLE001 - what the ledger cannot say now it says in a second
                log.warning("the keys could not be read: %s", error)

    async def refresh(self) -> None:
        """Read the keys again, and end what runs with those that no longer count."""
        rows = await self._thread(self._ledger.api_keys.list, revoked=False)
        self._rows = {row.digest: row for row in rows}
        self._read_at = trio.current_time()
        by_id = {row.key_id: row for row in rows}
        at = datetime.now(UTC)
        for visit, key_id in list(self._visits.items()):
            row = by_id.get(key_id)
            if said := row.refusal(at) if row else f"The key {visit.caller.name!r} was revoked.":
                visit.end(_unknown(said))

    async def budget(self, row: ApiKeyRow) -> PeriodBudget:
        """What a key may spend, with what it has spent in its period. Changes of the row count from now on."""
        budget = self._budgets.get(row.key_id)
        period = Period(row.period)
        if budget is None or budget.period is not period:
            name = f"budget of the key {row.name!r}"
            fresh = PeriodBudget(name, row.budget, period)
            spent = await self._thread(self._ledger.requests.spent_in, row.key_id, fresh.since)
            budget = self._budgets.get(row.key_id)
            if budget is None or budget.period is not period:  # nobody else was quicker
                budget = self._budgets[row.key_id] = PeriodBudget(name, row.budget, period, spent)
        budget.limit_wei = row.budget
        return budget

    def budgets(self) -> dict[str, PeriodBudget]:
        """Those of the keys that count and were used since the start, by the keys' names."""
        rows = self._rows.values()
        return {row.name: self._budgets[row.key_id] for row in rows if row.key_id in self._budgets}

    async def _row(self, text: str) -> ApiKeyRow:
        digest = digest_of(text)
        if trio.current_time() - self._read_at > FRESH_SECONDS:
            await self.refresh()
        row = self._rows.get(digest)
        if row is None:  # made within the last second, or revoked
            row = await self._thread(self._ledger.api_keys.by_digest, digest)
        if row is None or not hmac.compare_digest(row.digest, digest):
            raise _unknown("This API key is unknown: make one with `hc-gateway keys create`.")
        if said := row.refusal(datetime.now(UTC)):
            raise _unknown(said)
        return row

    async def _note_uses(self) -> None:
        used, self._used = self._used, {}
        for key_id, at in used.items():
            await self._thread(self._ledger.api_keys.touch, key_id, at)


def key_of(request: HTTPConnection) -> str | None:
    """The key that a call brings, whichever of the two headers its SDK puts it into."""
    authorization = request.headers.get("authorization", "")
    scheme, _, bearer = authorization.partition(" ")
    text = (bearer if scheme.lower() == "bearer" else "").strip() or request.headers.get(
        "x-api-key", ""
    ).strip()
    return text[:MOST_KEY] or None


def _unknown(message: str) -> ApiError:
    return ApiError(401, "invalid_api_key", message)
