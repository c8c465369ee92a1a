"""Real verifiers in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coincurve
import trio
from eth_account import Account as Accounts
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.testnet.faucet import give
from tests.node.helpers.providers import LOCAL

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.serving.presence import Presence
    from hypercluster.node.shards.store import StoredModel
    from hypercluster.node.verifier.process import Verifier
    from hypercluster.node.verifier.service import Judge

AUDIT_PRICE = 100


@dataclass(eq=False)
class Judging:
    """A verifier that runs in a thread of its own, under its own trio.run."""

    verifier: Verifier
    presence: Presence
    operator: LocalAccount
    node: LocalAccount
    ledger: Ledger
    thread: threading.Thread
    stop: Any

    def __post_init__(self) -> None:
        self.advert: Advert = self.presence.told

    @property
    def address(self) -> str:
        return f"{self.advert.addrs[0]}/p2p/{self.advert.peer}"


def staked(chain: Chain) -> tuple[LocalAccount, LocalAccount]:
    """A node key and its operator, staked and authorised."""
    node, operator = Accounts.create(), Accounts.create()
    for address in (node.address, operator.address):
        give(chain, address, chain.staking.minimum)
    staker = Sender(chain, operator)
    chain.staking.stake(staker, chain.staking.minimum)
    chain.staking.authorize(staker, coincurve.PrivateKey(bytes(node.key)))
    return node, operator


@contextmanager
def running_verifier(
    chain: Chain,
    stored: StoredModel,
    bounds: Bounds,
    folder: Path,
    *,
    judge: Judge | None = None,
    keys: tuple[LocalAccount, LocalAccount] | None = None,
    **terms: Any,
) -> Iterator[Judging]:
    """A staked verifier; `terms` are those of VerifierTerms. With `keys` it goes on where one stopped."""
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.replay.replayer import Replayer
    from hypercluster.node.serving.terms import Wallets
    from hypercluster.node.verifier.process import Verifier
    from hypercluster.node.verifier.terms import VerifierTerms

    node, operator = keys or staked(chain)
    folder.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "price_wei": AUDIT_PRICE,
        "listen": (LOCAL,),
        "refresh_seconds": 2.0,
        "watch_seconds": 0.3,
        "committees": False,
    }
    with Ledger(f"sqlite:///{folder / 'ledger.sqlite'}") as ledger:
        verifier = Verifier(
            terms=VerifierTerms(**(defaults | terms)),
            replayer=Replayer(stored, bounds, threads=1),
            wallets=Wallets(node_key=bytes(node.key), operator=operator.address, sender=Sender(chain, node)),
            chain=chain,
            ledger=ledger,
            evidence=TranscriptStore(folder / "evidence", keep_seconds=3600, max_bytes=2**30),
            judge=judge,
        )
        started = threading.Event()
        present: list[Presence] = []
        scope = trio.CancelScope()
        tokens: list[trio.lowlevel.TrioToken] = []

        def ready(presence: Presence) -> None:
            present.append(presence)
            started.set()

        async def main() -> None:
            tokens.append(trio.lowlevel.current_trio_token())
            with scope:
                await verifier.run(ready)

        def work() -> None:
            try:
                trio.run(main)
            finally:
                started.set()

        thread = threading.Thread(target=work, name="verifier", daemon=True)
        thread.start()
        assert started.wait(300)
        assert present, "the verifier did not start"

        def stop() -> None:
            if thread.is_alive():
                tokens[0].run_sync_soon(scope.cancel)
                thread.join(300)
            assert not thread.is_alive()

        try:
            yield Judging(verifier, present[0], operator, node, ledger, thread, stop)
        finally:
            stop()
