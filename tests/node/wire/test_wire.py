"""Messages keep their content over the wire, and nothing out of bounds gets in or out."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.advert import Advert
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import TopK, WireDtype, pack_activations, unpack_activations
from hypercluster.node.wire import messages as wire
from hypercluster.node.wire import wire_pb2 as pb
from hypercluster.node.wire.messages import Accept, Close, Error, Open, SignedAdvert, Step, StepResult

ROOT = Path(__file__).resolve().parents[3]

CHANNEL = ChannelDescriptor(
    payer="0x" + "11" * 20, payee="0x" + "22" * 20, signer="0x" + "33" * 20, salt=b"s" * 32
)
OPEN = Open(
    session=b"0123456789abcdef",
    model_id="ab" * 32,
    layer_start=3,
    layer_stop=6,
    channel=CHANNEL,
    wire_dtype=WireDtype.F16,
    capacity=4096,
    max_price_wei=10**15,
    max_prompt_price_wei=10**14,
    top_k=40,
)
ACCEPT = Accept(
    price_wei=5,
    prompt_price_wei=2,
    capacity=1024,
    expires=1_800_000_000,
    quote_signature=b"q" * 64,
    paid_wei=7,
    paid_signature=b"p" * 64,
    billed_wei=6,
    max_step_tokens=512,
    n_embd=2048,
    nonce=b"n" * 16,
    profile='{"kv":"f16"}',
)
ADVERT = Advert(
    peer="16Uiu2HAm7Y9qM7zXPuhdPfMHFGVEB1DcaVQSqZVqHuBCBJx8VkNW",
    model_id="cd" * 32,
    layer_start=0,
    layer_stop=4,
    price_wei=123456789012345678,
    prompt_price_wei=0,
    cost_ms=1.25,
    prompt_ms=0.25,
    operator="0x" + "44" * 20,
    capacity=4,
    free=3,
    session_tokens=4096,
    max_top_k=1024,
    sequence=9,
    issued=1_700_000_000,
    expires=1_700_000_090,
    n_embd=64,
    addrs=("/ip4/127.0.0.1/tcp/4001",),
    direct="/ip4/127.0.0.1/tcp/4002",
    wire_dtypes=("f32", "f16"),
    features=("rewind", "something-of-tomorrow"),
)


@pytest.mark.parametrize(
    "message",
    [OPEN, ACCEPT, replace(ACCEPT, paid_wei=0, paid_signature=b""), Close(), SignedAdvert(b"body", b"s" * 64)]
    + [Error(code, "No.", 12) for code in ErrorCode],
)
def test_round_trip(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**96 - 1),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50),
)
def test_token_step_round_trip(seq: int, cumulative: int, tokens: list[int]) -> None:
    sent = Step(seq, 17, len(tokens), cumulative, b"v" * 64, np.array(tokens, np.int32), all_outputs=True)
    got = wire.decode(wire.encode(sent))
    assert isinstance(got, Step)
    assert (got.seq, got.position, got.cumulative_wei, got.all_outputs) == (seq, 17, cumulative, True)
    assert got.tokens is not None
    assert got.tokens.tolist() == tokens


def result(seq: int, rows: int, billed: int, compute_ms: float, topk: TopK) -> StepResult:
    return StepResult(
        seq=seq,
        rows=rows,
        billed_wei=billed,
        compute_ms=compute_ms,
        topk=topk,
        issued=1_700_000_000,
        receipt=b"r" * 64,
    )


@pytest.mark.parametrize("dtype", list(WireDtype))
def test_activations_round_trip(dtype: WireDtype) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    sent = Step(1, 0, 3, 5, b"v" * 64, activations=pack_activations(rows, dtype))
    got = wire.decode(wire.encode(sent))
    assert isinstance(got, Step)
    array = unpack_activations(got.activations, got.rows, 64, dtype)
    assert array.dtype == np.float32
    if dtype is WireDtype.F32:
        assert np.array_equal(array, rows)
    else:
        assert np.array_equal(array, rows.astype(np.float16).astype(np.float32))


def test_f32_is_not_copied() -> None:
    data = pack_activations(np.ones((2, 8), np.float32), WireDtype.F32)
    assert unpack_activations(data, 2, 8, WireDtype.F32).base is not None


def test_topk_round_trip() -> None:
    topk = TopK(
        np.array([[5, 1], [2, 3]], np.int32), np.array([[1.5, -2], [3, 1]], np.float32), np.array([2.0, 4.0])
    )
    got = wire.decode(wire.encode(result(8, 2, 99, 1.5, topk)))
    assert isinstance(got, StepResult)
    assert got.topk is not None
    assert np.array_equal(got.topk.ids, topk.ids)
    assert np.array_equal(got.topk.logits, topk.logits)
    assert np.array_equal(got.topk.logsumexp, topk.logsumexp)
    assert (got.seq, got.billed_wei, got.compute_ms) == (8, 99, 1.5)
    assert (got.issued, got.receipt) == (1_700_000_000, b"r" * 64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", b"short"),
        ("layer_stop", 3),
        ("layer_stop", wire.MAX_LAYERS + 1),
        ("capacity", 0),
        ("max_price_wei", 2**96),
        ("max_price_wei", -1),
        ("top_k", wire.MAX_TOP_K + 1),
    ],
)
def test_open_out_of_bounds(field: str, value: Any) -> None:
    with pytest.raises(WireError) as caught:
        replace(OPEN, **{field: value})
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("session", lambda f: setattr(f.open, "session", b"")),
        ("model_id", lambda f: setattr(f.open, "model_id", b"x" * 31)),
        ("payer", lambda f: setattr(f.open.channel, "payer", b"")),
        ("salt", lambda f: setattr(f.open.channel, "salt", b"x" * 33)),
        ("max_price_wei", lambda f: setattr(f.open, "max_price", b"\1" * 13)),
        ("wire_dtype", lambda f: setattr(f.open, "wire_dtype", 0)),
        ("wire_dtype", lambda f: setattr(f.open, "wire_dtype", 77)),
        ("capacity", lambda f: setattr(f.open, "capacity", 2**32 - 1)),
        ("layer_start", lambda f: setattr(f.open, "layer_start", 2**32 - 1)),
    ],
)
def test_bytes_from_a_hostile_client(field: str, change: Any) -> None:
    frame = pb.Frame.FromString(wire.encode(OPEN))
    change(frame)
    with pytest.raises(WireError) as caught:
        wire.decode(frame.SerializeToString())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("tokens", lambda s: setattr(s, "rows", 0)),
        ("tokens", lambda s: setattr(s, "rows", 2)),
        ("tokens", lambda s: s.tokens.__setitem__(0, 2**31)),
        ("activations", lambda s: s.ClearField("tokens")),
        ("activations", lambda s: setattr(s, "activations", b"x")),
        ("signature", lambda s: setattr(s, "signature", b"x" * 65)),
        ("cumulative_wei", lambda s: setattr(s, "cumulative", b"x" * 13)),
        ("position", lambda s: setattr(s, "position", 2**32 - 1)),
    ],
)
def test_hostile_step(field: str, change: Any) -> None:
    frame = pb.Frame.FromString(wire.encode(Step(1, 0, 3, 5, b"v" * 64, np.array([1, 2, 3], np.int32))))
    change(frame.step)
    with pytest.raises(WireError) as caught:
        wire.decode(frame.SerializeToString())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("ids", lambda r: setattr(r.topk, "k", 2**31)),
        ("logsumexp", lambda r: setattr(r.topk, "logsumexp", b"")),
        ("topk", lambda r: setattr(r.topk, "ids", b"\xff" * 4)),
        ("topk", lambda r: setattr(r.topk, "logits", np.array([np.nan], "<f4").tobytes())),
        ("compute_ms", lambda r: setattr(r, "compute_ms", float("nan"))),
        ("activations", lambda r: r.ClearField("topk")),
    ],
)
def test_hostile_result(field: str, change: Any) -> None:
    topk = TopK(np.array([[5]], np.int32), np.array([[1.5]], np.float32), np.array([2.0]))
    frame = pb.Frame.FromString(wire.encode(result(1, 1, 3, 0.5, topk)))
    change(frame.result)
    with pytest.raises(WireError) as caught:
        wire.decode(frame.SerializeToString())
    assert caught.value.field == field


def test_a_provider_cannot_ask_for_huge_frames() -> None:
    with pytest.raises(WireError, match="64 MiB"):
        replace(ACCEPT, max_step_tokens=1 << 16, n_embd=1 << 16)


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error_or_a_message(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except WireError:
        return
    assert wire.decode(wire.encode(message)) is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_both_ways(bad: float) -> None:
    rows = np.array([[1.0, bad]], np.float32)
    with pytest.raises(WireError) as caught:
        pack_activations(rows, WireDtype.F32)
    assert caught.value.code is ErrorCode.NOT_FINITE
    with pytest.raises(WireError) as caught:
        unpack_activations(rows.tobytes(), 1, 2, WireDtype.F32)
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_too_large_for_f16_is_refused() -> None:
    with pytest.raises(WireError) as caught:
        pack_activations(np.array([[70000.0]], np.float32), WireDtype.F16)
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_wrong_shape_is_coded() -> None:
    with pytest.raises(WireError) as caught:
        unpack_activations(b"x" * 12, 1, 4, WireDtype.F32)
    assert caught.value.code is ErrorCode.BAD_SHAPE


def test_advert_round_trip() -> None:
    advert = wire.decode_advert(wire.encode_advert(ADVERT))
    assert replace(advert, operator=advert.operator.lower()) == ADVERT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peer", ""),
        ("layer_stop", 0),
        ("price_wei", 2**96),
        ("cost_ms", float("nan")),
        ("cost_ms", -1.0),
        ("free", 5),
        ("capacity", 0),
        ("expires", ADVERT.issued),
        ("addrs", ("a",) * 9),
        ("addrs", ("a" * 257,)),
        ("direct", "a" * 257),
        ("wire_dtypes", ()),
        ("wire_dtypes", ("q8",)),
        ("session_tokens", 0),
        ("max_top_k", 4097),
        ("prompt_ms", float("nan")),
        ("features", ("a",) * 17),
        ("features", ("",)),
        ("features", ("a" * 33,)),
    ],
)
def test_advert_out_of_bounds(field: str, value: Any) -> None:
    with pytest.raises(WireError):
        wire.encode_advert(replace(ADVERT, **{field: value}))


def test_generated_code_is_current(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate_wire", ROOT / "scripts/generate_wire.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path in script.generate(tmp_path):
        assert path.read_text() == (ROOT / path.relative_to(tmp_path)).read_text()
