"""The whole market on one machine: a chain, providers, a verifier, one paid completion, and books that must balance."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import trio

from hypercluster.market.chain import Chain
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.economics.routing import Path as Route
from hypercluster.market.economics.routing import Rival, rivals
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import BadBounds, Bounds
from hypercluster.node.catalogue import SMOLLM2
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion, HopBill
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling, Wishes
from hypercluster.node.engine import ranking as topk
from hypercluster.node.engine import reference
from hypercluster.node.engine.chat import Message
from hypercluster.node.engine.sampler import Sampler
from hypercluster.node.errors import NodeError
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_ledger
from hypercluster.node.home.settings import Settings
from hypercluster.node.identity import short_peer
from hypercluster.node.replay import calibration
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.testnet.answering import completed
from hypercluster.node.testnet.localnet import (
    LocalNetwork,
    ProviderProcess,
    VerifierProcess,
    running_network,
)
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec
from hypercluster.node.testnet.telling import Telling

WALLET_HCT = 10 * HCT
FIND_SECONDS = 180.0
CLAIM_SECONDS = 180.0
TOP_K = 40
PACE = ("--refresh", "2", "--claim-every", "1", "--claim-multiple", "0")
QUICK = (*PACE, "--sessions", "2")
QUICK_JUDGE = (*PACE, "--watch", "0.4", "--threads", "1")


class DemoFailed(NodeError):
    """The network did not do what it should have within its time."""


@dataclass(frozen=True, slots=True)
class PaidHop:
    """One provider of the path and its money, in wei."""

    bill: HopBill
    claimed_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What happened. Money in wei; `earned_wei` is what the providers' accounts hold on chain in the end, and
    `audits_earned_wei` the verifier's.
    """

    completion: Completion
    hops: tuple[PaidHop, ...]
    rivals: tuple[Rival, ...]
    route: Route
    alpha: float
    earned_wei: int
    audits_earned_wei: int
    wallet_wei: int
    locked_wei: int
    """left in the channels, the client's to take back"""
    identical_to_unsplit: bool
    seconds: float

    @property
    def spent_wei(self) -> int:
        """By the client, over all hops."""
        return self.completion.spent_wei

    @property
    def reconciled(self) -> bool:
        """Spent, claimed and earned are one number, so are the audits' cost and the verifier's income, and the
        wallet misses just these and what is locked.
        """
        claimed = sum(hop.claimed_wei for hop in self.hops)
        audits = self.completion.audit_wei
        return (
            self.spent_wei == self.earned_wei == claimed
            and audits == self.audits_earned_wei
            and self.wallet_wei + self.locked_wei + self.spent_wei + audits == WALLET_HCT
        )

    @property
    def audited(self) -> bool:
        """Whether all stages were looked over and passed."""
        findings = [report.finding for report in self.completion.reports]
        return findings == ["pass"] * len(self.hops)

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "text": self.completion.text,
            "tokens": self.completion.tokens,
            "path": [
                {
                    "peer": hop.bill.peer,
                    "layers": [hop.bill.layer_start, hop.bill.layer_stop],
                    "price_wei": hop.bill.price_wei,
                    "prompt_price_wei": hop.bill.prompt_price_wei,
                    "tokens": hop.bill.tokens,
                    "paid_wei": hop.bill.paid_wei,
                    "claimed_wei": hop.claimed_wei,
                    "step_ms": asdict(hop.bill.timing.typical()),
                    "steps": len(hop.bill.timing.total),
                    "steps_linked": hop.bill.linked,
                }
                for hop in self.hops
            ],
            "rivals": [
                {
                    "peer": rival.node.id,
                    "layers": [rival.node.start, rival.node.stop],
                    "price_wei": rival.node.price_wei,
                    "ms": rival.node.total_ms,
                    "weight": rival.weight,
                    "excess": rival.excess,
                }
                for rival in self.rivals
            ],
            "spent_wei": self.spent_wei,
            "earned_wei": self.earned_wei,
            "audits": [
                {
                    "peer": report.peer,
                    "layers": [report.layer_start, report.layer_stop],
                    "tokens": report.tokens,
                    "finding": report.finding,
                    "cost_wei": report.cost_wei,
                }
                for report in self.completion.reports
            ],
            "audit_wei": self.completion.audit_wei,
            "reconciled": self.reconciled,
            "identical_to_unsplit": self.identical_to_unsplit,
            "seconds": round(self.seconds, 1),
        }


