"""Disputes before real verifiers, on a chain of their own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import trio
from eth_account import Account
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, DisputeTerms, deploy
from hypercluster.market.chain.disputes import Revealed, Vote
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.assembly import Auditing, AuditorKind
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.auditing.reporter import Ruling
from hypercluster.node.client.client import Client
from hypercluster.node.client.joining import joined
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.home.settings import Settings
from hypercluster.node.replay.calibration import calibrate
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from tests.node.helpers.providers import Wallet
from tests.node.helpers.stages import served
from tests.node.helpers.verifiers import Judging, running_verifier, staked

# Only commitments and rows that never come are waited for; all else may take its time on a busy machine.
TERMS = DisputeTerms(
    seats=3,
    skew=300,
    evidence_window=900,
    draw_window=300,
    commit_window=45,
    reveal_window=300,
    serve_window=20,
    draw_delay=0,
)
FAULT, SILENCE, BOND = 100 * HCT, 5 * HCT, 20 * HCT
TEXT = [int(token) for token in np.random.default_rng(5).integers(0, 256, 24)]


@dataclass(eq=False)
class Court:
    """A chain, the verifiers on it by name, and what they are started with again."""

    chain: Chain
    stored: StoredModel
    bounds: Bounds
    folder: Path
    keys: dict[str, tuple[LocalAccount, LocalAccount]] = field(default_factory=dict)
    verifiers: dict[str, Judging] = field(default_factory=dict)
    running: dict[str, Any] = field(default_factory=dict)

    def start(self, name: str, *, chain: Chain | None = None, judge: Any = None) -> Judging:
        self.keys.setdefault(name, staked(self.chain))
        others = [each.address for each in self.verifiers.values() if each.thread.is_alive()]
        run = running_verifier(
            chain or self.chain,
            self.stored,
            self.bounds,
            self.folder / name,
            keys=self.keys[name],
            committees=True,
            judge=judge,
            bootstrap=tuple(others[:1]),
        )
        self.running[name] = run
        self.verifiers[name] = run.__enter__()
        return self.verifiers[name]

    def stop(self, name: str) -> None:
        self.running.pop(name).__exit__(None, None, None)

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def stake(self, account: str) -> int:
        held = self.chain.staking.stake_of(account)
        return held.active + held.thawing

    @property
    def judges(self) -> list[str]:
        return [operator.address for _, operator in self.keys.values()]

    def served(self, node: LocalAccount, **how: Any) -> Transcript:
        """What a provider with this node key answered."""
        return served(self.stored, 0, 2, TEXT, key=bytes(node.key), domain=self.chain.disputes.domain, **how)

    @asynccontextmanager
    async def client(
        self, wallet: Wallet, home: Path, auditor: AuditorKind = "own", *, source: bool = True
    ) -> AsyncIterator[Client]:
        """A client, which without `source` has no shard of its own."""
        alive = [each.address for each in self.verifiers.values() if each.thread.is_alive()]
        settings = Settings(home=home, bootstrap=tuple(alive[:1]))
        auditing = Auditing(policy=Policy(rate=1.0, disputes=True), auditor=auditor)
        self.bounds.save(self.stored.bounds_file)
        stored = self.stored
        if not source:
            home.mkdir(parents=True, exist_ok=True)
            copied = shutil.copy(stored.vocabulary(), home)
            stored = replace(stored, folder=Path(copied).parent, source=None)
        async with joined(settings, self.chain, stored, wallet.purse, auditing=auditing) as client:
            with trio.fail_after(300):
                wanted = {each.advert.peer for each in self.verifiers.values() if each.thread.is_alive()}
                while wanted - {advert.peer for advert in client.verifiers()}:
                    await trio.sleep(0.05)
            yield client

    async def accuse(
        self,
        wallet: Wallet,
        home: Path,
        transcript: Transcript,
        hook: Callable[[Accuser], None] = lambda a: None,
    ) -> Ruling:
        async with self.client(wallet, home) as client:
            accuser = client.audits.inspector.accuser  # type: ignore[union-attr]
            assert accuser is not None
            hook(accuser)
            with trio.fail_after(600):
                return await accuser.accuse(transcript)

    def votes(self, case_id: int) -> dict[str, Vote]:
        events, _ = self.chain.disputes.events_from(0)
        return {e.member: e.vote for e in events if isinstance(e, Revealed) and e.case_id == case_id}


@contextmanager
def new_court(stored: StoredModel, folder: Path, terms: DisputeTerms = TERMS) -> Iterator[Court]:
    """A court without verifiers, all of which end with it."""
    with running_anvil() as url, ExitStack() as stack:
        account = Account.from_key(DEPLOYER_KEY)
        chain = Chain(url, deploy(url, account, grace_seconds=60, unbonding_seconds=7200, terms=terms))
        court = Court(chain, stored, calibrate(stored, texts=1, tokens=40), folder)
        stack.callback(court.stop_all)
        yield court
