"""Messages keep their content over the wire, and nothing out of bounds gets in or out."""

from __future__ import annotations

import contextlib
import importlib.util
import pkgutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.market.advert import Advert
from hypercluster.market.money.voucher import ChannelDescriptor
from hypercluster.market.trust import q8
from hypercluster.node import wire
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import (
    TopK,
    WireDtype,
    pack_activations,
    pack_topk,
    unpack_activations,
    unpack_input,
    unpack_residual,
    unpack_topk,
    with_tokens,
)
from hypercluster.node.wire import wire_pb2 as pb
from hypercluster.node.wire.adverts import RULES as ADVERT_RULES
from hypercluster.node.wire.adverts import decode_advert, encode_advert
from hypercluster.node.wire.bounds import RULES, Length, Range, message
from hypercluster.node.wire.codec import Message, decode, encode, plan_of
from hypercluster.node.wire.messages import Accept, Error, Open, Step, StepResult
from hypercluster.node.wire.records import served
from tests.node.helpers.messages import KINDS, beyond, messages

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
STEP = Step(seq=1, position=17, rows=3, cumulative_wei=5, signature=b"v" * 64, input=b"x" * 12)
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
    width=2048,
    nonce=b"n" * 16,
    profile='{"kv":"f16"}',
)
RESULT = StepResult(
    seq=1, rows=1, billed_wei=3, compute_ms=0.5, issued=1_700_000_000, receipt=b"r" * 64, output=b"x" * 16
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
    width=64,
    addrs=("/ip4/127.0.0.1/tcp/4001",),
    direct="/ip4/127.0.0.1/tcp/4002",
    wire_dtypes=("f32", "f16", "q8"),
    features=("rewind", "something-of-tomorrow"),
)

EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@EACH
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_message_comes_back_as_it_went(kind: type, data: st.DataObject) -> None:
    sent: Message = data.draw(messages(kind))
    assert decode(encode(sent)) == sent


@given(messages(Advert))
@settings(max_examples=50, deadline=None)
def test_every_advert_comes_back_as_it_went(advert: Advert) -> None:
    assert decode_advert(encode_advert(advert)) == advert


@EACH
@given(data=st.data())
@settings(max_examples=1, deadline=None)
def test_whatever_is_just_out_of_bounds_is_refused_by_name(kind: type, data: st.DataObject) -> None:
    good = data.draw(messages(kind))
    for field, hint in RULES[kind].hints.items():
        for value in beyond(hint):
            with pytest.raises(WireError) as caught:
                replace(good, **{field: value})
            assert caught.value.field == field
            assert field in str(caught.value)


@pytest.mark.parametrize("field", ADVERT_RULES.hints)
def test_an_advert_out_of_bounds_is_neither_signed_nor_read(field: str) -> None:
    assert beyond(ADVERT_RULES.hints[field])
    for value in beyond(ADVERT_RULES.hints[field]):
        with pytest.raises(WireError) as caught:
            encode_advert(replace(ADVERT, **{field: value}))
        assert caught.value.field in (field, "wire_dtype")


@pytest.mark.parametrize(
    ("field", "value"), [("free", 5), ("expires", ADVERT.issued), ("layer_stop", 0), ("layer_start", 4)]
)
def test_fields_of_an_advert_that_contradict_each_other(field: str, value: Any) -> None:
    with pytest.raises(WireError):
        encode_advert(replace(ADVERT, **{field: value}))


@EACH
def test_no_field_is_without_a_bound(kind: type) -> None:
    assert {field.name for field in fields(kind)} == RULES[kind].hints.keys()


@pytest.mark.parametrize(
    "hint", [int, float, str, bytes, tuple[str, ...], list[int], int | None, Annotated[int, "?"]]
)
def test_a_field_without_a_bound_cannot_be_defined(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"Loose\.size has no bound"):
        message(type("Loose", (), {"__annotations__": {"size": hint}, "__module__": __name__}))