def demo_specs(layers: int) -> list[ProviderSpec]:
    """Five providers over four ranges: two compete for the third, one cheap and slow, one dear and fast."""
    ranges = [f"{start}:{stop}" for start, stop in partition(layers, 4)]
    cheap = ProviderSpec(layers=ranges[2], price="1", flags=(*QUICK, "--throttle", "4"))
    others = [
        ProviderSpec(layers=ranges[0], price="1", flags=QUICK),
        ProviderSpec(layers=ranges[1], price="1.5", flags=QUICK),
        ProviderSpec(layers=ranges[2], price="2.25", flags=QUICK),
        ProviderSpec(layers=ranges[3], price="2", flags=QUICK),
    ]
    return [*others, cheap]


def run_demo(
    home: Path,
    *,
    prompt: str,
    tokens: int,
    alpha: float,
    temperature: float = 0.0,
    seed: int = 0,
    model: Path | None = None,
    chat: bool = False,
    telling: Telling | None = None,
) -> DemoResult:
    """Run the demo and return its books; every process that it starts has ended by then.

    Args:
        home: folder for keys (used again by the next run), ledgers and logs.
        alpha: weight of price against time in the client's choice of path.
        temperature: 0 is greedy; otherwise `seed` fixes the draws, of the client and of the unsplit model alike.
        model: a GGUF file; None for the verse model.
        chat: the prompt is a turn of a chat, which the model's own template writes down.
        telling: where the completion is streamed to and the steps are reported.

    Raises:
        DemoFailed: providers did not find each other, or did not claim, in time.
        NodeError, MarketError: a part did not start.
    """
    start = time.monotonic()
    model = model or demo_model()
    stored = open_model(model, home)
    specs = demo_specs(stored.manifest.layers)
    market = MarketParameters(alpha=alpha)
    tell = telling or Telling()
    tell.status("Calibrating the model, once")
    bounds = calibrated_bounds(stored, home)
    tell.status("Starting Anvil and deploying the contracts")

    def started(node: ProviderProcess | VerifierProcess) -> None:
        tell.news(f"{short_peer(node.peer)}: {node.spec.name}")

    tell.status("Starting five providers and a verifier")
    verifiers = [VerifierSpec(flags=(*QUICK_JUDGE, "--bounds", str(bounds)))]
    with running_network(home, specs, model=model, verifiers=verifiers, on_started=started) as network:
        settings = network.client(WALLET_HCT)
        tell.status("Looking for the providers in the DHT")
        request = Request(
            prompt=(Message("user", prompt),) if chat else prompt,
            allowance=Allowance(tokens=tokens),
            sampling=Sampling(temperature=temperature, top_k=TOP_K, seed=seed),
        )
        shown = f"{prompt}\n" if chat else prompt
        work = partial(_complete, network, settings, stored, Wishes(market=market), request, shown, tell)
        completion, route, losers = trio.run(work)
        tell.status("Waiting for the providers to claim")
        claimed = _wait_for_claims(network.chain, settings)
        earned = sum(network.chain.token.balance(provider.operator) for provider in network.providers)
        wallet = network.chain.token.balance(keys.address(settings.home, Key.WALLET))
        audits_earned = sum(network.chain.token.balance(judge.operator) for judge in network.verifiers)
        locked = sum(state.deposit - state.settled for state in map(network.chain.channels.state, claimed))
        tell.status("Running the unsplit model")
        with Sampler(stored.manifest.n_vocab, temperature, TOP_K, seed=seed) as sampler:
            unsplit = reference.generate(
                model,
                completion.prompt,
                max(1, len(completion.tokens)),
                threads=1,
                choose=lambda logits: sampler.sample(topk.best([logits], TOP_K)),
            )
        tell.status("Ending all processes")
    tell.status("")
    same = [int(token) for token in unsplit.ids[: len(completion.tokens)]] == completion.tokens
    return DemoResult(
        completion=completion,
        hops=tuple(PaidHop(bill, claimed[bill.channel_id]) for bill in completion.bills),
        rivals=tuple(losers),
        route=route,
        alpha=alpha,
        earned_wei=earned,
        audits_earned_wei=audits_earned,
        wallet_wei=wallet,
        locked_wei=locked,
        identical_to_unsplit=same,
        seconds=time.monotonic() - start,
    )


