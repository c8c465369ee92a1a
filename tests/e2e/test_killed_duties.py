"""What hangs on a bond goes on when its process is killed: an accusation, a seat in a committee, rows that are owed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

import pytest
from eth_account import Account

from hypercluster.market.chain import LOCAL_TERMS, Sender
from hypercluster.market.chain.disputes import (
    CaseOpened,
    CaseResolved,
    Committed,
    DisputeEvent,
    Outcome,
    Revealed,
    Served,
    Vote,
)
from hypercluster.market.money.units import HCT
from hypercluster.node.client.auditing.assembly import client_transcripts
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import demo_model
from hypercluster.node.testnet.cheat_demo import QUICK, QUICK_JUDGE
from hypercluster.node.testnet.faucet import give
from hypercluster.node.testnet.localnet import (
    STAKE,
    LocalNetwork,
    NodeProcess,
    VerifierProcess,
    running_network,
)
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from tests.e2e.shell import SECONDS, end

pytestmark = pytest.mark.slow

# One seat, so that each step of a case is one process's. The windows are longer than any of them takes to come back.
TERMS = replace(
    LOCAL_TERMS,
    seats=1,
    evidence_window=1200,
    draw_window=1200,
    commit_window=1200,
    reveal_window=1200,
    serve_window=1200,
)
FIXED = (*QUICK, "--price-rule", "fixed")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """A provider that cheats, an honest one, and a verifier."""
    providers = [
        ProviderSpec(layers="0:4", price="1", flags=FIXED, cheat="truncate"),
        ProviderSpec(layers="4:8", price="1.5", flags=FIXED),
    ]
    with running_network(
        tmp_path_factory.mktemp("duties"),
        providers,
        model=demo_model(),
        verifiers=[VerifierSpec(flags=QUICK_JUDGE)],
        terms=TERMS,
    ) as network:
        yield network


@contextmanager
def client_runs(
    network: LocalNetwork, settings: Settings, *command: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`hc-client` with this command; it is killed at the end of the block."""
    with (settings.home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hypercluster.node.cli.client", *command],
            env=network.environment(settings.home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        end(process)


def happened(network: LocalNetwork, kind: type[DisputeEvent]) -> list[DisputeEvent]:
    """The events of a kind, as soon as there is one."""
    deadline = time.monotonic() + SECONDS
    while True:
        events, _ = network.chain.disputes.events_from(0)
        if found := [each for each in events if isinstance(each, kind)]:
            return found
        assert time.monotonic() < deadline, f"no {kind.__name__}: {events}"
        time.sleep(0.05)


def again(network: LocalNetwork, node: VerifierProcess) -> VerifierProcess:
    """The same verifier after a kill."""
    fresh = network.start_verifier(node.spec, node.home, node.operator, model=demo_model())
    network.wait(fresh)
    return fresh


def staked(network: LocalNetwork, node: NodeProcess[ProviderSpec] | VerifierProcess) -> int:
    return network.chain.staking.stake_of(node.operator).active


def test_c7_c8_a_case_is_decided_though_all_who_work_on_it_are_killed(network: LocalNetwork) -> None:
    settings = network.client(100 * HCT)
    cheat, honest = network.providers
    judge = network.verifiers[0]
    run = partial(client_runs, network, settings)
    model = ("--model", str(demo_model()))
    asked = ("generate", "ROMEO:", *model, "-n", "6", "--wait", "120")
    with run(*asked, "--audit-rate", "1", "--trap-rate", "0", "--auditor", "verifier", "--dispute") as asking:
        happened(network, CaseOpened)
        asking.kill()
        judge.kill()
    with ExitStack() as stack:
        watching = stack.enter_context(run("watch", "--every", "0.5", *model))
        judge = again(network, judge)
        happened(network, Committed)
        judge.kill()
        watching.kill()
        stack.enter_context(run("watch", "--every", "0.5", *model))
        judge = again(network, judge)
        happened(network, Revealed)
        judge.kill()
        judge = again(network, judge)
        (resolved,) = happened(network, CaseResolved)
    assert isinstance(resolved, CaseResolved)
    assert resolved.outcome is Outcome.GUILTY
    (revealed,) = happened(network, Revealed)
    assert isinstance(revealed, Revealed)
    assert revealed.vote is Vote.GUILTY
    assert [len(happened(network, kind)) for kind in (CaseOpened, Committed)] == [1, 1], (
        "nothing is done twice"
    )
    assert (staked(network, cheat), staked(network, honest), staked(network, judge)) == (0, STAKE, STAKE)

    # The honest provider of the same completion is asked for a row while it is dead.
    transcript = client_transcripts(settings, network.chain).latest(lambda stage: stage.peer == honest.peer)
    assert transcript is not None
    receipt, signature = transcript.receipts(network.chain.disputes.domain)[-1]
    honest.kill()
    asker = Sender(network.chain, Account.create())
    give(network.chain, asker.address, 10 * HCT)
    network.chain.disputes.demands.demand(asker, receipt, signature, output=True, row=0)
    network.wait(network.start(honest.spec, honest.home, honest.operator, model=demo_model()))
    happened(network, Served)
    assert staked(network, honest) == STAKE
