"""An RPC node that limits requests, fails or lies, played by a real HTTP proxy before a real chain."""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Rpc, Sender, patience, posting
from hypercluster.market.chain.patience import RateLimited
from hypercluster.market.errors import ChainError, LedgerError, NodeUnreachable
from hypercluster.market.ledger import Ledger
from hypercluster.market.redaction import RedactingFormatter, hide, place, redact
from tests.market.proxy import Answer, proxy


def limit(number: int = 1) -> bytes:
    error = {"code": -32005, "message": "daily request count exceeded, request rate limited"}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()


def result(value: object, number: int = 0) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": value}).encode()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, so that what never passes is said soon."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(patience, "TIMEOUT_SECONDS", 1.0)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("answer", [(429, b"slow down"), (200, limit()), (403, b"quota used up")])
def test_a2_an_rpc_that_always_limits_requests(anvil: str, answer: Answer) -> None:
    """A2: said as what it is, not as "start it"."""
    asked: list[str] = []

    def behave(method: str, _ask: Callable[[], bytes]) -> Answer:
        asked.append(method)
        return answer

    with proxy(anvil, behave) as url:
        with pytest.raises(RateLimited, match="limits requests") as told:
            Rpc(url)
        assert url in str(told.value)
        assert "start it" not in str(told.value)
    assert len(asked) > 1


def test_a2_limits_now_and_then_are_waited_out(
    chain: Chain, anvil: str, accounts: list[LocalAccount]
) -> None:
    """A2: -32005 every third time is not noticed, by reads and by sends."""
    lock, count = threading.Lock(), [0]

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        with lock:
            count[0] += 1
            limited = count[0] % 3 == 0
        return (200, limit()) if limited else (200, ask())

    with proxy(anvil, behave) as url:
        slow = Chain(url, chain.deployment)
        before = chain.balance(accounts[6].address)
        sender = Sender(slow, accounts[5])
        for _ in range(5):
            sender.transact("to send coin", accounts[6].address, "0x", 3)
        assert slow.balance(accounts[6].address) == before + 15


@pytest.mark.parametrize("when", ["before", "after"])
def test_a2_a_lost_answer_sends_nothing_twice(
    chain: Chain, anvil: str, accounts: list[LocalAccount], when: str
) -> None:
    """A2: the connection breaks before or after the chain took a transaction; it counts once."""
    broken: list[str] = []

    def behave(method: str, ask: Callable[[], bytes]) -> Answer:
        if method == "eth_sendRawTransaction" and not broken:
            broken.append(method)
            if when == "after":
                ask()
            return None
        return 200, ask()

    with proxy(anvil, behave) as url:
        before = chain.balance(accounts[6].address)
        nonce = chain.web3.eth.get_transaction_count(accounts[4].address)
        Sender(Chain(url, chain.deployment), accounts[4]).transact(
            "to send coin", accounts[6].address, "0x", 7
        )
    assert broken
    assert chain.balance(accounts[6].address) == before + 7
    assert chain.web3.eth.get_transaction_count(accounts[4].address) == nonce + 1


def test_a2_reads_survive_broken_connections_and_server_errors(chain: Chain, anvil: str) -> None:
    """A2: resets, 502 and 503 are tried again."""
    troubles: list[Answer] = [None, (502, b"<html>bad gateway</html>"), (503, b""), None]

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        return troubles.pop() if troubles else (200, ask())

    with proxy(anvil, behave) as url:
        assert Rpc(url).chain_id == chain.chain_id
    assert not troubles