async def _complete(
    network: LocalNetwork,
    settings: Settings,
    stored: StoredModel,
    wishes: Wishes,
    request: Request,
    shown: str,
    tell: Telling,
) -> tuple[Completion, Route, list[Rival]]:
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    auditing = Auditing(policy=Policy(rate=1.0), auditor="verifier")
    async with joined(settings, network.chain, stored, purse, wishes=wishes, auditing=auditing) as client:
        await wait_for_all(client, network)
        nodes = await client.nodes()
        route = await client.route()
        tell.status("")
        tell.news(f"the client found all {len(nodes)} providers; the lightest path weighs {route.weight:.3f}")
        tell.text(shown)
        completion, taken = await completed(client, request, tell)
        delays = client.chooser.delays(wishes, nodes)
        losers = rivals(nodes, layers=client.model.layers, market=wishes.market, latency=delays)
        return completion, taken or route, losers


async def wait_for_all(client: Client, network: LocalNetwork) -> None:
    """Return when the client knows every node of the network. Raises DemoFailed."""
    wanted = {node.peer for node in network.nodes}
    with trio.move_on_after(FIND_SECONDS):
        while wanted - {advert.peer for advert in [*client.adverts(), *client.verifiers()]}:
            await trio.sleep(0.1)
        return
    missing = len(wanted - {advert.peer for advert in [*client.adverts(), *client.verifiers()]})
    raise DemoFailed(f"{missing} of {len(wanted)} nodes were not found within {FIND_SECONDS:.0f} s.")


def shipped_bounds() -> Path:
    """The bounds for SmolLM2, measured over all ways that llama.cpp knows on an x86-64 with AVX-512."""
    return Path(str(files("hypercluster.node") / "demo_model" / "smollm2-bounds.json"))


def calibrated_bounds(stored: StoredModel, home: Path) -> Path:
    """The file of bounds for audits on this machine; measured once per home, as that takes a while.

    For SmolLM2 the ones that ship with HyperCluster serve: all nodes here compute alike, and an audit in doubt
    repeats the steps.
    """
    if stored.manifest.model_id == SMOLLM2.model_id:
        return shipped_bounds()
    path = home / f"bounds-{stored.manifest.model_id[:16]}.json"
    try:
        Bounds.load(path, stored.manifest.model_id)
    except BadBounds:
        calibration.calibrate(stored, texts=2, tokens=64).save(path)
    return path


def _wait_for_claims(chain: Chain, settings: Settings) -> dict[bytes, int]:
    """What the chain has paid on each of the client's channels, as soon as it is what was spent. Raises DemoFailed."""
    with open_ledger(settings) as ledger:
        spent = {row.channel_id: row.spent for row in ledger.payer.channels(chain.channels.domain)}
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        settled = {channel_id: chain.channels.state(channel_id).settled for channel_id in spent}
        if settled == spent:
            return settled
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"After {CLAIM_SECONDS:.0f} s {sum(settled.values())} wei of {sum(spent.values())} wei were claimed."
            )
        time.sleep(0.2)
