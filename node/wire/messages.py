"""The messages of the protocol as plain frozen objects, and their encoding.

A message object cannot hold a value out of bounds: every number and every length is checked when it is made,
against the two tables below, and so on the way out as well as on the way in. The encoding is node/wire/wire.proto.
"""

from __future__ import annotations

import enum
import functools
import math
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from hypercluster.market.advert import Advert, Role
from hypercluster.market.money.signing import address_bytes, checksum
from hypercluster.market.money.voucher import ChannelDescriptor, Quote
from hypercluster.market.trust.receipt import MAX_PROFILE
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import TopK, WireDtype
from hypercluster.node.wire import wire_pb2 as pb

INFER_PROTOCOL = "/hypercluster/infer/3.0.0"
ADVERT_PROTOCOL = "/hypercluster/advert/3.0.0"

MAX_OPENING_FRAME = 64 * 1024
"""bytes a frame may have before a session is accepted"""
MAX_FRAME = 64 * 1024 * 1024
"""bytes a frame may ever have, whatever a provider asks for"""
FRAME_MARGIN = 4096
"""bytes of a frame that are not activations"""

MAX_LAYERS = 4096
MAX_TOKENS = 1 << 24
MAX_ROWS = 1 << 16
MAX_EMBD = 1 << 16
MAX_TOP_K = 4096
MAX_MESSAGE = 300
MAX_ADDRS = 8
MAX_ADDR = 256
MAX_FEATURES = 16
MAX_FEATURE = 32

_ROLES: dict[Role, int] = {"provider": 1, "verifier": 2}

_E = TypeVar("_E", bound=enum.IntEnum)

_UINT96 = (1 << 96) - 1
_UINT64 = (1 << 64) - 1
_UNIX = (1 << 40) - 1

# Field name -> least and greatest value.
_NUMBERS: dict[str, tuple[int, int]] = {
    "layer_start": (0, MAX_LAYERS - 1),
    "layer_stop": (1, MAX_LAYERS),
    "capacity": (1, MAX_TOKENS),
    "free": (0, MAX_TOKENS),
    "session_tokens": (1, MAX_TOKENS),
    "max_top_k": (0, MAX_TOP_K),
    "top_k": (0, MAX_TOP_K),
    "position": (0, MAX_TOKENS),
    "rows": (1, MAX_ROWS),
    "seq": (0, _UINT64),
    "sequence": (0, _UINT64),
    "issued": (0, _UNIX),
    "expires": (0, _UNIX),
    "n_embd": (1, MAX_EMBD),
    "max_step_tokens": (1, MAX_ROWS),
    "price_wei": (0, _UINT96),
    "prompt_price_wei": (0, _UINT96),
    "max_price_wei": (0, _UINT96),
    "max_prompt_price_wei": (0, _UINT96),
    "cumulative_wei": (0, _UINT96),
    "paid_wei": (0, _UINT96),
    "billed_wei": (0, _UINT96),
    "outputs": (1, MAX_ROWS),
    "case_id": (0, _UINT64),
}
# Field name -> least and greatest length, in bytes or characters or items.
_SIZES: dict[str, tuple[int, int]] = {
    "session": (16, 16),
    "signature": (64, 64),
    "quote_signature": (64, 64),
    "message": (0, MAX_MESSAGE),
    "activations": (0, MAX_FRAME),
    "peer": (1, 128),
    "client": (1, 128),
    "addrs": (0, MAX_ADDRS),
    "direct": (0, MAX_ADDR),
    "wire_dtypes": (1, 4),
    "features": (0, MAX_FEATURES),
    "nonce": (16, 16),
    "profile": (1, MAX_PROFILE),
    "receipt": (64, 64),
    "job": (32, 32),
    "stage_hash": (32, 32),
    "channel_id": (32, 32),
    "previous": (32, 32),
    "input": (1, MAX_FRAME),
    "output": (1, MAX_FRAME),
}


