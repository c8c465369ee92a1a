"""A cheater that has its own receipt tried: its accomplice serves so few members that nothing can be decided."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.auditing.reporter import Ruling
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.accuser import _Served, _Watch
    from hypercluster.node.evidence.transcript import Transcript
    from hypercluster.node.shards.store import StoredModel
    from hypercluster.node.testnet.localnet import LocalNetwork

SERVED = 2
"""members of five that get the evidence: they say guilty, which is not two thirds of the seats"""


class Splitter(Accuser):
    """An accuser that wants nothing to be decided."""

    async def _serve(self, watch: _Watch, transcript: Transcript, served: _Served) -> None:
        few = copy(watch)
        few.members = watch.members[:SERVED]
        await super()._serve(few, transcript, served)


async def try_oneself(
    network: LocalNetwork, stored: StoredModel, transcript: Transcript, *, wallet_wei: int
) -> Ruling:
    """Have a case about the last receipt of a transcript end undecided, from a wallet that nobody knows.

    Raises:
        NodeError, MarketError: it could not be opened, or its members were not found.
    """
    settings = network.client(wallet_wei, "accomplice")
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    async with joined(
        settings, network.chain, stored, purse, auditing=Auditing(policy=Policy(disputes=True))
    ) as accomplice:
        splitter = Splitter(
            chain=network.chain,
            sender=purse.unlock,
            host=accomplice.network.host,
            discovery=accomplice.network.discovery,
        )
        return await splitter.see_through(await splitter.open(transcript), transcript)
