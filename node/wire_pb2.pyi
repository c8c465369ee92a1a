# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WireDtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WIRE_DTYPE_UNSPECIFIED: _ClassVar[WireDtype]
    F32: _ClassVar[WireDtype]
    F16: _ClassVar[WireDtype]
WIRE_DTYPE_UNSPECIFIED: WireDtype
F32: WireDtype
F16: WireDtype

class Frame(_message.Message):
    __slots__ = ("open", "step", "close", "accept", "result", "error", "advert")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ADVERT_FIELD_NUMBER: _ClassVar[int]
    open: Open
    step: Step
    close: Close
    accept: Accept
    result: StepResult
    error: Error
    advert: SignedAdvert
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., accept: _Optional[_Union[Accept, _Mapping]] = ..., result: _Optional[_Union[StepResult, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., advert: _Optional[_Union[SignedAdvert, _Mapping]] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("payer", "payee", "signer", "salt")
    PAYER_FIELD_NUMBER: _ClassVar[int]
    PAYEE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    payer: bytes
    payee: bytes
    signer: bytes
    salt: bytes
    def __init__(self, payer: _Optional[bytes] = ..., payee: _Optional[bytes] = ..., signer: _Optional[bytes] = ..., salt: _Optional[bytes] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("session", "model_id", "layer_start", "layer_stop", "channel", "wire_dtype", "capacity", "max_price", "max_prompt_price", "top_k")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_PRICE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    channel: Channel
    wire_dtype: WireDtype
    capacity: int
    max_price: bytes
    max_prompt_price: bytes
    top_k: int
    def __init__(self, session: _Optional[bytes] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., wire_dtype: _Optional[_Union[WireDtype, str]] = ..., capacity: _Optional[int] = ..., max_price: _Optional[bytes] = ..., max_prompt_price: _Optional[bytes] = ..., top_k: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("seq", "position", "tokens", "activations", "rows", "cumulative", "signature", "all_outputs")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ALL_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    position: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    activations: bytes
    rows: int
    cumulative: bytes
    signature: bytes
    all_outputs: bool
    def __init__(self, seq: _Optional[int] = ..., position: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., activations: _Optional[bytes] = ..., rows: _Optional[int] = ..., cumulative: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., all_outputs: _Optional[bool] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Accept(_message.Message):
    __slots__ = ("price", "prompt_price", "capacity", "expires", "quote_signature", "paid", "paid_signature", "billed", "max_step_tokens", "n_embd")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_PRICE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    QUOTE_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    PAID_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BILLED_FIELD_NUMBER: _ClassVar[int]
    MAX_STEP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    N_EMBD_FIELD_NUMBER: _ClassVar[int]
    price: bytes
    prompt_price: bytes
    capacity: int
    expires: int
    quote_signature: bytes
    paid: bytes
    paid_signature: bytes
    billed: bytes
    max_step_tokens: int
    n_embd: int
    def __init__(self, price: _Optional[bytes] = ..., prompt_price: _Optional[bytes] = ..., capacity: _Optional[int] = ..., expires: _Optional[int] = ..., quote_signature: _Optional[bytes] = ..., paid: _Optional[bytes] = ..., paid_signature: _Optional[bytes] = ..., billed: _Optional[bytes] = ..., max_step_tokens: _Optional[int] = ..., n_embd: _Optional[int] = ...) -> None: ...

class TopK(_message.Message):
    __slots__ = ("k", "ids", "logits", "logsumexp")
    K_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    LOGSUMEXP_FIELD_NUMBER: _ClassVar[int]
    k: int
    ids: bytes
    logits: bytes
    logsumexp: bytes
    def __init__(self, k: _Optional[int] = ..., ids: _Optional[bytes] = ..., logits: _Optional[bytes] = ..., logsumexp: _Optional[bytes] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("seq", "rows", "activations", "topk", "billed", "compute_ms", "waited_ms")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    TOPK_FIELD_NUMBER: _ClassVar[int]
    BILLED_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    WAITED_MS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    rows: int
    activations: bytes
    topk: TopK
    billed: bytes
    compute_ms: float
    waited_ms: float
    def __init__(self, seq: _Optional[int] = ..., rows: _Optional[int] = ..., activations: _Optional[bytes] = ..., topk: _Optional[_Union[TopK, _Mapping]] = ..., billed: _Optional[bytes] = ..., compute_ms: _Optional[float] = ..., waited_ms: _Optional[float] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "billed")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BILLED_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    billed: bytes
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., billed: _Optional[bytes] = ...) -> None: ...

class Advert(_message.Message):
    __slots__ = ("peer", "model_id", "layer_start", "layer_stop", "price", "prompt_price", "cost_ms", "operator", "capacity", "free", "sequence", "issued", "expires", "n_embd", "addrs", "direct", "wire_dtypes")
    PEER_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_PRICE_FIELD_NUMBER: _ClassVar[int]
    COST_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    N_EMBD_FIELD_NUMBER: _ClassVar[int]
    ADDRS_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPES_FIELD_NUMBER: _ClassVar[int]
    peer: str
    model_id: bytes
    layer_start: int
    layer_stop: int
    price: bytes
    prompt_price: bytes
    cost_ms: float
    operator: bytes
    capacity: int
    free: int
    sequence: int
    issued: int
    expires: int
    n_embd: int
    addrs: _containers.RepeatedScalarFieldContainer[str]
    direct: str
    wire_dtypes: _containers.RepeatedScalarFieldContainer[WireDtype]
    def __init__(self, peer: _Optional[str] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., price: _Optional[bytes] = ..., prompt_price: _Optional[bytes] = ..., cost_ms: _Optional[float] = ..., operator: _Optional[bytes] = ..., capacity: _Optional[int] = ..., free: _Optional[int] = ..., sequence: _Optional[int] = ..., issued: _Optional[int] = ..., expires: _Optional[int] = ..., n_embd: _Optional[int] = ..., addrs: _Optional[_Iterable[str]] = ..., direct: _Optional[str] = ..., wire_dtypes: _Optional[_Iterable[_Union[WireDtype, str]]] = ...) -> None: ...

class SignedAdvert(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
