"""A network in which somebody cheats: it is found, the case goes through the chain, and the stake is cut."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hypercluster.market.chain import LOCAL_TERMS
from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import HCT
from hypercluster.node.client.auditing.assembly import Auditing, client_transcripts
from hypercluster.node.client.auditing.policy import Policy, Report
from hypercluster.node.client.client import Client
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import Settings
from hypercluster.node.identity import short_peer
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.cheats import CHEATS, UnknownCheat
from hypercluster.node.testnet.demo import DemoFailed, calibrated_bounds, wait_for_all
from hypercluster.node.testnet.immunity import try_oneself
from hypercluster.node.testnet.localnet import (
    LocalNetwork,
    ProviderProcess,
    VerifierProcess,
    running_network,
)
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from hypercluster.node.testnet.telling import Telling

NONE = "none"
IMMUNE = "immune"
KINDS = (NONE, *CHEATS, IMMUNE)
WALLET_HCT = 1_000 * HCT
FIVE_SEATS = replace(
    LOCAL_TERMS, seats=5, evidence_window=400, commit_window=120, draw_window=60, reveal_window=120
)
"""the committee of a real chain, and time for two cases in a row"""
TRIES = 4
"""completions within which a cheat must be found"""
STEPS = 10_000
"""steps that are audited when nobody cheats"""
QUICK = ("--refresh", "2", "--claim-every", "5", "--sessions", "2")
QUICK_JUDGE = ("--refresh", "2", "--claim-every", "5", "--watch", "0.4", "--threads", "1")


@dataclass(slots=True, kw_only=True)
class CheatResult:
    """What happened. `after_tokens` is how many tokens were generated until the fault was found, `own_case` how the
    culprit's case about itself ended."""

    cheat: str
    culprit: str = ""
    detected: bool = False
    after_tokens: int = 0
    audited_steps: int = 0
    accusations: int = 0
    case: int | None = None
    verdict: str = "none"
    own_case: str = ""
    slashed_wei: int = 0
    honest_slashed_wei: int = 0
    path_before: list[str] = field(default_factory=list)
    path_after: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    audit_wei: int = 0
    seconds: float = 0.0

    @property
    def avoided(self) -> bool:
        """Whether the client's later path is without the culprit."""
        return self.culprit not in self.path_after

    @property
    def good(self) -> bool:
        """Whether all went as it should: the culprit paid, and nobody else."""
        if self.honest_slashed_wei:
            return False
        if self.cheat == IMMUNE and self.own_case != "inconclusive":
            return False
        if self.cheat == NONE:
            return not self.detected and not self.accusations
        return self.detected and self.slashed_wei > 0 and self.avoided

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "cheat": self.cheat,
            "culprit": self.culprit or None,
            "path_before": self.path_before,
            "path_after": self.path_after,
            "audited_steps": self.audited_steps,
            "accusations": self.accusations,
            "audit_wei": self.audit_wei,
            "own_case": self.own_case or None,
            "seconds": round(self.seconds, 1),
            "detected": self.detected,
            "after_tokens": self.after_tokens,
            "case": self.case,
            "verdict": self.verdict,
            "slashed_wei": self.slashed_wei,
            "honest_slashed_wei": self.honest_slashed_wei,
        }


def run_cheat_demo(
    home: Path,
    *,
    cheat: str,
    prompt: str,
    tokens: int,
    model: Path | None = None,
    steps: int = STEPS,
    telling: Telling | None = None,
) -> CheatResult:
    """Run a network with one cheat, or with none until `steps` steps are audited; all processes end before this
    returns.

    Args:
        home: folder for keys (used again by the next run), ledgers and logs.
        cheat: one of KINDS.
        telling: where completions are streamed to and the steps are reported.

    Raises:
        UnknownCheat, DemoFailed: nodes did not find each other in time.
        NodeError, MarketError: a part did not start.
    """
    if cheat not in KINDS:
        raise UnknownCheat(f"{cheat!r} is no kind of cheating: choose one of {', '.join(KINDS)}.")
    start = time.monotonic()
    model = model or demo_model()
    stored = open_model(model, home)
    tell = telling or Telling()
    tell.status("Calibrating the model, once")
    bounds = calibrated_bounds(stored, home)

    def started(node: ProviderProcess | VerifierProcess) -> None:
        tell.news(f"{short_peer(node.peer)}: {node.spec.name}")

    tell.status("Starting the chain, providers and verifiers")
    providers, verifiers = _specs(cheat, stored.manifest.layers, bounds)
    terms = FIVE_SEATS if cheat == IMMUNE else LOCAL_TERMS
    with running_network(
        home, providers, model=model, verifiers=verifiers, terms=terms, on_started=started
    ) as network:
        settings = network.client(WALLET_HCT)
        tell.status("Looking for the nodes in the DHT")
        result = trio.run(
            partial(
                _run,
                network=network,
                settings=settings,
                stored=stored,
                cheat=cheat,
                prompt=prompt,
                tokens=tokens,
                steps=steps,
                tell=tell,
            )
        )
        lost = network.lost()
        result.slashed_wei = lost.pop(result.culprit, 0)
        result.honest_slashed_wei = sum(lost.values())
        tell.status("Ending all processes")
    tell.status("")
    result.seconds = time.monotonic() - start
    return result


