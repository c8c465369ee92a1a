"""Ten lines of Python: as the documentation says them, within limits, interrupted, and never two on one home."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from hypercluster.market.chain import Chain
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import keccak
from hypercluster.market.money.units import HCT
from hypercluster.node import connect
from hypercluster.node.catalogue import ListedModel, Source
from hypercluster.node.client.completion import TooExpensive
from hypercluster.node.client.events import Finished, Token
from hypercluster.node.client.request import BadRequest
from hypercluster.node.errors import NodeError
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.lock import HomeInUse
from hypercluster.node.home.profile import NetworkProfile, profile_of
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.faucet import give
from hypercluster.node.testnet.localnet import LIGHT_SCRYPT
from hypercluster.node.traffic.connecting import NoPassword, WrongLoop
from hypercluster.node.traffic.entries import MarketClosed, NamedModel
from tests.market.proxy import Answer, proxy
from tests.node.helpers.providers import running_provider
from tests.node.traffic.conftest import PROMPT, TERMS, Network, cost

DOCS = Path(__file__).resolve().parents[3] / "docs/python.md"
SECRET = "open sesame"


@dataclass(frozen=True)
class Home:
    """A client's home with money, and the profile of the network."""

    folder: Path
    profile: NetworkProfile
    address: str

    def spent(self) -> int:
        with Ledger(f"sqlite:///{self.folder / 'ledger.sqlite'}") as ledger:
            return sum(row.spent for row in ledger.payer.channels())


def listed(named: NamedModel) -> ListedModel:
    manifest = named.stored.manifest
    return ListedModel(
        name=named.name,
        aliases=named.aliases,
        model_id=manifest.model_id,
        layers=manifest.layers,
        n_vocab=manifest.n_vocab,
        context=manifest.context,
        source=Source(path=named.stored.source),
    )