@functools.cache
def _rules(kind: object) -> tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, int, int], ...]]:
    names = [field.name for field in fields(cast(Any, kind))]
    numbers = tuple((name, *_NUMBERS[name]) for name in names if name in _NUMBERS)
    return numbers, tuple((name, *_SIZES[name]) for name in names if name in _SIZES)


def check(message: Any) -> None:
    """Raise WireError if a field of a message, or of an advert, is out of the bounds above."""
    kind: object = type(message)
    numbers, sizes = _rules(kind)
    for name, low, high in numbers:
        value = getattr(message, name)
        if not low <= value <= high:
            raise WireError(name, f"is {value}, outside {low} to {high}")
    for name, low, high in sizes:
        length = len(getattr(message, name))
        if not low <= length <= high:
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise WireError(name, f"has length {length}, not {wanted}")


@dataclass(frozen=True, slots=True)
class Open:
    """First message of a session, client to provider: what is wanted and the most it may cost."""

    session: bytes
    """16 random bytes"""
    model_id: str
    """64 hex digits"""
    layer_start: int
    layer_stop: int
    channel: ChannelDescriptor
    wire_dtype: WireDtype
    capacity: int
    """tokens the session may hold"""
    max_price_wei: int
    max_prompt_price_wei: int
    top_k: int = 0
    """candidates wanted from the last stage"""

    def __post_init__(self) -> None:
        check(self)
        check_range(self.layer_start, self.layer_stop)

    def quote(
        self, channel_id: bytes, *, price_wei: int, prompt_price_wei: int, capacity: int, expires: int
    ) -> Quote:
        """The terms that an Accept of this opening freezes, as the provider's node key signs them."""
        return Quote(
            session=self.session,
            model_id=bytes.fromhex(self.model_id),
            layer_start=self.layer_start,
            layer_stop=self.layer_stop,
            channel_id=channel_id,
            price_wei=price_wei,
            prompt_price_wei=prompt_price_wei,
            capacity=capacity,
            wire_dtype=int(self.wire_dtype),
            expires=expires,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step, client to provider, with the voucher that pays for everything up to and including it.

    Either `tokens` (int32 [rows], first stage) or `activations` (later stages, `pack_activations`) is given.
    """

    seq: int
    position: int
    """tokens in the session before this step"""
    rows: int
    cumulative_wei: int
    signature: bytes
    """EIP-2098, 64 bytes"""
    tokens: npt.NDArray[np.int32] | None = None
    activations: bytes = b""
    all_outputs: bool = False

    def __post_init__(self) -> None:
        check(self)
        if (self.tokens is None) != bool(self.activations):
            raise WireError("activations", "and tokens exclude each other, and one of them is needed")
        if self.tokens is not None:
            if self.tokens.shape != (self.rows,):
                raise WireError("tokens", f"are not {self.rows} in a row", ErrorCode.BAD_SHAPE)
            if self.tokens.dtype != np.int32 or int(self.tokens.min()) < 0:
                raise WireError("tokens", "holds something that is no token id")


@dataclass(frozen=True, slots=True)
class Close:
    """The client is done with the session."""


@dataclass(frozen=True, slots=True)
class Accept:
    """The provider takes the session at these prices; `quote_signature` is by its node key over the Quote."""

    price_wei: int
    prompt_price_wei: int
    capacity: int
    expires: int
    """unix seconds"""
    quote_signature: bytes
    paid_wei: int
    """best voucher the provider holds for the channel, 0 if none"""
    paid_signature: bytes
    """and its signature, 64 bytes, empty if there is none"""
    billed_wei: int
    """charged on the channel so far"""
    max_step_tokens: int
    n_embd: int
    nonce: bytes
    """16 random bytes of the provider, which name the stage together with Open.session"""
    profile: str
    """its backend profile, see node.profile"""

    def __post_init__(self) -> None:
        check(self)
        if len(self.paid_signature) != (64 if self.paid_wei else 0):
            raise WireError("paid_signature", f"has {len(self.paid_signature)} bytes, which is wrong here")
        if frame_bound(self.max_step_tokens, self.n_embd) > MAX_FRAME:
            raise WireError("max_step_tokens", "times n_embd asks for frames larger than 64 MiB")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepResult:
    """What a step gave: the residual rows, or at the last stage the top-k logits of the rows asked for."""

    seq: int
    rows: int
    billed_wei: int
    compute_ms: float
    activations: bytes = b""
    topk: TopK | None = None
    waited_ms: float = 0.0
    """the rest of the time that the provider held the step: checks, queue, ledger"""
    issued: int
    """unix seconds, as in the receipt"""
    receipt: bytes
    """signature of the step's receipt by the node key, 64 bytes; both ends know the rest of it"""

    def __post_init__(self) -> None:
        check(self)
        _check_milliseconds("compute_ms", self.compute_ms)
        _check_milliseconds("waited_ms", self.waited_ms)
        if (self.topk is None) != bool(self.activations):
            raise WireError("activations", "and topk exclude each other, and one of them is needed")
        if self.topk is not None:
            _check_topk(self.topk, self.rows)


@dataclass(frozen=True, slots=True)
class Error:
    """Why the provider refuses; the connection ends after it."""

    code: ErrorCode
    message: str
    billed_wei: int = 0

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, code: ErrorCode, message: str, billed_wei: int = 0) -> Error:
        """The same with the message cut to what fits."""
        return cls(code, message[:MAX_MESSAGE], billed_wei)