def test_a_field_that_the_protobuf_does_not_have_cannot_be_defined() -> None:
    @message
    class Recall:
        stage_hash: Annotated[bytes, Length(32)]
        number: Annotated[int, Range(0, 1)]

    with pytest.raises(TypeError, match=r"number, seq"):
        plan_of(Recall, pb.Recall.DESCRIPTOR)


def test_no_model_id_is_no_open() -> None:
    with pytest.raises(WireError, match=r"model_id is 'zz', not 64 hex digits"):
        replace(OPEN, model_id="zz")


def test_an_error_message_is_cut_to_what_fits() -> None:
    assert len(Error.of(ErrorCode.INTERNAL, "x" * 1000).message) == 300


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_is_a_wire_error_or_a_message(data: bytes) -> None:
    try:
        found = decode(data)
    except WireError:
        return
    assert decode(encode(found)) == found


@EACH
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_damaged_message_is_a_wire_error_or_a_message(kind: type, data: st.DataObject) -> None:
    body = bytearray(encode(data.draw(messages(kind))))
    for _ in range(data.draw(st.integers(1, 4)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode(bytes(body[: data.draw(st.integers(0, len(body)))]))


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_is_no_advert(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_advert(data)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("session", lambda f: setattr(f.open, "session", b"")),
        ("model_id", lambda f: setattr(f.open, "model_id", b"x" * 31)),
        ("payer", lambda f: setattr(f.open.channel, "payer", b"")),
        ("salt", lambda f: setattr(f.open.channel, "salt", b"x" * 33)),
        ("channel", lambda f: f.open.ClearField("channel")),
        ("max_price_wei", lambda f: setattr(f.open, "max_price_wei", b"\1" * 13)),
        ("wire_dtype", lambda f: setattr(f.open, "wire_dtype", 0)),
        ("wire_dtype", lambda f: setattr(f.open, "wire_dtype", 77)),
        ("capacity", lambda f: setattr(f.open, "capacity", 2**32 - 1)),
        ("layer_start", lambda f: setattr(f.open, "layer_start", 2**32 - 1)),
        ("layer_stop", lambda f: setattr(f.open, "layer_stop", 3)),
    ],
)
def test_bytes_from_a_hostile_client(field: str, change: Any) -> None:
    frame = pb.Frame.FromString(encode(OPEN))
    change(frame)
    with pytest.raises(WireError) as caught:
        decode(frame.SerializeToString())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("rows", lambda s: setattr(s, "rows", 0)),
        ("rows", lambda s: setattr(s, "rows", 2**31)),
        ("input", lambda s: s.ClearField("input")),
        ("signature", lambda s: setattr(s, "signature", b"x" * 65)),
        ("cumulative_wei", lambda s: setattr(s, "cumulative_wei", b"x" * 13)),
        ("position", lambda s: setattr(s, "position", 2**32 - 1)),
    ],
)
def test_hostile_step(field: str, change: Any) -> None:
    frame = pb.Frame.FromString(encode(STEP))
    change(frame.step)
    with pytest.raises(WireError) as caught:
        decode(frame.SerializeToString())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("compute_ms", lambda r: setattr(r, "compute_ms", float("nan"))),
        ("waited_ms", lambda r: setattr(r, "waited_ms", -1.0)),
        ("output", lambda r: r.ClearField("output")),
        ("receipt", lambda r: setattr(r, "receipt", b"")),
    ],
)
def test_hostile_result(field: str, change: Any) -> None:
    frame = pb.Frame.FromString(encode(RESULT))
    change(frame.result)
    with pytest.raises(WireError) as caught:
        decode(frame.SerializeToString())
    assert caught.value.field == field


