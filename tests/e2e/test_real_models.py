"""Models that people run, over paths of several providers: text, books and audits, with a hop killed on the way.

Three combinations of a model and a number of hops run in the suite, the other three only where HC_TEST_MATRIX is set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.catalogue import SMOLLM2
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.client import Client
from hypercluster.node.client.completion import Completion
from hypercluster.node.client.events import PathChosen, Token
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Sampling, Wishes
from hypercluster.node.engine import reference
from hypercluster.node.engine.tokenizer import Tokenizer
from hypercluster.node.rows import Float32s
from hypercluster.node.shards import partition
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.testnet.demo import shipped_bounds
from hypercluster.node.testnet.localnet import LocalNetwork, ProviderProcess, running_network
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec

pytestmark = pytest.mark.slow

TOKENS = 200
KILLED_AT, AFTERWARDS = 30, 30
WALLET = 100 * HCT
SERVE = ("--claim-every", "1", "--claim-multiple", "0", "--price-rule", "fixed")
JUDGE = ("--claim-every", "1", "--claim-multiple", "0", "--threads", "1")
PROMPT = "The lighthouse keeper looked at the sea, and"


@pytest.fixture(scope="module")
def stored_smollm2(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(smollm2, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def stored_gemma3(gemma3: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return open_model(gemma3, tmp_path_factory.mktemp("model"))


def bounds_of(stored: StoredModel, folder: Path) -> Path:
    """Those that ship for SmolLM2; for another model wide ones, as calibrating takes longer than the test."""
    if stored.manifest.model_id == SMOLLM2.model_id:
        return shipped_bounds()
    file = folder / "bounds.json"
    Bounds.conservative(stored.manifest.model_id).save(file)
    return file


@contextmanager
def network_of(model: Path, folder: Path, stored: StoredModel, hops: int) -> Iterator[LocalNetwork]:
    """So many providers one behind the other, a dearer one for the middle one's layers, and a verifier."""
    ranges = [f"{start}:{stop}" for start, stop in partition(stored.manifest.layers, hops)]
    specs = [ProviderSpec(layers=each, price="1", flags=SERVE) for each in ranges]
    specs.append(ProviderSpec(layers=ranges[hops // 2], price="9", flags=SERVE))
    bounds = ("--bounds", str(bounds_of(stored, folder)))
    with running_network(
        folder, specs, model=model, verifiers=[VerifierSpec(flags=(*JUDGE, *bounds))]
    ) as network:
        yield network


@dataclass(frozen=True)
class Talk:
    """Two texts over one path: one that nothing disturbs, and one of whose path a provider is killed.

    `before` is how many tokens the second one had when it went on over another path.
    """

    calm: Completion
    disturbed: Completion
    before: int


def talk(network: LocalNetwork, stored: StoredModel, ends: frozenset[int], victim: ProviderProcess) -> Talk:
    """Generate both, every stage of them audited; the victim is killed after KILLED_AT tokens of the second."""
    settings = network.client(WALLET)
    purse = purse_of(settings.home, network.chain, network.password_file.read_text())
    auditing = Auditing(policy=Policy(rate=1.0), auditor="verifier")
    cheapest = Wishes(market=MarketParameters(alpha=1.0))
    wanted = {node.peer for node in network.nodes}

    async def complete(client: Client, tokens: int, *, killing: bool = False) -> tuple[Completion, int]:
        before = 0
        request = Request(
            prompt=PROMPT,
            allowance=Allowance(tokens=tokens, patience=120.0),
            # Greedy, and never the end: the text is as long as was asked for.
            sampling=Sampling(logit_bias=tuple((token, -100.0) for token in sorted(ends))),
        )
        async with client.complete(request) as completing:
            completion = completing.completion
            async for event in completing:
                if isinstance(event, PathChosen):
                    before = len(completion.tokens)
                elif killing and isinstance(event, Token) and len(completion.tokens) == KILLED_AT:
                    victim.kill()
        assert completion.error is None
        await client.reports(completion.request_id)
        return completion, before

    async def main() -> Talk:
        async with joined(
            settings, network.chain, stored, purse, wishes=cheapest, auditing=auditing
        ) as client:
            with trio.fail_after(1800):
                while wanted - {advert.peer for advert in [*client.adverts(), *client.verifiers()]}:
                    await trio.sleep(0.2)
                calm, _ = await complete(client, TOKENS)
                disturbed, before = await complete(client, KILLED_AT + AFTERWARDS, killing=True)
            return Talk(calm, disturbed, before)

    return trio.run(main)


def unsplit(model: Path, prompt: Sequence[int], n: int, ends: frozenset[int]) -> list[int]:
    """What the whole model says, without its ends."""
    banned = sorted(ends)

    def choose(logits: Float32s) -> int:
        allowed = logits.copy()
        allowed[banned] = float("-inf")
        return int(allowed.argmax())

    return [int(token) for token in reference.generate(model, prompt, n, threads=1, choose=choose).ids]


def check_path(model: Path, stored: StoredModel, hops: int, folder: Path) -> None:
    """Over so many hops, one of them killed midway: the whole model's text, paid to the wei, and audited."""
    with Tokenizer(stored.vocabulary()) as tokenizer:
        ends = tokenizer.end_ids
    with network_of(model, folder, stored, hops) as network:
        killed = hops // 2
        victim, spare = network.providers[killed], network.providers[hops]
        said = talk(network, stored, ends, victim)
        calm, disturbed = said.calm, said.disturbed
        chain = [provider.peer for provider in network.providers[:hops]]
        assert [bill.peer for bill in calm.bills] == chain
        assert calm.tokens == unsplit(model, calm.prompt, TOKENS, ends)
        # Who takes over reads what was said so far as a prompt, in larger steps, and so does the whole model here: sums
        # of many rows at once may differ from those of single ones in the last bits.
        assert disturbed.failures == [victim.peer]
        peers = [bill.peer for bill in disturbed.bills]
        assert peers == [victim.peer, *chain[:killed], spare.peer, *chain[killed + 1 :]]
        assert disturbed.tokens[: said.before] == calm.tokens[: said.before]
        spoken = [*disturbed.prompt, *disturbed.tokens[: said.before]]
        left = KILLED_AT + AFTERWARDS - said.before
        assert disturbed.tokens[said.before :] == unsplit(model, spoken, left, ends)
        # Whoever lives can be asked to show what the receipts are over, and stands by it.
        for completion, stages in ((calm, hops), (disturbed, hops)):
            found = [each for each in completion.reports if completion is calm or each.peer != victim.peer]
            assert [each.finding for each in found] == ["pass"] * stages, found
        # Whoever lives gets what the client signed, to the wei.
        due: dict[bytes, int] = {}
        for bill in [*calm.bills, *disturbed.bills]:
            if bill.peer != victim.peer:
                due[bill.channel_id] = due.get(bill.channel_id, 0) + bill.paid_wei
        channels = network.chain.channels
        deadline = time.monotonic() + 300
        while (settled := {channel: channels.state(channel).settled for channel in due}) != due:
            assert time.monotonic() < deadline, (settled, due)
            time.sleep(0.2)


MATRIX = pytest.mark.skipif(
    not os.environ.get("HC_TEST_MATRIX"), reason="set HC_TEST_MATRIX to run all combinations"
)


@pytest.mark.parametrize("hops", [2, pytest.param(4, marks=MATRIX), 7])
def test_smollm2_over_several_hops_is_the_whole_model_paid_and_audited(
    smollm2: Path, stored_smollm2: StoredModel, hops: int, tmp_path: Path
) -> None:
    """Four hops only where HC_TEST_MATRIX is set."""
    check_path(smollm2, stored_smollm2, hops, tmp_path)


@pytest.mark.parametrize("hops", [pytest.param(2, marks=MATRIX), 4, pytest.param(7, marks=MATRIX)])
def test_gemma3_over_several_hops_is_the_whole_model_paid_and_audited(
    gemma3: Path, stored_gemma3: StoredModel, hops: int, tmp_path: Path
) -> None:
    """Two and seven hops only where HC_TEST_MATRIX is set."""
    check_path(gemma3, stored_gemma3, hops, tmp_path)