@dataclass(frozen=True, slots=True)
class SignedAdvert:
    """An encoded advert and its signature, unverified: see node.adverts."""

    body: bytes
    signature: bytes
    """EIP-2098, 64 bytes"""

    def __post_init__(self) -> None:
        if not 1 <= len(self.body) <= MAX_OPENING_FRAME // 2:
            raise WireError("body", f"has {len(self.body)} bytes")
        if len(self.signature) != 64:
            raise WireError("signature", f"has {len(self.signature)} bytes, not 64")


Message: TypeAlias = Open | Step | Close | Accept | StepResult | Error | SignedAdvert


def frame_bound(max_step_tokens: int, n_embd: int, top_k: int = 0) -> int:
    """Bytes a frame of an accepted session may have: rows of f32 activations, or of top-k logits."""
    return max_step_tokens * max(4 * n_embd, 8 * top_k + 8 if top_k else 0) + FRAME_MARGIN


def encode(message: Message) -> bytes:
    """The bytes of the Frame that carries `message`, without the length prefix."""
    match message:
        case Step():
            frame = pb.Frame(
                step=pb.Step(
                    seq=message.seq,
                    position=message.position,
                    tokens=None if message.tokens is None else message.tokens.tolist(),
                    activations=message.activations,
                    rows=message.rows,
                    cumulative=from_wei(message.cumulative_wei),
                    signature=message.signature,
                    all_outputs=message.all_outputs,
                )
            )
        case StepResult():
            frame = pb.Frame(
                result=pb.StepResult(
                    seq=message.seq,
                    rows=message.rows,
                    activations=message.activations,
                    topk=None if message.topk is None else _topk_to_pb(message.topk),
                    billed=from_wei(message.billed_wei),
                    compute_ms=message.compute_ms,
                    waited_ms=message.waited_ms,
                    issued=message.issued,
                    receipt=message.receipt,
                )
            )
        case Open():
            frame = pb.Frame(open=open_to_pb(message))
        case Accept():
            frame = pb.Frame(accept=_accept_to_pb(message))
        case Error():
            error = pb.Error(code=message.code, message=message.message, billed=from_wei(message.billed_wei))
            frame = pb.Frame(error=error)
        case SignedAdvert():
            frame = pb.Frame(advert=pb.SignedAdvert(body=message.body, signature=message.signature))
        case Close():
            frame = pb.Frame(close=pb.Close())
    return frame.SerializeToString()