@pytest.fixture
def home(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("HC_HOME", "HC_PROFILE", "HC_BOOTSTRAP", "HC_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    return new_home(network.chain, tmp_path / "home", network.first.address, network.tiny, network.other)


def new_home(chain: Chain, folder: Path, bootstrap: str, *models: NamedModel) -> Home:
    for key in keys.CLIENT:
        keys.create(folder, key, SECRET, work=LIGHT_SCRYPT)
    address = keys.address(folder, Key.WALLET)
    give(chain, address, 10 * HCT)
    profile = profile_of(chain, "test", bootstrap=(bootstrap,), models=tuple(map(listed, models)))
    return Home(folder, profile, address)


def test_blocking_a_text_its_events_and_its_bill(network: Network, home: Home) -> None:
    with connect(home.profile, home=home.folder, password=SECRET) as market:
        answer = market.complete(PROMPT, tokens=8)
        events = list(answer)
        assert [e.id for e in events if isinstance(e, Token)] == network.greedy(network.tiny, 8)
        assert isinstance(events[-1], Finished)
        assert answer.bill.spent_wei == cost(8) == market.spent_wei
        assert answer.completion.text == market.complete(PROMPT, tokens=8).text()
        assert market.spent_wei == 2 * cost(8)
        wallet = market.wallet()
        assert wallet.address == home.address
        assert wallet.hct_wei + wallet.in_channels_wei <= 10 * HCT - 2 * cost(8)
        assert [entry.name for entry in market.models()] == ["tiny"]
        with pytest.raises(BadRequest, match="turn of a chat"):
            market.chat([{"role": "user"}])
        stop = answer.completion.text[-2:]
        ended = market.complete(PROMPT, tokens=8, stop=stop).text()
        assert ended == answer.completion.text[: answer.completion.text.index(stop)]
        spent = market.spent_wei
    with pytest.raises(MarketClosed):
        market.complete(PROMPT)
    assert home.spent() == spent == network.best_vouchers(home.address)


async def test_the_same_in_trio_over_all_models_named(network: Network, home: Home) -> None:
    async with connect(
        home.profile, home=home.folder, password=SECRET, models=["other", "llama-tiny"]
    ) as market:
        assert [entry.name for entry in market.models()] == ["other", "tiny"]
        answer = market.complete(PROMPT, tokens=4)
        pieces = [piece async for piece in answer.texts()]
        assert "".join(pieces) == answer.completion.text
        assert answer.completion.tokens == network.greedy(network.other, 4)
    with pytest.raises(MarketClosed):
        market.complete(PROMPT)


def test_all_requests_together_stay_within_the_limit(network: Network, home: Home) -> None:
    """The first takes half of it, the second ends early with what was left, the third gets nothing."""
    limit = cost(8) + cost(3)
    with connect(home.profile, home=home.folder, password=SECRET, limit_wei=limit) as market:
        assert len(market.complete(PROMPT, tokens=8).text()) > 0
        second = market.complete(PROMPT, tokens=8)
        second.text()
        assert second.completion.finish == "cost"
        assert second.bill.spent_wei == cost(3)
        with pytest.raises(TooExpensive, match="limit of this connection"):
            market.complete(PROMPT, tokens=8).text()
        assert market.spent_wei == limit
    assert home.spent() == limit


def test_a_token_that_the_model_lacks_is_our_own_mistake(network: Network, home: Home) -> None:
    """Nothing is sent, so no provider looks as if it had failed."""
    with connect(home.profile, home=home.folder, password=SECRET) as market:
        answer = market.complete([1, 1 << 20])
        with pytest.raises(BadRequest, match="holds the token 1048576; this model has"):
            answer.text()
        assert not answer.completion.failures
        assert market.spent_wei == 0


def test_two_on_one_home_are_one_too_many(home: Home) -> None:
    with (
        connect(home.profile, home=home.folder, password=SECRET, program="the first"),
        pytest.raises(HomeInUse, match="the first"),
        connect(home.profile, home=home.folder, password=SECRET),
    ):
        pass


def test_what_is_missing_is_said_in_a_sentence(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NoPassword, match="HC_PASSWORD_FILE"), connect(home.profile, home=home.folder):
        pass
    with pytest.raises(NodeError), connect(tmp_path / "none.json", home=home.folder, password=SECRET):
        pass
    with (
        pytest.raises(NodeError, match="known here"),
        connect(home.profile, home=home.folder, password=SECRET, models=["gpt-5"]),
    ):
        pass
    # Nothing of it holds the home.
    with connect(home.profile, home=home.folder, password=SECRET):
        pass


@pytest.mark.parametrize("slow", ["the first answer", "the terms of disputes"])
async def test_who_ends_while_the_chain_does_not_answer_does_not_wait_for_it(
    network: Network, home: Home, slow: str
) -> None:
    asked, over = threading.Event(), threading.Event()
    terms = keccak(b"parameters()")[:4].hex().encode()

    def look(body: bytes) -> None:
        if slow == "the first answer" or terms in body:
            asked.set()

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        if asked.is_set():
            over.wait()
            return None
        return 200, ask()

    async def enter(url: str) -> None:
        settings = Settings(rpc_url=url)
        async with connect(home.profile, home=home.folder, password=SECRET, settings=settings):
            raise AssertionError("it was opened without a chain")

    with proxy(network.chain.url, behave, look) as url:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(enter, url)
                await trio.to_thread.run_sync(asked.wait)
                nursery.cancel_scope.cancel()
        finally:
            over.set()


def test_another_event_loop_is_told_what_to_use(home: Home) -> None:
    import asyncio

    async def main() -> None:
        async with connect(home.profile, home=home.folder, password=SECRET):
            pass

    with pytest.raises(WrongLoop, match="with connect"):
        asyncio.run(main())


def test_an_answer_that_nobody_ends_ends_with_the_market(network: Network, home: Home) -> None:
    with connect(home.profile, home=home.folder, password=SECRET) as market:
        answer = market.complete(PROMPT, tokens=50)
        for event in answer:
            if isinstance(event, Token):
                break
    done = answer.completion
    assert done.finish == "cancelled"
    assert home.spent() == done.spent_wei + done.risked_wei == network.best_vouchers(home.address) > 0


def test_several_threads_may_ask_at_once(network: Network, home: Home) -> None:
    texts: list[str] = []
    with connect(home.profile, home=home.folder, password=SECRET) as market:

        def ask() -> None:
            texts.append(market.complete(PROMPT, tokens=6).text())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(texts) == 8
    assert len(set(texts)) == 1
    assert home.spent() == 8 * cost(6)


INTERRUPTED = """
import os, signal, sys, threading
from hypercluster.node import connect
from hypercluster.node.client.events import Token

with connect(sys.argv[1], home=sys.argv[2], password={secret!r}) as market:
    answer, seen = market.complete((72, 101, 108, 108), tokens=90), 0
    try:
        for event in answer:
            seen += isinstance(event, Token)
            if isinstance(event, Token) and seen == 3:  # once: the list of tokens may be ahead of the events
                threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT)).start()
    except KeyboardInterrupt:
        done = answer.completion
        print(done.finish, done.spent_wei + done.risked_wei, flush=True)
        again = market.complete((72, 101, 108, 108), tokens=2)
        again.text()
        print(again.completion.finish, again.bill.spent_wei, flush=True)
        raise
"""


def test_ctrl_c_in_the_middle_of_an_answer_leaves_the_books_right(network: Network, home: Home) -> None:
    """What came is paid for, the next request goes on over the same channel, and the program ends as it should."""
    profile = home.folder / "profile.json"
    home.profile.save(profile)
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(secret=SECRET), str(profile), str(home.folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT, 1), ended.stderr
    assert "KeyboardInterrupt" in ended.stderr
    (first, spent), (second, after) = (line.split() for line in ended.stdout.splitlines())
    assert (first, second) == ("cancelled", "length")
    assert int(after) == cost(2)
    assert network.best_vouchers(home.address) <= int(spent) + int(after)
    assert home.spent() <= int(spent) + int(after)


@pytest.fixture(scope="module")
def chatting(
    chain: Chain, stored_chatty: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    """A network whose model has a chat template, as that of the documentation has."""
    folder = tmp_path_factory.mktemp("chatting")
    terms = TERMS | {"session_tokens": 256}
    with running_provider(chain, stored_chatty, folder / "provider", (0, 4), **terms) as served:
        yield new_home(chain, folder / "home", served.address, NamedModel("chatty", stored_chatty))


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("example", examples(), ids=["blocking", "trio"])
def test_the_examples_of_the_documentation_run(
    chatting: Home,
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chatting.profile.save(tmp_path / "network.json")
    (tmp_path / "password").write_text(SECRET)
    monkeypatch.setenv("HC_HOME", str(chatting.folder))
    monkeypatch.setenv("HC_PASSWORD_FILE", str(tmp_path / "password"))
    with chdir(tmp_path):
        exec(compile(example, str(DOCS), "exec"), {"__name__": "example"})
    said = capsys.readouterr().out
    assert "finished: length" in said or said.count("\n") >= 3


def test_the_examples_are_ten_lines_or_little_more() -> None:
    assert len(examples()[0].splitlines()) <= 12