def test_many_threads_with_a_limited_rpc(anvil: str) -> None:
    lock, count = threading.Lock(), [0]

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        with lock:
            count[0] += 1
            return (200, ask()) if count[0] % 2 else (429, b"")

    with proxy(anvil, behave) as url, ThreadPoolExecutor(4) as pool:
        rpc = Rpc(url)
        assert len({rpc.chain_id, *pool.map(lambda _: int(rpc.web3.eth.chain_id), range(8))}) == 1


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, b""), "credentials"),
        ((403, b"forbidden"), "credentials"),
        ((404, b"not here"), "not as an Ethereum node"),
        ((200, b"<html>welcome</html>"), "not as an Ethereum node"),
        ((200, b"[]"), "not as an Ethereum node"),
        ((200, b'"text"'), "not as an Ethereum node"),
        ((200, b"{}"), "no usable answer|not as an Ethereum node"),
        ((200, b""), "no JSON"),
        ((200, b"\xff\xfe"), "no JSON"),
        ((200, b"[" * 200_000), "no JSON"),
        ((200, result("0x")), "cannot be read"),
        ((200, result("0xzz")), "cannot be read"),
        ((200, result(None)), "cannot be read"),
        ((500, b""), "trouble of its own"),
        (None, "connection broke"),
    ],
)
def test_what_is_no_node_is_named(anvil: str, answer: Answer, words: str) -> None:
    with proxy(anvil, lambda _method, _ask: answer) as url, pytest.raises(ChainError, match=words):
        Rpc(url)


@pytest.mark.parametrize("value", ["0x", "0xzz", None, 7.5, {}, [{}], "0x" + "ff" * 40])
def test_answers_that_are_something_else_are_named_by_whatever_is_asked(
    chain: Chain, anvil: str, accounts: list[LocalAccount], value: object
) -> None:
    """A program that runs for long asks again later; anything but a ChainError would end it."""
    lies = threading.Event()

    def behave(_method: str, ask: Callable[[], bytes]) -> Answer:
        if not lies.is_set():
            return 200, ask()
        return 200, json.dumps({**json.loads(ask()), "error": None, "result": value}).encode()

    with proxy(anvil, behave) as url:
        there = Chain(url, chain.deployment)
        account = accounts[7]
        sender = Sender(there, account, patience=0.5)
        lies.set()
        asked: list[Callable[[], object]] = [
            there.block_number,
            there.tip,
            lambda: there.block_hash(1),
            there.timestamp,
            lambda: there.balance(account.address),
            there.fees,
            there.gas_price,
            lambda: there.receipt(bytes(32)),
            lambda: there.knows(bytes(32)),
            lambda: there.mined_at(account.address, 0, 2),
            lambda: there.token.balance(account.address),
            lambda: there.channels.state(bytes(32)),
            there.channels.settle_cost,
            lambda: there.channels.events_for(account.address, 0, tip=(2, bytes(32))),
            lambda: sender.transact("to send coin", account.address, "0x", 1),
        ]
        for ask in asked:
            with suppress(ChainError):
                ask()


@pytest.mark.parametrize(
    ("bound", "size", "words"),
    [("MOST_BYTES", 100, "more than 100 bytes"), ("WHOLE_SECONDS", 0.0, "more than 0 s")],
)
@pytest.mark.usefixtures("hurry")
def test_an_answer_without_end_is_left(
    anvil: str, monkeypatch: pytest.MonkeyPatch, bound: str, size: float, words: str
) -> None:
    monkeypatch.setattr(posting, bound, size)
    with (
        proxy(anvil, lambda _method, _ask: (200, b" " * 200)) as url,
        pytest.raises(NodeUnreachable, match=words),
    ):
        Rpc(url)