def decode(data: bytes) -> Message:
    """The message in the bytes of one Frame. Raises WireError naming the field that is wrong."""
    try:
        frame = pb.Frame.FromString(data)
    except DecodeError:
        raise WireError("frame", "is no protobuf Frame") from None
    match frame.WhichOneof("message"):
        case "step":
            return _step_from_pb(frame.step)
        case "result":
            return _result_from_pb(frame.result)
        case "open":
            return open_from_pb(frame.open)
        case "accept":
            return _accept_from_pb(frame.accept)
        case "error":
            code = enum_of(ErrorCode, "code", frame.error.code)
            return Error(code, frame.error.message, to_wei("billed_wei", frame.error.billed))
        case "advert":
            return SignedAdvert(frame.advert.body, frame.advert.signature)
        case "close":
            return Close()
    raise WireError("frame", "holds no message of this version", ErrorCode.UNSUPPORTED_VERSION)


def encode_advert(advert: Advert) -> bytes:
    """The bytes that are signed and gossiped. Raises WireError if a field is out of bounds."""
    check_advert(advert)
    return pb.Advert(
        peer=advert.peer,
        model_id=bytes.fromhex(advert.model_id),
        layer_start=advert.layer_start,
        layer_stop=advert.layer_stop,
        price=from_wei(advert.price_wei),
        prompt_price=from_wei(advert.prompt_price_wei),
        cost_ms=advert.cost_ms,
        operator=address_bytes(advert.operator),
        capacity=advert.capacity,
        free=advert.free,
        sequence=advert.sequence,
        issued=advert.issued,
        expires=advert.expires,
        n_embd=advert.n_embd,
        addrs=advert.addrs,
        direct=advert.direct,
        wire_dtypes=[WireDtype.named(name).value for name in advert.wire_dtypes],  # type: ignore[misc]
        role=_ROLES[advert.role],  # type: ignore[arg-type]
        session_tokens=advert.session_tokens,
        max_top_k=advert.max_top_k,
        prompt_ms=advert.prompt_ms,
        features=advert.features,
    ).SerializeToString()


def decode_advert(body: bytes) -> Advert:
    """The advert in `body`, all bounds checked; the signature is node.adverts' business. Raises WireError."""
    try:
        message = pb.Advert.FromString(body)
    except DecodeError:
        raise WireError("advert", "is no protobuf Advert") from None
    advert = Advert(
        peer=message.peer,
        model_id=model_id_of(message.model_id),
        layer_start=message.layer_start,
        layer_stop=message.layer_stop,
        price_wei=to_wei("price_wei", message.price),
        prompt_price_wei=to_wei("prompt_price_wei", message.prompt_price),
        cost_ms=message.cost_ms,
        operator=_address("operator", message.operator),
        capacity=message.capacity,
        free=message.free,
        sequence=message.sequence,
        issued=message.issued,
        expires=message.expires,
        n_embd=message.n_embd,
        addrs=tuple(message.addrs[: MAX_ADDRS + 1]),
        direct=message.direct,
        wire_dtypes=tuple(
            enum_of(WireDtype, "wire_dtypes", value).name.lower() for value in message.wire_dtypes[:8]
        ),
        role=_role(message.role),
        session_tokens=message.session_tokens,
        max_top_k=message.max_top_k,
        prompt_ms=message.prompt_ms,
        features=tuple(message.features[: MAX_FEATURES + 1]),
    )
    check_advert(advert)
    return advert


def check_advert(advert: Advert) -> None:
    """Raise WireError naming the field of `advert` that is out of bounds."""
    check(advert)
    check_range(advert.layer_start, advert.layer_stop)
    _check_milliseconds("cost_ms", advert.cost_ms)
    _check_milliseconds("prompt_ms", advert.prompt_ms)
    if advert.free > advert.capacity:
        raise WireError("free", f"is {advert.free}, above the capacity {advert.capacity}")
    if advert.expires <= advert.issued:
        raise WireError("expires", "is not after issued")
    if any(len(addr) > MAX_ADDR for addr in advert.addrs):
        raise WireError("addrs", f"holds an address of more than {MAX_ADDR} characters")
    if not all(1 <= len(name) <= MAX_FEATURE for name in advert.features):
        raise WireError("features", f"holds a name that has not 1 to {MAX_FEATURE} characters")