def _specs(cheat: str, layers: int, bounds: Path) -> tuple[list[ProviderSpec], list[VerifierSpec]]:
    """The cheat is cheapest, so that it is chosen; an honest rival serves the same."""
    half = layers // 2 or 1
    fixed = (*QUICK, "--price-rule", "fixed")
    judge = (*QUICK_JUDGE, "--bounds", str(bounds))
    cheats = {NONE: "", "lazy-verifier": "", IMMUNE: "noise"}.get(cheat, cheat)
    providers = [
        ProviderSpec(layers=f"0:{half}", price="1", flags=fixed, cheat=cheats),
        ProviderSpec(layers=f"{half}:{layers}", price="1.5", flags=fixed),
        ProviderSpec(layers=f"0:{half}", price="40", flags=fixed),
    ]
    if layers == 1:
        providers = [providers[0], providers[2]]
    if cheat == "lazy-verifier":
        return providers, [
            VerifierSpec(price="0.1", flags=judge, lazy=True),
            VerifierSpec(price="0.5", flags=judge),
        ]
    judges = FIVE_SEATS.seats if cheat == IMMUNE else LOCAL_TERMS.seats
    return providers, [VerifierSpec(price="0.5", flags=judge) for _ in range(judges)]


async def _run(
    *,
    network: LocalNetwork,
    settings: Settings,
    stored: StoredModel,
    cheat: str,
    prompt: str,
    tokens: int,
    steps: int,
    tell: Telling,
) -> CheatResult:
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    policy = Policy(rate=1.0, traps=1.0 if cheat == "lazy-verifier" else 0.0, disputes=cheat != IMMUNE)
    result = CheatResult(cheat=cheat)
    if cheat == "lazy-verifier":
        result.culprit = network.verifiers[0].peer
    elif cheat != NONE:
        result.culprit = network.providers[0].peer
    async with joined(
        settings, network.chain, stored, purse, auditing=Auditing(policy=policy, auditor="verifier")
    ) as client:
        await wait_for_all(client, network)
        tell.status("")
        result.path_before = (await client.route()).ids
        if cheat == NONE:
            # Long completions: what is wanted is many steps.
            tokens = max(tokens, min(256, stored.manifest.context // 2))
        completions = 0
        while not result.detected:
            completion = await _complete(client, prompt, tokens, tell, seed=completions)
            completions += 1
            result.reports += completion
            result.audit_wei += sum(report.cost_wei for report in completion)
            result.audited_steps += sum(
                report.generated + 1 for report in completion if report.finding != "error"
            )
            result.after_tokens += max((report.generated + 1 for report in completion), default=0)
            faults = [report for report in completion if report.finding == "fail"]
            result.accusations += len(faults)
            for report in faults:
                result.detected |= report.fault == result.culprit
                if report.ruling is not None:
                    result.case, result.verdict = report.ruling.case_id, report.ruling.outcome
            if cheat == IMMUNE and result.detected:
                await _immune(client, network, stored, settings, result, tell)
            if cheat == NONE and (faults or result.audited_steps >= steps):
                break
            if cheat != NONE and completions == TRIES:
                break
        if result.culprit in {verifier.peer for verifier in network.verifiers}:
            # Later audits avoid it; it was on no path of layers.
            later = await _complete(client, prompt, 8, Telling(), seed=99)
            result.path_after = [report.auditor for report in later]
        else:
            try:
                result.path_after = (await client.route()).ids
            except (NodeError, MarketError) as error:
                raise DemoFailed(f"There is no path without the culprit: {error}") from error
    return result


async def _immune(
    client: Client,
    network: LocalNetwork,
    stored: StoredModel,
    settings: Settings,
    result: CheatResult,
    tell: Telling,
) -> None:
    """The culprit is faster with a case about itself, whose committee is split; then the client opens its own."""
    # What an accomplice has as well: the culprit keeps the same transcript.
    held = client_transcripts(settings, network.chain).latest(lambda stage: stage.peer == result.culprit)
    transcript = None if held is None else held.whole()
    accuser = client.audits.inspector.accuser if client.audits is not None else None
    if transcript is None or accuser is None:
        raise DemoFailed("The client kept no transcript of what it found to be wrong.")
    tell.status("The culprit's accomplice has the receipt tried, and serves two members of five")
    own = await try_oneself(network, stored, transcript, wallet_wei=WALLET_HCT)
    result.own_case = own.outcome
    tell.news(f"case {own.case_id}, which the culprit's accomplice opened: {own.outcome}")
    tell.status("The client opens a case of its own")
    ruling = await accuser.accuse(transcript)
    result.case, result.verdict = ruling.case_id, ruling.outcome


async def _complete(client: Client, prompt: str, tokens: int, tell: Telling, seed: int) -> list[Report]:
    request = Request(
        prompt=prompt,
        allowance=Allowance(tokens=tokens),
        sampling=Sampling(temperature=0.8, top_k=40, seed=seed),
    )
    tell.text(prompt)
    async with client.complete(request) as completing:
        async for event in completing:
            if isinstance(event, Token):
                tell.text(event.text)
            elif isinstance(event, Finished) and event.error is not None:
                raise event.error
    tell.text("\n")
    return await client.reports(completing.completion.request_id)
