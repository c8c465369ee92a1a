"""The client's path while it is open: hops whose layers abut from the embedding to the logits."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from hypercluster.node.client.chaining import Strained, pass_on
from hypercluster.node.client.hop import Hop
from hypercluster.node.client.streaming import Stream
from hypercluster.node.rows import TopK, with_tokens
from hypercluster.node.wire.messages import REWIND

if TYPE_CHECKING:
    from hypercluster.node.client.own_layers import OwnSession, OwnStage

CLOSE_SECONDS = 5.0
STEP_TOKENS = 512
"""of a step where no provider says how many it takes"""


class Pipeline:
    """Open sessions with the providers of one path, in the order of their layers.

    Used as an asynchronous context manager: the sessions are closed at its end. Of a model that `reads_tokens` every
    stage is sent the token ids beside the activations.
    """

    def __init__(
        self,
        hops: Sequence[Hop],
        *,
        reads_tokens: bool = False,
        strained: Strained = lambda one, other: None,
    ) -> None:
        self.hops = tuple(hops)
        self.own: OwnSession | None = None
        """sessions of the client's own layers beside these, if there are any"""
        self._strained = strained
        self.reads_tokens = reads_tokens
        self._chunk = min((hop.max_step_tokens for hop in hops), default=STEP_TOKENS)
        self.held: list[int] = []
        """the token ids that the sessions hold, guesses included"""
        self._known: TopK | None = None
        """the logits behind these, where nothing was run here yet"""

    def replace(self, hops: Sequence[Hop]) -> None:
        """Let these be the hops from now on, each one's rows relayed where another comes after it than before. Those
        that go are closed by whoever takes them out.
        """
        linked = set(pairwise(self.hops))
        for one, other in pairwise(hops):
            one.relayed |= (one, other) not in linked
        self.hops = tuple(hops)
        self._chunk = min((hop.max_step_tokens for hop in hops), default=STEP_TOKENS)

    @property
    def stages(self) -> "Sequence[Hop | OwnStage]":
        """The sessions in the order of their layers, own ones too."""
        return self.hops

    @property
    def position(self) -> int:
        """Tokens in the session."""
        return self.hops[-1].position

    @property
    def capacity(self) -> int:
        """Tokens that the session may hold."""
        return min(hop.capacity for hop in self.hops)

    @property
    def paid_wei(self) -> int:
        """Paid on all hops so far."""
        return sum(hop.paid_wei for hop in self.hops)

    def cost(self, tokens: int) -> int:
        """Wei that running so many tokens in one go costs on all hops together, with what is owed; 0 for none."""
        rows = self.chunks(tokens)
        return 0 if not rows else sum(hop.owed + sum(map(hop.cost, rows)) for hop in self.hops)

    def due(self, tokens: int) -> int:
        """Wei that have to be set aside for that, beside what is left of dropped steps."""
        rows = self.chunks(tokens)
        costs = [(hop.credit, hop.owed + sum(map(hop.cost, rows))) for hop in self.hops]
        return sum(max(0, cost - credit) for credit, cost in costs)

    @property
    def linked(self) -> bool:
        """Whether rows go over links all the way, and steps may follow each other before they are answered."""
        return all(hop.flies for hop in self.hops) and all(hop.forwards for hop in self.hops[:-1])

    @property
    def busy_ms(self) -> float:
        """For how long all providers together held the last step, computing and otherwise; 0 before the first."""
        return sum(t.compute[-1] + t.waited[-1] for t in (hop.timing for hop in self.hops) if t.compute)

    @property
    def rewinds(self) -> bool:
        """Whether all providers take a step at a position below what their sessions hold."""
        return all(REWIND in hop.advert.features for hop in self.hops)

    @property
    def is_level(self) -> bool:
        """Whether all sessions hold the same tokens."""
        return all(hop.position == len(self.held) for hop in self.hops)

    def strain(self, place: int) -> None:
        """Have the rows of the hop before `place` relayed from now on: they were lost or changed on their way."""
        one, other = self.hops[place - 1 : place + 1]
        one.relayed = True
        self._strained(one, other)

    def rewind(self, position: int) -> None:
        """Let the next step begin at `position`: what the sessions hold from there on is forgotten with it."""
        for hop in self.hops:
            hop.position = min(hop.position, position)

    async def run(self, tokens: Sequence[int], drafts: Sequence[int] = ()) -> TopK:
        """Run tokens and the drafts behind them through all the layers, in one step where there are drafts.

        A long prompt goes in chunks that follow each other through the path, so that all providers work at once;
        no provider ever has more than one unanswered step. No tokens at all are run where the logits are known.

        Returns:
            The logits that follow the last token and each draft, [1 + drafts, k].

        Raises:
            HopFailed, OverDeposit: see Hop.step.
        """
        start = self.position
        if not tokens:
            assert self._known is not None
            return self._known
        best = await self.through([*tokens, *drafts], None, all_outputs=bool(drafts))
        assert isinstance(best, TopK)
        self.held[start:] = [*tokens, *drafts]
        return best[-1 - len(drafts) :]

    async def through(self, tokens: Sequence[int], rows: bytes | None, *, all_outputs: bool) -> TopK | bytes:
        """Run tokens through the hops, whose first one is sent `rows` for them where it does not take the ids.

        In one step where `all_outputs` are wanted. Returns logits, or where the last hop is not the model's last
        stage what it answers, all rows packed. Raises as `run` does.
        """
        if not all_outputs and len(tokens) > self._chunk:
            return await self._stream(tokens, rows)
        return await self._pass(tokens, rows, all_outputs=all_outputs)

    @property
    def most_rows(self) -> int:
        """Rows of one step at most."""
        return self._chunk

    async def _pass(self, tokens: Sequence[int], rows: bytes | None, *, all_outputs: bool) -> TopK | bytes:
        return await pass_on(
            self.hops,
            tokens if rows is None else rows,
            len(tokens),
            all_outputs=all_outputs,
            onward=lambda output: self._onward(output, tokens),
            strained=self._strained,
        )

    def _onward(self, output: bytes, tokens: Sequence[int]) -> bytes:
        """What the next stage is sent."""
        return with_tokens(output, tokens) if self.reads_tokens else output

    async def _stream(self, tokens: Sequence[int], rows: bytes | None) -> TopK | bytes:
        ends = list(accumulate(self.chunks(len(tokens)), initial=0))
        pieces = [tokens[start:stop] for start, stop in pairwise(ends)]
        width = len(rows) // len(tokens) if rows is not None else 0
        sent = [rows[start * width : stop * width] for start, stop in pairwise(ends)] if rows else pieces
        return await Stream(self.hops, pieces, self._onward, self._strained, sent).run()

    def chunks(self, tokens: int) -> list[int]:
        """Sizes of the steps, in tokens, that `tokens` are cut into.

        As few as there can be, and as equal: a short one would cost a generated token's price, more than its rows.
        """
        count = -(-tokens // self._chunk)
        return [tokens // count + (each < tokens % count) for each in range(count)]

    def go_on(self, tokens: Sequence[int], best: TopK | None = None) -> int:
        """Go on after these tokens, which the sessions hold from before, or anew where one does not.

        Returns how many of them need not be run. `best` are the logits behind them, [1, k], where they are known.
        """
        if any(hop.cached != len(tokens) for hop in self.hops):
            self.rewind(0)
        self.held, self._known = [*tokens[: self.position]], best
        return self.position

    async def __aenter__(self) -> "Pipeline":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Tell the providers that their sessions are over, cancelled or not."""
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for hop in self.hops:
                    nursery.start_soon(hop.close)
