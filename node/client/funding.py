"""Seeing that the channels of one completion hold what its next steps cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from hypercluster.market.errors import InsufficientFunds
from hypercluster.node.client.completion import TooExpensive
from hypercluster.node.client.events import ChannelsOpened, ChannelsPlanned
from hypercluster.node.client.opening import needed, recipient_of
from hypercluster.node.client.payer import Funding

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.client.account import OutgoingAccount, Recipient
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.completion import Completion
    from hypercluster.node.client.limits import Spending
    from hypercluster.node.client.pipeline import Pipeline

AHEAD_TOKENS = 256
"""for which a channel is to hold enough when it is opened or topped up"""
LEAST_TOKENS = 2
"""for which it must hold enough at any moment, for each of the completions that draw on it"""

Sent = AsyncGenerator[ChannelsPlanned | ChannelsOpened, None]
"""what the wallet is about to send, and has sent"""


class Funds:
    """What one completion pays its providers from.

    Args:
        spending: of what goes to providers; deposits are no larger than what it leaves.
        deposit_wei: to put into a channel at least; None: what the wallet's policy says.
    """

    def __init__(self, client: Client, done: Completion, spending: Spending, deposit_wei: int | None) -> None:
        self._client, self._done, self._spending, self._deposit_wei = client, done, spending, deposit_wei

    def check(self, adverts: Sequence[Advert], prompt: int, cached: int) -> None:
        """Refuse what cannot be paid before a channel is opened for it. Raises TooExpensive."""
        if self._done.tokens:
            return
        least = sum(min(each.prompt_price_wei, each.price_wei) for each in adverts) * prompt
        least += sum(each.cached_price_wei for each in adverts) * cached
        if refusal := self._spending.refusal(least):
            raise TooExpensive(refusal)

    async def open(
        self,
        adverts: Sequence[Advert],
        rows: int,
        accounts: dict[Recipient, OutgoingAccount],
        cached: int = 0,
        spares: Sequence[Advert] = (),
    ) -> Sent:
        """See that there are channels to all of them, good for so many rows of a prompt, after those that are cached,
        and for what follows; and to `spares`, good for all rows of the prompt and of the answer.

        They are put into `accounts`. Raises InsufficientFunds, ChainError. With `spares` that is also where the wallet
        could pay them only with what follows.
        """
        ahead = min(self._done.allowed - len(self._done.tokens), AHEAD_TOKENS)
        left = self._spending.left_wei
        enough, least = (needed(adverts, rows, tokens, left, cached) for tokens in (ahead, 1))
        all_rows = rows + cached + self._done.allowed - len(self._done.tokens)
        if spares:
            least = enough = enough | needed(spares, all_rows, ahead, left)
        async with aclosing(self._fund(enough, least, accounts)) as sent:
            async for each in sent:
                yield each

    async def top_up(self, pipeline: Pipeline, rows: int) -> Sent:
        """See that the channels of a path hold a step of so many rows, for all who draw on them; those that do not are
        filled for a while. Raises InsufficientFunds, ChainError.
        """
        sharing = max(1, self._client.vacancies.paths)
        left, left_wei = self._done.allowed - len(self._done.tokens) - 1, self._spending.left_wei
        enough: dict[Recipient, int] = {}
        least: dict[Recipient, int] = {}
        for hop in pipeline.hops:
            step = hop.owed + sum(hop.cost(each) for each in pipeline.chunks(rows))
            soon, later = (
                step + min(left, tokens) * sharing * hop.price_wei for tokens in (LEAST_TOKENS, AHEAD_TOKENS)
            )
            if left_wei is not None:
                soon, later = min(soon, left_wei), min(later, left_wei)
            if hop.account.channel.available < soon:
                enough[recipient_of(hop.advert)], least[recipient_of(hop.advert)] = later, step
        if enough:
            async with aclosing(self._fund(enough, least, {})) as sent:
                async for each in sent:
                    yield each

    async def _fund(
        self,
        enough: dict[Recipient, int],
        least: dict[Recipient, int],
        accounts: dict[Recipient, OutgoingAccount],
    ) -> Sent:
        """See that channels hold enough, or where the wallet cannot pay that, at least what is needed at once."""
        done, payer = self._done, self._client.payer
        refusal: InsufficientFunds | None = None
        for needs, deposit in ((enough, self._deposit_wei), (least, 0)):
            planned = await payer.plan(needs, deposit)
            if planned.deposits:
                yield ChannelsPlanned(planned)
            before, refusal = len(done.fundings), None
            try:
                accounts |= await payer.fund(needs, deposit, done.fundings.append)
            except InsufficientFunds as error:
                refusal = error
            if sent := done.fundings[before:]:
                deposits = tuple(deposit for each in sent for deposit in each.deposits)
                yield ChannelsOpened(Funding(deposits, sum(each.gas_wei for each in sent)))
            if refusal is None:
                return
        assert refusal is not None
        raise refusal