@pytest.mark.parametrize(
    "url", ["", "localhost:8545", "ws://127.0.0.1:8545", "http://", "nonsense", "http://[::1"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(NodeUnreachable, match="HC_RPC_URL"):
        Rpc(url)


SECRETS = ["alice", "hunter2hunter2", "k3y-in-the-path", "t0ken-in-query"]
SECRET_URL = "http://alice:hunter2hunter2@127.0.0.1:{port}/v3/k3y-in-the-path?token=t0ken-in-query"


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "answer", [(429, b""), (401, b""), (200, b"<html>"), (500, b""), None, "refused", "other chain"]
)
def test_m1_secrets_of_a_url_are_never_printed(
    anvil: str, answer: Answer | str, caplog: pytest.LogCaptureFixture
) -> None:
    """M1: neither in messages nor in the log, its debugging lines and tracebacks included."""
    formatter = RedactingFormatter()
    with (
        caplog.at_level(logging.DEBUG),
        proxy(anvil, lambda _method, ask: answer if not isinstance(answer, str) else (200, ask())) as real,
    ):
        port = "9" if answer == "refused" else real.rpartition(":")[2]
        url = SECRET_URL.format(port=port)
        with pytest.raises(ChainError) as told:
            Rpc(url, chain_id=1)
        logging.getLogger("test").error("at %s", url, exc_info=told.value)
    said = str(told.value) + "".join(formatter.format(record) for record in caplog.records)
    assert f"http://127.0.0.1:{port}" in str(told.value)
    assert "at http" in said
    assert not [secret for secret in SECRETS if secret in said]


def test_m1_the_ledgers_password_is_never_printed() -> None:
    """M1: the same for HC_LEDGER_URL."""
    for url in (
        "postgresql+psycopg://bob:swordfish99@127.0.0.1:9/x",
        "nonsense://bob:swordfish99@h/x",
        "bob:swordfish99@h",
    ):
        with pytest.raises(LedgerError) as told:
            Ledger(url)
        assert "swordfish99" not in str(told.value)


def test_what_may_be_shown_of_a_url() -> None:
    assert place("https://u:p@rpc.example.org/v3/key?x=1") == "https://rpc.example.org/…"
    assert place("http://127.0.0.1:8545") == place("http://127.0.0.1:8545/") == "http://127.0.0.1:8545"
    hide("https://me:pw@rpc.example.org/abc")
    assert (
        redact("https://me:pw@rpc.example.org/abc and abc, me, pw")
        == "https://…@rpc.example.org/abc and abc, me, pw"
    )


class Ending:
    """What a way to the chain does until it is told to be well, and how often it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.ill, self.asked = answer, True, 0

    def __call__(self, _method: str, ask: Callable[[], bytes]) -> Answer:
        self.asked += 1
        return self.answer if self.ill else (200, ask())


@pytest.mark.parametrize(
    "answer", [None, (500, b"oops"), (401, b"who are you"), (429, b"slow"), (200, b"<html>")]
)
def test_another_node_takes_over(chain: Chain, accounts: list[LocalAccount], answer: Answer) -> None:
    """Reads go on at the next URL at once, transactions count once, and the node that answers is kept."""
    first, to = Ending(answer), accounts[6].address
    with proxy(chain.url, first) as one, proxy(chain.url, lambda _method, ask: (200, ask())) as other:
        there = Chain(f"{one}, {other}", chain.deployment)
        assert there.place == other
        asked = first.asked
        before = there.balance(to)
        Sender(there, accounts[5]).transact("to send coin", to, "0x", 7)
        assert there.balance(to) == before + 7
        assert first.asked == asked == 1


def test_a_node_of_another_chain_does_not_take_over(chain: Chain) -> None:
    def elsewhere(method: str, ask: Callable[[], bytes]) -> Answer:
        if method == "eth_chainId":
            return 200, json.dumps({"jsonrpc": "2.0", "id": 1, "result": "0x1"}).encode()
        return 200, ask()

    first = Ending((500, b"oops"))
    first.ill = False
    with proxy(chain.url, first) as one, proxy(chain.url, elsewhere) as other:
        there = Chain(f"{one},{other}", chain.deployment)
        first.ill = True
        with pytest.raises(NodeUnreachable):
            there.block_number()
        first.ill = False
        assert there.block_number() == chain.block_number()


def test_secrets_of_several_urls_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NodeUnreachable) as told:
        Rpc("http://user:hunter22@127.0.0.1:9/keykeykey,http://127.0.0.1:9/otherkey")
    for said in (str(told.value), caplog.text):
        assert not any(secret in said for secret in ("hunter22", "keykeykey", "otherkey"))


def test_the_proxy_and_the_password_of_the_environment_are_used(
    chain: Chain, anvil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def behave(method: str, ask: Callable[[], bytes]) -> Answer:
        asked.append(method)
        return 200, ask()

    (tmp_path / "netrc").write_text("machine node.invalid login us password secret")
    seen: list[str] = []
    with proxy(anvil, behave, on_headers=lambda headers: seen.append(headers["Authorization"] or "")) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        there = Rpc("http://node.invalid")
        assert there.tip() == chain.tip()
    assert asked == ["eth_chainId", "eth_getBlockByNumber"]
    assert seen == ["Basic " + b64encode(b"us:secret").decode()] * 2