def test_fields_of_version_two_are_ignored() -> None:
    # number 3 of a step was its tokens, number 4 its activations
    old = encode(STEP)
    extended = pb.Frame.FromString(old)
    extended.step.MergeFromString(b"\x1a\x02\x05\x06\x22\x04abcd")
    assert decode(extended.SerializeToString()) == STEP


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"paid_wei": 0}, "paid_signature"),
        ({"paid_signature": b""}, "paid_signature"),
        ({"max_step_tokens": 1 << 16, "width": 1 << 16}, "max_step_tokens"),
    ],
)
def test_an_accept_that_contradicts_itself(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as caught:
        replace(ACCEPT, **changes)
    assert caught.value.field == field


@given(messages(Step), messages(StepResult))
@settings(max_examples=25, deadline=None)
def test_both_ends_have_the_same_record_of_a_step(step: Step, result: StepResult) -> None:
    step = replace(step, seq=step.seq % 2**32, awaited=0, input=step.input or b"rows")
    result = replace(result, rows=min(step.rows, result.rows), output=result.output or b"rows", out_root=b"")
    here = served(step, output=result.output, outputs=result.rows, issued=result.issued)
    sent, answered = decode(encode(step)), decode(encode(result))
    assert isinstance(sent, Step)
    assert isinstance(answered, StepResult)
    assert here == served(sent, output=answered.output, outputs=answered.rows, issued=answered.issued)


def rounded(rows: np.ndarray, dtype: WireDtype) -> np.ndarray:
    """Rows as they are behind the wire, by the types of numpy and the rows of market/trust/q8.py."""
    if dtype is WireDtype.Q8:
        return q8.unpack(q8.pack(rows), *rows.shape)
    return rows.astype(np.float16 if dtype is WireDtype.F16 else np.float32).astype(np.float32)


@pytest.mark.parametrize("dtype", list(WireDtype))
def test_activations_round_trip(dtype: WireDtype) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    got = decode(encode(replace(STEP, input=pack_activations(rows, dtype))))
    assert isinstance(got, Step)
    array = unpack_input(got.input, got.rows, first=False, width=64, reads_tokens=False, dtype=dtype)
    assert array.dtype == np.float32
    assert np.array_equal(array, rounded(rows, dtype))


def test_f32_is_not_copied() -> None:
    data = pack_activations(np.ones((2, 8), np.float32), WireDtype.F32)
    assert unpack_activations(data, 2, 8, WireDtype.F32).base is not None


def test_candidates_round_trip() -> None:
    topk = TopK(
        np.array([[5, 1], [2, 3]], np.int32), np.array([[1.5, -2], [3, 1]], np.float32), np.array([2.0, 4.0])
    )
    got = decode(encode(replace(RESULT, rows=2, output=pack_topk(topk))))
    assert isinstance(got, StepResult)
    best = unpack_topk(got.output, got.rows)
    assert np.array_equal(best.ids, topk.ids)
    assert np.array_equal(best.logits, topk.logits)
    assert np.array_equal(best.logsumexp, topk.logsumexp)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_both_ways(bad: float) -> None:
    rows = np.array([[1.0, bad]], np.float32)
    with pytest.raises(WireError) as caught:
        pack_activations(rows, WireDtype.F32)
    assert caught.value.code is ErrorCode.NOT_FINITE
    with pytest.raises(WireError) as caught:
        unpack_activations(rows.tobytes(), 1, 2, WireDtype.F32)
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_the_largest_rows_pass_and_no_row_makes_a_warning() -> None:
    rows = np.full((1, 64), np.finfo(np.float32).max, np.float32)
    assert np.array_equal(unpack_activations(rows.tobytes(), 1, 64, WireDtype.F32), rows)
    # A NaN that signals raises a flag in the processor, as squares that overflow do.
    signals = np.full(64, 0x7FA00000, np.uint32).tobytes()
    with pytest.raises(WireError) as caught:
        unpack_activations(signals, 1, 64, WireDtype.F32)
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_too_large_for_f16_is_refused() -> None:
    with pytest.raises(WireError) as caught:
        pack_activations(np.array([[70000.0]], np.float32), WireDtype.F16)
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_what_is_no_q8_is_refused_both_ways() -> None:
    for rows, code in (
        (np.full((1, 32), 1e7, np.float32), ErrorCode.NOT_FINITE),
        (np.full((1, 32), np.nan, np.float32), ErrorCode.NOT_FINITE),
        (np.ones((1, 33), np.float32), ErrorCode.BAD_SHAPE),
    ):
        with pytest.raises(WireError) as caught:
            pack_activations(rows, WireDtype.Q8)
        assert caught.value.code is code
    good = pack_activations(np.ones((1, 32), np.float32), WireDtype.Q8)
    for data, width, code in (
        (good[:-1], 32, ErrorCode.BAD_SHAPE),
        (good, 33, ErrorCode.BAD_SHAPE),
        (good[:2] + bytes(32), 32, ErrorCode.BAD_SHAPE),
        (b"\x00\x7c" + good[2:], 32, ErrorCode.NOT_FINITE),
    ):
        for reads_tokens, sent in ((False, data), (True, with_tokens(data, [1]))):
            with pytest.raises(WireError) as caught:
                unpack_input(sent, 1, first=False, width=width, reads_tokens=reads_tokens, dtype=WireDtype.Q8)
            assert caught.value.code is code


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("reads_tokens", [True, False])
def test_wrong_shape_is_coded(first: bool, reads_tokens: bool) -> None:
    with pytest.raises(WireError) as caught:
        unpack_input(b"x" * 12, 2, first=first, width=4, reads_tokens=reads_tokens, dtype=WireDtype.F32)
    assert caught.value.code is ErrorCode.BAD_SHAPE


@pytest.mark.parametrize("dtype", list(WireDtype))
def test_rows_with_their_token_ids_round_trip(dtype: WireDtype) -> None:
    rows = rounded(np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32), dtype)
    data = with_tokens(pack_activations(rows, dtype), [5, 0, 2**31 - 1])
    assert len(data) == 3 * (dtype.row_bytes(64) + 4)
    table = unpack_input(data, 3, first=False, width=64, reads_tokens=True, dtype=dtype)
    assert np.array_equal(table["residual"], rows)
    assert table["token"].tolist() == [5, 0, 2**31 - 1]
    assert np.array_equal(unpack_residual(data, 3, 64, dtype), rows)
    assert np.array_equal(unpack_residual(pack_activations(rows, dtype), 3, 64, dtype), rows)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.array([np.nan, 1], "<f4").tobytes() + b"\0\0\0\0", ErrorCode.NOT_FINITE),
        (bytes(8) + b"\0\0\0\x80", ErrorCode.BAD_REQUEST),
    ],
)
def test_rows_with_token_ids_are_refused_as_each_alone_would_be(data: bytes, code: ErrorCode) -> None:
    with pytest.raises(WireError) as caught:
        unpack_input(data, 1, first=False, width=2, reads_tokens=True, dtype=WireDtype.F32)
    assert caught.value.code is code


@pytest.mark.parametrize(
    "module", [name for _, name, _ in pkgutil.iter_modules(wire.__path__, "hypercluster.node.wire.")]
)
def test_whoever_speaks_the_protocol_loads_no_llama_no_libp2p_no_web3(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'llama_cpp', 'libp2p', 'web3'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_generated_code_is_current(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate_wire", ROOT / "scripts/generate_wire.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path in script.generate(tmp_path):
        assert path.read_text() == (ROOT / path.relative_to(tmp_path)).read_text()


def test_nobody_asks_for_more_of_a_deposit_than_a_session_costs() -> None:
    whole = ADVERT.session_tokens * max(ADVERT.price_wei, ADVERT.prompt_price_wei)
    assert decode_advert(encode_advert(replace(ADVERT, reserve_wei=whole))).reserve_wei == whole
    with pytest.raises(WireError, match="reserve_wei"):
        encode_advert(replace(ADVERT, reserve_wei=whole + 1))