def check_range(start: int, stop: int) -> None:
    """Raise WireError unless the layers [start, stop) are a range."""
    if start >= stop:
        raise WireError("layer_stop", f"is {stop}, not above layer_start {start}")


def _check_milliseconds(field: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= 1e9):
        raise WireError(field, f"is {value}, not a time")


def from_wei(amount: int) -> bytes:
    """An amount as it travels: big-endian, no leading zeros."""
    return amount.to_bytes((amount.bit_length() + 7) // 8, "big")


def to_wei(field: str, data: bytes) -> int:
    """The amount in at most 12 bytes. Raises WireError."""
    if len(data) > 12:
        raise WireError(field, f"has {len(data)} bytes, more than 12")
    return int.from_bytes(data, "big")


def _role(value: int) -> Role:
    for role, number in _ROLES.items():
        if number == value:
            return role
    raise WireError("role", f"has the unknown value {value}", ErrorCode.UNSUPPORTED_VERSION)


def _address(field: str, data: bytes) -> str:
    if len(data) != 20:
        raise WireError(field, f"has {len(data)} bytes, not the 20 of an address")
    return checksum(data)


def model_id_of(data: bytes) -> str:
    """The model id in 32 bytes, as hex. Raises WireError."""
    if len(data) != 32:
        raise WireError("model_id", f"has {len(data)} bytes, not 32")
    return data.hex()


def enum_of(kind: type[_E], field: str, value: int) -> _E:
    """The member of `kind` with this number. Raises WireError(UNSUPPORTED_VERSION)."""
    try:
        return kind(value)
    except ValueError:
        raise WireError(field, f"has the unknown value {value}", ErrorCode.UNSUPPORTED_VERSION) from None


def open_to_pb(message: Open) -> pb.Open:
    """As protobuf."""
    channel = message.channel
    return pb.Open(
        session=message.session,
        model_id=bytes.fromhex(message.model_id),
        layer_start=message.layer_start,
        layer_stop=message.layer_stop,
        channel=pb.Channel(
            payer=address_bytes(channel.payer),
            payee=address_bytes(channel.payee),
            signer=address_bytes(channel.signer),
            salt=channel.salt,
        ),
        wire_dtype=message.wire_dtype.value,  # type: ignore[arg-type]
        capacity=message.capacity,
        max_price=from_wei(message.max_price_wei),
        max_prompt_price=from_wei(message.max_prompt_price_wei),
        top_k=message.top_k,
    )


def open_from_pb(message: pb.Open) -> Open:
    """From protobuf, checked. Raises WireError."""
    if len(message.channel.salt) != 32:
        raise WireError("salt", f"has {len(message.channel.salt)} bytes, not 32")
    return Open(
        session=message.session,
        model_id=model_id_of(message.model_id),
        layer_start=message.layer_start,
        layer_stop=message.layer_stop,
        channel=ChannelDescriptor(
            payer=_address("payer", message.channel.payer),
            payee=_address("payee", message.channel.payee),
            signer=_address("signer", message.channel.signer),
            salt=message.channel.salt,
        ),
        wire_dtype=enum_of(WireDtype, "wire_dtype", message.wire_dtype),
        capacity=message.capacity,
        max_price_wei=to_wei("max_price_wei", message.max_price),
        max_prompt_price_wei=to_wei("max_prompt_price_wei", message.max_prompt_price),
        top_k=message.top_k,
    )


def _step_from_pb(message: pb.Step) -> Step:
    # Before an array is made of them: there may be millions.
    if message.tokens and len(message.tokens) != message.rows:
        raise WireError("tokens", f"are not {message.rows} in a row", ErrorCode.BAD_SHAPE)
    return Step(
        seq=message.seq,
        position=message.position,
        rows=message.rows,
        cumulative_wei=to_wei("cumulative_wei", message.cumulative),
        signature=message.signature,
        tokens=_ids(np.array(message.tokens, dtype=np.uint32)) if message.tokens else None,
        activations=message.activations,
        all_outputs=message.all_outputs,
    )


def _accept_to_pb(message: Accept) -> pb.Accept:
    return pb.Accept(
        price=from_wei(message.price_wei),
        prompt_price=from_wei(message.prompt_price_wei),
        capacity=message.capacity,
        expires=message.expires,
        quote_signature=message.quote_signature,
        paid=from_wei(message.paid_wei),
        paid_signature=message.paid_signature,
        billed=from_wei(message.billed_wei),
        max_step_tokens=message.max_step_tokens,
        n_embd=message.n_embd,
        nonce=message.nonce,
        profile=message.profile,
    )


def _accept_from_pb(message: pb.Accept) -> Accept:
    return Accept(
        price_wei=to_wei("price_wei", message.price),
        prompt_price_wei=to_wei("prompt_price_wei", message.prompt_price),
        capacity=message.capacity,
        expires=message.expires,
        quote_signature=message.quote_signature,
        paid_wei=to_wei("paid_wei", message.paid),
        paid_signature=message.paid_signature,
        billed_wei=to_wei("billed_wei", message.billed),
        max_step_tokens=message.max_step_tokens,
        n_embd=message.n_embd,
        nonce=message.nonce,
        profile=message.profile,
    )


def _check_topk(topk: TopK, rows: int) -> None:
    if topk.ids.ndim != 2 or len(topk.ids) != rows or not 1 <= topk.ids.shape[1] <= MAX_TOP_K:
        raise WireError("topk", f"has ids of shape {topk.ids.shape}, not {rows} rows", ErrorCode.BAD_SHAPE)
    if topk.logits.shape != topk.ids.shape or topk.logsumexp.shape != topk.ids.shape[:1]:
        raise WireError("topk", "has ids, logits and logsumexp of different lengths", ErrorCode.BAD_SHAPE)
    if int(topk.ids.min()) < 0:
        raise WireError("topk", "holds something that is no token id")
    if not (np.isfinite(topk.logits).all() and np.isfinite(topk.logsumexp).all()):
        raise WireError("topk", "holds a value that is not finite", ErrorCode.NOT_FINITE)


def _topk_to_pb(topk: TopK) -> pb.TopK:
    return pb.TopK(
        k=topk.ids.shape[1],
        ids=np.ascontiguousarray(topk.ids, dtype="<u4").tobytes(),
        logits=np.ascontiguousarray(topk.logits, dtype="<f4").tobytes(),
        logsumexp=np.ascontiguousarray(topk.logsumexp, dtype="<f8").tobytes(),
    )


def _topk_from_pb(message: pb.TopK, rows: int) -> TopK:
    shape = rows, message.k
    for field, data, size in (
        ("ids", message.ids, 4 * rows * message.k),
        ("logits", message.logits, 4 * rows * message.k),
        ("logsumexp", message.logsumexp, 8 * rows),
    ):
        if len(data) != size:
            raise WireError(field, f"has {len(data)} bytes, not {size}", ErrorCode.BAD_SHAPE)
    return TopK(
        ids=_ids(np.frombuffer(message.ids, dtype="<u4")).reshape(shape),
        logits=np.frombuffer(message.logits, dtype="<f4").reshape(shape),
        logsumexp=np.frombuffer(message.logsumexp, dtype="<f8"),
    )


def _result_from_pb(message: pb.StepResult) -> StepResult:
    return StepResult(
        seq=message.seq,
        rows=message.rows,
        billed_wei=to_wei("billed_wei", message.billed),
        compute_ms=message.compute_ms,
        activations=message.activations,
        topk=_topk_from_pb(message.topk, message.rows) if message.HasField("topk") else None,
        waited_ms=message.waited_ms,
        issued=message.issued,
        receipt=message.receipt,
    )


def _ids(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """Token ids are below 2^31, so the same bytes read as int32; the classes above refuse negative ones."""
    return values.view(np.int32)
