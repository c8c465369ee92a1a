"""Whatever a client sends: its coded error or a closed stream; the provider and its other sessions go on."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import coincurve
import numpy as np
import pytest
import trio
from eth_account import Account as Accounts

from hypercluster.market.chain import LOCAL_TERMS, Chain, Sender, deploy
from hypercluster.market.money.claiming import ClaimRule
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain, channel_salt, charge
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.exchanging import HopFailed
from hypercluster.node.client.hop import Hop
from hypercluster.node.engine import reference
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import dial_steps
from hypercluster.node.network.swarm import HostLimits
from hypercluster.node.provider import process
from hypercluster.node.provider import sessions as session
from hypercluster.node.rows import TopK, WireDtype, pack_tokens
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.testnet.faucet import give
from hypercluster.node.wire import wire_pb2
from hypercluster.node.wire.bounds import frame_bound
from hypercluster.node.wire.codec import Message, decode, encode
from hypercluster.node.wire.framing import Frames, encode_length
from hypercluster.node.wire.messages import Accept, Close, Error, Open, Step, StepResult
from tests.node.helpers.providers import (
    FREE,
    PRICE,
    PROMPT_PRICE,
    Served,
    Wallet,
    new_wallet,
    opening,
    raw_stream,
    running_provider,
)

KINDS = pytest.mark.parametrize("direct", [True, False], ids=["direct", "stream"])
PROMPT = [72, 101, 108, 108]
PAID = charge(PRICE, PROMPT_PRICE, len(PROMPT))
STEP_TOKENS = 32
SESSION_TOKENS = 200
BOUND = 20.0
"""seconds within which anything must have been answered, on a slow machine too"""


@dataclass(eq=False)
class World:
    """Two providers, one that takes tokens and one that takes activations; wallets; what is right."""

    head: Served
    middle: Served
    chain: Chain
    wallet: Wallet
    other: Wallet
    settler: Sender
    greedy: list[int]
    rows: np.ndarray[Any, Any]

    def payload(self, served: Served, rows: int, at: int = 0) -> dict[str, Any]:
        """The fields of a Step that carry `rows` good rows from position `at` on."""
        if served is self.head:
            tokens = [*PROMPT, *self.greedy][at : at + rows]
            return {"rows": rows, "input": pack_tokens(np.array(tokens, np.int32))}
        return {"rows": rows, "input": self.rows[at : at + rows].tobytes()}


@pytest.fixture(scope="module")
def world(
    chain: Chain, stored_tiny: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("providers")
    terms: dict[str, Any] = {
        "sessions": 3,
        "session_tokens": SESSION_TOKENS,
        "step_tokens": STEP_TOKENS,
        "watch_seconds": 0.3,
    }
    terms |= {"idle_seconds": 2.0, "frame_seconds": 1.5, "claim_seconds": 3600.0}
    # What is owed here is not worth its gas.
    terms |= {"claim": ClaimRule(multiple=0)}
    assert stored_tiny.source
    greedy = reference.generate(stored_tiny.source, PROMPT, SESSION_TOKENS - len(PROMPT), threads=1)
    settler = Accounts.create()
    give(chain, settler.address, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "OPEN_SECONDS", 1.5)
        impatient = partial(running_host, limits=HostLimits(handshake_seconds=3.0))
        patch.setattr(process, "running_host", impatient)
        with (
            running_provider(chain, stored_tiny, folder / "head", (0, 4), **terms) as head,
            running_provider(chain, stored_tiny, folder / "middle", (1, 3), **terms) as middle,
        ):
            yield World(
                head=head,
                middle=middle,
                chain=chain,
                wallet=new_wallet(chain),
                other=new_wallet(chain),
                settler=Sender(chain, settler),
                greedy=[int(token) for token in greedy.ids],
                rows=np.random.default_rng(1).standard_normal((200, 64), dtype=np.float32),
            )


@pytest.fixture(autouse=True)
def unharmed(world: World) -> Iterator[None]:
    """Whatever a test did, both providers live and no session of theirs is left open."""
    yield
    for served in (world.head, world.middle):
        assert served.thread.is_alive()

    async def emptied() -> None:
        with trio.fail_after(BOUND):
            while world.head.open_sessions or world.middle.open_sessions:
                await trio.sleep(0.02)

    trio.run(emptied)


def test_o8_an_advert_says_what_a_session_may_hold(world: World) -> None:
    """O8: the one effective limit is advertised, the largest top_k too, and both speeds."""
    for served, top_k in ((world.head, 1024), (world.middle, 0)):
        advert = served.advert
        assert advert.session_tokens == SESSION_TOKENS
        assert advert.max_top_k == min(top_k, served.provider.manifest.n_vocab)
        assert 0 < advert.prompt_ms < 1e4
        assert 0 < advert.cost_ms < 1e4


@asynccontextmanager
async def client(wallet: Wallet) -> AsyncIterator[Host]:
    async with running_host(wallet.session_key) as host:
        yield host


@asynccontextmanager
async def bystander(world: World) -> AsyncIterator[None]:
    """An honest session goes on all the time, and what it gets is what the unsplit model says."""
    account = world.other.channel(world.head)
    done = trio.Event()
    taken: list[int] = []

    async def work(host: Host) -> None:
        hop = await open_hop(host, world.head, account, direct=True)
        pending = PROMPT
        while not done.is_set() or len(taken) < 5:
            if len(PROMPT) + len(taken) >= SESSION_TOKENS:
                await done.wait()  # a slow test outlasts the session: its tokens are all there
                break
            answer = await hop.step(pending, len(pending))
            assert isinstance(answer, TopK)
            taken.append(int(answer.ids[0, 0]))
            pending = [taken[-1]]
            await trio.sleep(0.05)
        await hop.close()

    async with client(world.other) as host, trio.open_nursery() as nursery:
        nursery.start_soon(work, host)
        while not taken:
            await trio.sleep(0.01)
        yield
        done.set()
    assert taken == world.greedy[: len(taken)]
    assert world.head.row(account).billed == PAID + PRICE * (len(taken) - 1)


async def open_hop(host: Host, served: Served, account: OutgoingAccount, *, direct: bool) -> Hop:
    connection = await dial_steps(host, served.advert, direct=direct)
    assert connection.direct == direct
    return await Hop.open(
        connection,
        served.advert,
        account,
        wire_dtype=WireDtype.F32,
        capacity=SESSION_TOKENS,
        top_k=8,
        n_vocab=320,
        is_last=served.advert.layer_stop == 4,
        domain=served.chain.disputes.domain,
        spending=FREE,
    )


@asynccontextmanager
async def connected(host: Host, served: Served, direct: bool) -> AsyncIterator[Connection]:
    connection = await dial_steps(host, served.advert, direct=direct)
    assert connection.direct == direct
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


async def tell(connection: Connection, body: bytes) -> None:
    """Send a frame that no Message object could hold."""
    await connection._stream.write(encode_length(len(body)) + body)


async def refusal(connection: Connection) -> Error:
    """The coded error, after which the provider must close the connection."""
    with trio.fail_after(BOUND):
        answer = await connection.receive(BOUND)
        assert isinstance(answer, Error), answer
        with pytest.raises(ConnectionLost):
            await connection.receive(BOUND)
    assert answer.message.endswith(".")
    return answer


async def accepted(connection: Connection, message: Open) -> Accept:
    await connection.send(message)
    answer = await connection.receive(BOUND)
    assert isinstance(answer, Accept), answer
    connection.raise_bound(frame_bound(answer.max_step_tokens, answer.width, 8))
    return answer


async def good_step(
    world: World, served: Served, account: OutgoingAccount, at: int = 0, rows: int = 4
) -> Step:
    """The next good step at position `at`, paid for."""
    cumulative, signature = account.authorise(charge(PRICE, PROMPT_PRICE, rows), FREE)
    return Step(
        seq=1 if at else 0,
        position=at,
        cumulative_wei=cumulative,
        signature=signature,
        **world.payload(served, rows, at),
    )


def signed(
    account: OutgoingAccount, cumulative: int, key: bytes = b"", channel_id: bytes = b""
) -> dict[str, Any]:
    """The fields of a Step that hold a voucher."""
    signer = coincurve.PrivateKey(key) if key else account.session_key
    signature = account.domain.sign(signer, channel_id or account.channel_id, cumulative)
    return {"cumulative_wei": cumulative, "signature": signature}


def edited(step: Step, **fields: Any) -> bytes:
    """The step as bytes, with protobuf fields that Step would refuse."""
    frame = wire_pb2.Frame.FromString(encode(step))
    for name, value in fields.items():
        setattr(frame.step, name, value)
    return frame.SerializeToString()


def foreign_domain(account: OutgoingAccount) -> VoucherDomain:
    return VoucherDomain("0x" + "12" * 20, account.domain.chain_id)


def other_chain(account: OutgoingAccount) -> VoucherDomain:
    return VoucherDomain(account.domain.contract, 1)


# Each makes a bad second step out of a good one of one row.
BAD_STEPS: dict[str, tuple[str, ErrorCode, Callable[[Step, OutgoingAccount, World], bytes]]] = {
    "wrong signature": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(replace(s, signature=bytes(63) + b"\1")),
    ),
    "malleable signature": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(replace(s, signature=b"\xff" * 64)),
    ),
    "signed by another key": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(replace(s, **signed(a, s.cumulative_wei, secrets.token_bytes(32)))),
    ),
    "voucher of another channel": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(replace(s, **signed(a, s.cumulative_wei, channel_id=secrets.token_bytes(32)))),
    ),
    "voucher for another contract": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(
            replace(s, signature=foreign_domain(a).sign(a.session_key, a.channel_id, s.cumulative_wei))
        ),
    ),
    "voucher for another chain": (
        "head",
        ErrorCode.BAD_SIGNATURE,
        lambda s, a, w: encode(
            replace(s, signature=other_chain(a).sign(a.session_key, a.channel_id, s.cumulative_wei))
        ),
    ),
    "one wei too low": (
        "head",
        ErrorCode.VOUCHER_TOO_LOW,
        lambda s, a, w: encode(replace(s, **signed(a, s.cumulative_wei - 1))),
    ),
    "the same voucher again": (
        "head",
        ErrorCode.VOUCHER_TOO_LOW,
        lambda s, a, w: encode(replace(s, **signed(a, PAID))),
    ),
    "no voucher": (
        "head",
        ErrorCode.BAD_REQUEST,
        lambda s, a, w: edited(s, signature=b"", cumulative_wei=b""),
    ),
    "above the deposit": (
        "head",
        ErrorCode.OVER_DEPOSIT,
        lambda s, a, w: encode(replace(s, **signed(a, HCT + 1))),
    ),
    "above a uint96": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: edited(s, cumulative_wei=b"\xff" * 13)),
    "position ahead": (
        "head",
        ErrorCode.OUT_OF_ORDER,
        lambda s, a, w: encode(replace(s, position=s.position + 1)),
    ),
    "seq ahead": ("head", ErrorCode.OUT_OF_ORDER, lambda s, a, w: encode(replace(s, seq=2))),
    "seq again": ("head", ErrorCode.OUT_OF_ORDER, lambda s, a, w: encode(replace(s, seq=0))),
    "too many rows": (
        "head",
        ErrorCode.TOO_LONG,
        lambda s, a, w: encode(
            replace(s, **w.payload(w.head, STEP_TOKENS + 1, 4), **signed(a, PAID + 33 * PROMPT_PRICE))
        ),
    ),
    "token outside of the vocabulary": (
        "head",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, input=pack_tokens(np.array([320], np.int32)))),
    ),
    "token beyond int32": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: edited(s, input=b"\xff" * 4)),
    "fewer tokens than rows": ("head", ErrorCode.BAD_SHAPE, lambda s, a, w: edited(s, rows=2)),
    "no input": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: edited(s, input=b"")),
    "no rows": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: edited(s, rows=0)),
    "activations for the first stage": (
        "head",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, **w.payload(w.middle, 1))),
    ),
    "tokens for a later stage": (
        "middle",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, **w.payload(w.head, 1))),
    ),
    "NaN": (
        "middle",
        ErrorCode.NOT_FINITE,
        lambda s, a, w: encode(replace(s, input=np.full(64, np.nan, "<f4").tobytes())),
    ),
    "infinity": (
        "middle",
        ErrorCode.NOT_FINITE,
        lambda s, a, w: encode(replace(s, input=np.full(64, -np.inf, "<f4").tobytes())),
    ),
    "absurdly large": (
        "middle",
        ErrorCode.NOT_FINITE,
        lambda s, a, w: encode(replace(s, input=np.full(64, 1e30, "<f4").tobytes())),
    ),
    "too narrow": (
        "middle",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, input=s.input[:-4])),
    ),
    "too wide": (
        "middle",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, input=s.input + bytes(4))),
    ),
    "the other dtype": (
        "middle",
        ErrorCode.BAD_SHAPE,
        lambda s, a, w: encode(replace(s, input=w.rows[4:5].astype("<f2").tobytes())),
    ),
    "Open again": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: encode(opening(w.head.advert, a))),
    "a provider's message": (
        "head",
        ErrorCode.BAD_REQUEST,
        lambda s, a, w: encode(Error(ErrorCode.INTERNAL, "No.")),
    ),
    "an empty frame": ("head", ErrorCode.UNSUPPORTED_VERSION, lambda s, a, w: b""),
    "no protobuf": ("head", ErrorCode.BAD_REQUEST, lambda s, a, w: b"\xff" * 40),
}


@KINDS
@pytest.mark.parametrize("case", BAD_STEPS)
async def test_a_bad_step_is_refused_and_not_billed(world: World, case: str, direct: bool) -> None:
    name, code, make = BAD_STEPS[case]
    served: Served = getattr(world, name)
    account = world.wallet.channel(served)
    async with client(world.wallet) as host, bystander(world):
        async with connected(host, served, direct) as connection:
            await accepted(connection, opening(served.advert, account))
            await connection.send(await good_step(world, served, account))
            answer = await connection.receive(BOUND)
            assert isinstance(answer, StepResult)
            assert answer.billed_wei == PAID
            account.acknowledge(PAID, answer.billed_wei, FREE)
            bad = make(await good_step(world, served, account, 4, 1), account, world)
            await tell(connection, bad)
            error = await refusal(connection)
            account.release(PRICE, FREE)
        assert (error.code, error.billed_wei) == (code, PAID), error.message
        row = served.row(account)
        assert (row.best, row.billed) == (PAID, PAID)
        # With the credit of the refused step the work goes on in a new session.
        hop = await open_hop(host, served, account, direct=direct)
        assert account.channel.spent == PAID
        outputs = await hop.step(PROMPT if served is world.head else world.payload(served, 4)["input"], 4)
        if isinstance(outputs, TopK):
            assert outputs.ids[0, 0] == world.greedy[0]
        await hop.close()
    # All of it can be claimed.
    row = served.row(account)
    assert row.billed == 2 * PAID <= row.best <= account.channel.signed
    claim = account.descriptor, row.best, row.signature
    world.chain.channels.settle(world.settler, *claim)
    assert world.chain.channels.state(account.channel_id).settled == row.best


@KINDS
async def test_a_step_beyond_the_capacity_is_refused(world: World, direct: bool) -> None:
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await accepted(c, opening(world.head.advert, account, capacity=5))
        await c.send(await good_step(world, world.head, account))
        answer = await c.receive(BOUND)
        assert isinstance(answer, StepResult)
        account.acknowledge(PAID, answer.billed_wei, FREE)
        await c.send(await good_step(world, world.head, account, 4, 2))
        error = await refusal(c)
    assert (error.code, error.billed_wei) == (ErrorCode.TOO_LONG, PAID)
    assert world.head.row(account).billed == PAID


BAD_OPENINGS: dict[str, tuple[ErrorCode, dict[str, Any]]] = {
    "wrong model": (ErrorCode.WRONG_MODEL, {"model_id": "ab" * 32}),
    "wrong first layer": (ErrorCode.WRONG_RANGE, {"layer_start": 1}),
    "wrong last layer": (ErrorCode.WRONG_RANGE, {"layer_stop": 3}),
    "price too low": (ErrorCode.PRICE_TOO_LOW, {"max_price_wei": PRICE - 1}),
    "prompt price too low": (ErrorCode.PRICE_TOO_LOW, {"max_prompt_price_wei": PROMPT_PRICE - 1}),
    "no candidates": (ErrorCode.BAD_REQUEST, {"top_k": 0}),
    "too many candidates": (ErrorCode.BAD_REQUEST, {"top_k": 2000}),
    "longer than any session": (ErrorCode.TOO_LONG, {"capacity": 201}),
}


@KINDS
@pytest.mark.parametrize("case", BAD_OPENINGS)
async def test_a_bad_opening_is_refused(world: World, case: str, direct: bool) -> None:
    code, changes = BAD_OPENINGS[case]
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, account, **changes))
        assert (await refusal(c)).code is code


@KINDS
async def test_a_channel_that_nobody_opened_is_refused(world: World, direct: bool) -> None:
    account = world.wallet.channel(world.head)
    salt = channel_salt(address_of_peer(world.head.advert.peer), 1)
    never = world.wallet.account(replace(account.descriptor, salt=salt))
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, never))
        assert (await refusal(c)).code is ErrorCode.UNKNOWN_CHANNEL


@KINDS
async def test_a_channel_for_another_node_of_the_operator_is_refused(world: World, direct: bool) -> None:
    account = world.wallet.channel(world.head)
    salt = channel_salt(address_of_peer(world.middle.advert.peer), 1)
    other = world.wallet.account(replace(account.descriptor, salt=salt))
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, other))
        assert (await refusal(c)).code is ErrorCode.FOREIGN_CHANNEL


@KINDS
async def test_a_channel_to_another_payee_is_refused(world: World, direct: bool) -> None:
    account = world.wallet.channel(world.middle)
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, account))
        assert (await refusal(c)).code is ErrorCode.FOREIGN_CHANNEL


@KINDS
async def test_a_channel_of_another_contract_is_refused(
    world: World, anvil: str, accounts: list[Any], direct: bool
) -> None:
    elsewhere = Chain(
        anvil, deploy(anvil, accounts[0], grace_seconds=60, unbonding_seconds=400, terms=LOCAL_TERMS)
    )
    wallet = new_wallet(elsewhere, 2 * HCT)
    account = wallet.channel(world.head)
    async with client(wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, account))
        assert (await refusal(c)).code is ErrorCode.UNKNOWN_CHANNEL


@KINDS
async def test_a_channel_signed_for_by_somebody_else_than_the_peer_is_refused(
    world: World, direct: bool
) -> None:
    account = world.wallet.channel(world.head)
    thief = replace(world.wallet, session_key=secrets.token_bytes(32))
    async with client(thief) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(opening(world.head.advert, account))
        assert (await refusal(c)).code is ErrorCode.FOREIGN_CHANNEL


@KINDS
async def test_a_channel_that_closes_is_claimed_at_once_and_serves_no_more(
    world: World, direct: bool
) -> None:
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world):
        hop = await open_hop(host, world.head, account, direct=direct)
        await hop.step(PROMPT, 4)
        await trio.to_thread.run_sync(
            world.chain.channels.request_close, world.wallet.sender, account.descriptor
        )
        with trio.fail_after(BOUND):
            while world.chain.channels.state(account.channel_id).settled != PAID:
                await trio.sleep(0.1)
        with pytest.raises(HopFailed) as failed:
            await hop.step([world.greedy[0]], 1)
        assert failed.value.code is ErrorCode.CHANNEL_CLOSING
        await hop.close()
        async with connected(host, world.head, direct) as c:
            await c.send(opening(world.head.advert, account))
            assert (await refusal(c)).code is ErrorCode.CHANNEL_CLOSING
        # Whoever changes his mind tops up, and is welcome again.
        await trio.to_thread.run_sync(
            world.chain.channels.top_up, world.wallet.sender, account.descriptor, HCT
        )
        account.channel.topped_up(2 * HCT)
        hop = await open_hop(host, world.head, account, direct=direct)
        await hop.step(PROMPT, 4)
        await hop.close()


@KINDS
async def test_a_full_engine_says_so(world: World, direct: bool) -> None:
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world):
        held = [await open_hop(host, world.head, account, direct=direct) for _ in range(2)]
        async with connected(host, world.head, direct) as c:
            await c.send(opening(world.head.advert, account))
            assert (await refusal(c)).code is ErrorCode.FULL
        # Both sessions share one channel and are none the worse for it.
        for hop in held:
            answer = await hop.step(PROMPT, 4)
            assert isinstance(answer, TopK)
            assert answer.ids[0, 0] == world.greedy[0]
            await hop.close()
        assert world.head.row(account).billed == 2 * PAID


@KINDS
@pytest.mark.parametrize("first", ["step", "close", "result"])
async def test_a_message_before_open_is_refused(world: World, first: str, direct: bool) -> None:
    account = world.wallet.channel(world.head)
    messages: dict[str, Message] = {
        "step": await good_step(world, world.head, account),
        "close": Close(),
        "result": Error(ErrorCode.INTERNAL, "No."),
    }
    async with client(world.wallet) as host, bystander(world), connected(host, world.head, direct) as c:
        await c.send(messages[first])
        assert (await refusal(c)).code is ErrorCode.UNKNOWN_SESSION


# --- bytes that are no messages ----------------------------------------------------------------------------

GARBAGE: dict[str, tuple[bytes, ErrorCode]] = {
    "a frame of 4 GiB": (encode_length(2**32), ErrorCode.TOO_LONG),
    "a frame just too long": (encode_length(65_537), ErrorCode.TOO_LONG),
    "an endless length": (b"\xff" * 64, ErrorCode.BAD_REQUEST),
    "a length that is not minimal": (b"\x81\x00" + b"x", ErrorCode.BAD_REQUEST),
    "noise": (encode_length(300) + bytes(range(1, 251)) + b"\xff" * 50, ErrorCode.BAD_REQUEST),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"A" * 100, ErrorCode.BAD_REQUEST),
}


async def answers(stream: Any) -> Error:
    """The one message that a raw stream brings before its end."""
    frames = Frames(stream)
    with trio.fail_after(BOUND):
        message = decode(await frames.receive(BOUND))
        with pytest.raises(ConnectionLost):
            await frames.receive(BOUND)
    assert isinstance(message, Error)
    return message


@KINDS
@pytest.mark.parametrize("case", GARBAGE)
@pytest.mark.parametrize("opened", [False, True], ids=["at once", "in a session"])
async def test_garbage_ends_the_connection(world: World, case: str, opened: bool, direct: bool) -> None:
    data, code = GARBAGE[case]
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world):
        stream = await raw_stream(host, world.head.advert, direct)
        frames = Frames(stream)
        if opened:
            body = encode(opening(world.head.advert, account))
            await frames.send(body)
            assert isinstance(decode(await frames.receive(BOUND)), Accept)
        await stream.write(data)
        assert (await answers(stream)).code is code
        await stream.close()


@KINDS
@pytest.mark.parametrize("opened", [False, True], ids=["at once", "in a session"])
@pytest.mark.parametrize("slow", [False, True], ids=["nothing", "byte by byte"])
async def test_who_is_slow_or_silent_is_shown_the_door(
    world: World, slow: bool, opened: bool, direct: bool
) -> None:
    account = world.wallet.channel(world.head)
    body = encode(opening(world.head.advert, account))
    async with client(world.wallet) as host, bystander(world):
        stream = await raw_stream(host, world.head.advert, direct)
        frames = Frames(stream)
        if opened:
            await frames.send(body)
            assert isinstance(decode(await frames.receive(BOUND)), Accept)

        async def drip() -> None:
            for byte in encode_length(1000) + bytes(1000):
                try:
                    await stream.write(bytes([byte]))
                except ConnectionLost:
                    return
                await trio.sleep(0.2)

        async with trio.open_nursery() as nursery:
            if slow:
                nursery.start_soon(drip)
            assert (await answers(stream)).code is ErrorCode.TIMEOUT
            nursery.cancel_scope.cancel()
        await stream.close()


@KINDS
async def test_who_never_reads_does_not_hold_a_session(world: World, direct: bool) -> None:
    """A client that hangs up in the middle of a step loses its session and nothing else."""
    account = world.wallet.channel(world.head)
    async with client(world.wallet) as host, bystander(world):
        # Whether a step that is hung up on is read at all is a race; this one is.
        hop = await open_hop(host, world.head, account, direct=direct)
        await hop.step(PROMPT, 4)
        await hop.close()
        for _ in range(5):  # more than there are sessions
            stream = await raw_stream(host, world.head.advert, direct)
            frames = Frames(stream)
            await frames.send(encode(opening(world.head.advert, account)))
            accept = decode(await frames.receive(BOUND))
            if isinstance(accept, Error):  # the one before has not been noticed yet
                assert accept.code is ErrorCode.FULL
                continue
            assert isinstance(accept, Accept)
            account.resume(accept.billed_wei, accept.paid_wei, accept.paid_signature)
            await frames.send(encode(await good_step(world, world.head, account)))
            account.release(PAID, FREE)
            if direct:
                await trio.aclose_forcefully(stream._socket)
            else:
                await stream.reset()
    row = world.head.row(account)
    assert row.best >= row.billed >= PAID
    assert row.billed % PAID == 0


async def test_strangers_without_a_handshake_do_no_harm(world: World) -> None:
    ports = [address.split("/")[4] for address in (world.head.advert.addrs[0], world.head.advert.direct)]

    async def disturb(port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(secrets.token_bytes(70_000))
        with trio.fail_after(BOUND):
            try:
                while await stream.receive_some(1000):
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()

    async with bystander(world), trio.open_nursery() as strangers:
        for port in ports:
            strangers.start_soon(disturb, int(port))


def test_a_channel_is_told_from_its_like_by_its_contract(world: World) -> None:
    """The same descriptor on another contract is another channel."""
    descriptor = ChannelDescriptor(
        world.wallet.sender.address, world.head.operator, "0x" + "11" * 20, bytes(32)
    )
    here = world.chain.channels.domain
    assert here.channel_id(descriptor) != VoucherDomain("0x" + "12" * 20, here.chain_id).channel_id(
        descriptor
    )
