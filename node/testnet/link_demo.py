"""A network in which a provider cheats on its link to the next one: the right tokens come, and nobody honest loses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy, Report
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.joining import joined
from hypercluster.node.client.opening import adverts_of
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.engine import reference
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.answering import completed
from hypercluster.node.testnet.cheat_demo import QUICK, QUICK_JUDGE, WALLET_HCT
from hypercluster.node.testnet.cheats import LINK_CHEATS, LinkCheat, UnknownCheat
from hypercluster.node.testnet.demo import calibrated_bounds, wait_for_all
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from hypercluster.node.testnet.telling import Telling

LEAVES: tuple[LinkCheat, ...] = ("withhold-rows",)
"""by which a provider shows itself that it does not have what it signed for; of the others nobody can say who it was"""


@dataclass(slots=True, kw_only=True)
class LinkCheatResult:
    """What happened in two completions, one after the other; money in wei.

    `left` is whether the cheat was left in the first of them, `relayed` whether the client relays the rows behind it
    afterwards. `more_wei` is what the first completion cost more than the second, which went around the cheat.
    """

    cheat: LinkCheat
    culprit: str = ""
    left: bool = False
    relayed: bool = False
    identical_to_unsplit: bool = False
    spent_wei: int = 0
    more_wei: int = 0
    risked_wei: int = 0
    honest_risked_wei: int = 0
    """signed to others than the cheat, and never answered"""
    slashed_wei: int = 0
    honest_slashed_wei: int = 0
    path_before: list[str] = field(default_factory=list)
    path_after: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def avoided(self) -> bool:
        """Whether the client's later path is without the culprit."""
        return self.culprit not in self.path_after

    @property
    def accusations(self) -> int:
        """Audits that found a stage to be wrong: none is, whatever went over the link."""
        return sum(report.finding == "fail" for report in self.reports)

    @property
    def good(self) -> bool:
        """Whether all went as it should: the tokens came, the link or the cheat was passed by, nobody honest lost."""
        left = self.cheat in LEAVES
        passed_by = self.left == left and (self.avoided if left else self.relayed)
        lost = self.slashed_wei + self.honest_slashed_wei + self.honest_risked_wei
        return self.identical_to_unsplit and passed_by and not lost and not self.accusations

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "cheat": self.cheat,
            "culprit": self.culprit,
            "path_before": self.path_before,
            "path_after": self.path_after,
            "left": self.left,
            "relayed": self.relayed,
            "identical_to_unsplit": self.identical_to_unsplit,
            "accusations": self.accusations,
            "spent_wei": self.spent_wei,
            "more_wei": self.more_wei,
            "risked_wei": self.risked_wei,
            "honest_risked_wei": self.honest_risked_wei,
            "slashed_wei": self.slashed_wei,
            "honest_slashed_wei": self.honest_slashed_wei,
            "seconds": round(self.seconds, 1),
        }


def run_link_demo(
    home: Path,
    *,
    cheat: LinkCheat,
    prompt: str,
    tokens: int,
    model: Path | None = None,
    telling: Telling | None = None,
) -> LinkCheatResult:
    """Run a network whose first provider cheats on its link; all processes end before this returns.

    Args:
        home: folder for keys (used again by the next run), ledgers and logs.
        tokens: of each of two completions.
        telling: where completions are streamed to and the steps are reported.

    Raises:
        UnknownCheat, DemoFailed: nodes did not find each other in time.
        NodeError, MarketError: a part did not start.
    """
    if cheat not in LINK_CHEATS:
        raise UnknownCheat(f"{cheat!r} is no way to cheat on a link: choose one of {', '.join(LINK_CHEATS)}.")
    start = time.monotonic()
    model = model or demo_model()
    stored, tell = open_model(model, home), telling or Telling()
    layers = stored.manifest.layers
    if layers < 2:
        raise UnknownCheat("A model of one layer has no path with a link: give --model another one.")
    tell.status("Calibrating the model, once")
    bounds = calibrated_bounds(stored, home)
    tell.status("Starting the chain, providers and a verifier")
    fixed, half = (*QUICK, "--price-rule", "fixed"), layers // 2
    providers = [
        ProviderSpec(layers=f"0:{half}", price="1", flags=fixed, cheat=cheat),
        ProviderSpec(layers=f"{half}:{layers}", price="1.5", flags=fixed),
        ProviderSpec(layers=f"0:{half}", price="40", flags=fixed),
    ]
    judges = [VerifierSpec(price="0.5", flags=(*QUICK_JUDGE, "--bounds", str(bounds)))]
    with running_network(home, providers, model=model, verifiers=judges) as network:
        settings = network.client(WALLET_HCT)
        tell.status("Looking for the nodes in the DHT")
        result = LinkCheatResult(cheat=cheat, culprit=network.providers[0].peer)
        request = Request(prompt=prompt, allowance=Allowance(tokens=tokens))
        done = trio.run(partial(_run, network, settings, stored, request, result, tell))
        lost = network.lost()
        result.slashed_wei = lost.pop(result.culprit)
        result.honest_slashed_wei = sum(lost.values())
        tell.status("Running the unsplit model")
        unsplit = reference.generate(model, done[0].prompt, tokens, threads=1)
        expected = [int(token) for token in unsplit.ids]
        result.identical_to_unsplit = all(each.tokens == expected[: len(each.tokens)] for each in done)
        tell.status("Ending all processes")
    tell.status("")
    result.seconds = time.monotonic() - start
    return result


async def _run(
    network: LocalNetwork,
    settings: Settings,
    stored: StoredModel,
    request: Request,
    result: LinkCheatResult,
    tell: Telling,
) -> list[Completion]:
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    auditing = Auditing(policy=Policy(rate=1.0), auditor="verifier")
    done: list[Completion] = []
    async with joined(settings, network.chain, stored, purse, auditing=auditing) as client:
        await wait_for_all(client, network)
        tell.status("")
        result.path_before = (await client.route()).ids
        for _ in range(2):
            tell.text(str(request.prompt))
            done.append((await completed(client, request, tell))[0])
            result.reports += done[-1].reports
        path = await client.route()
        result.path_after = path.ids
        adverts = adverts_of(path.nodes, client.network.discovery.book)
        result.relayed = result.culprit in path.ids and not client.opener.links.joints(adverts)
    first, second = done
    result.left = result.culprit in first.failures
    bills = [bill for each in done for bill in each.bills]
    result.spent_wei = sum(bill.paid_wei for bill in bills)
    result.more_wei = first.spent_wei - second.spent_wei
    result.risked_wei = sum(bill.risked_wei for bill in bills)
    result.honest_risked_wei = sum(bill.risked_wei for bill in bills if bill.peer != result.culprit)
    return done
