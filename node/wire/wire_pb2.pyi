# mypy: ignore-errors
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    PROVIDER: _ClassVar[Role]
    VERIFIER: _ClassVar[Role]

class WireDtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WIRE_DTYPE_UNSPECIFIED: _ClassVar[WireDtype]
    F32: _ClassVar[WireDtype]
    F16: _ClassVar[WireDtype]
    Q8: _ClassVar[WireDtype]

class LinkState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINK_NONE: _ClassVar[LinkState]
    LINK_STANDS: _ClassVar[LinkState]
    LINK_BROKEN: _ClassVar[LinkState]
ROLE_UNSPECIFIED: Role
PROVIDER: Role
VERIFIER: Role
WIRE_DTYPE_UNSPECIFIED: WireDtype
F32: WireDtype
F16: WireDtype
Q8: WireDtype
LINK_NONE: LinkState
LINK_STANDS: LinkState
LINK_BROKEN: LinkState

class Frame(_message.Message):
    __slots__ = ("open", "step", "close", "accept", "result", "error", "advert", "recall", "recalled", "audit_open", "audit_step", "audit_end", "verdict", "stage", "rumour", "parked", "link", "link_open", "link_taken", "rows", "no_rows", "show", "discard", "step_roots", "expect")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ADVERT_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    AUDIT_OPEN_FIELD_NUMBER: _ClassVar[int]
    AUDIT_STEP_FIELD_NUMBER: _ClassVar[int]
    AUDIT_END_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    RUMOUR_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    LINK_OPEN_FIELD_NUMBER: _ClassVar[int]
    LINK_TAKEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NO_ROWS_FIELD_NUMBER: _ClassVar[int]
    SHOW_FIELD_NUMBER: _ClassVar[int]
    DISCARD_FIELD_NUMBER: _ClassVar[int]
    STEP_ROOTS_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    open: Open
    step: Step
    close: Close
    accept: Accept
    result: StepResult
    error: Error
    advert: SignedAdvert
    recall: Recall
    recalled: Recalled
    audit_open: AuditOpen
    audit_step: AuditStep
    audit_end: AuditEnd
    verdict: AuditVerdict
    stage: StageRecord
    rumour: Rumour
    parked: Parked
    link: Link
    link_open: LinkOpen
    link_taken: LinkTaken
    rows: Rows
    no_rows: NoRows
    show: Show
    discard: Discard
    step_roots: StepRoots
    expect: Expect
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., accept: _Optional[_Union[Accept, _Mapping]] = ..., result: _Optional[_Union[StepResult, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., advert: _Optional[_Union[SignedAdvert, _Mapping]] = ..., recall: _Optional[_Union[Recall, _Mapping]] = ..., recalled: _Optional[_Union[Recalled, _Mapping]] = ..., audit_open: _Optional[_Union[AuditOpen, _Mapping]] = ..., audit_step: _Optional[_Union[AuditStep, _Mapping]] = ..., audit_end: _Optional[_Union[AuditEnd, _Mapping]] = ..., verdict: _Optional[_Union[AuditVerdict, _Mapping]] = ..., stage: _Optional[_Union[StageRecord, _Mapping]] = ..., rumour: _Optional[_Union[Rumour, _Mapping]] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., link_open: _Optional[_Union[LinkOpen, _Mapping]] = ..., link_taken: _Optional[_Union[LinkTaken, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., no_rows: _Optional[_Union[NoRows, _Mapping]] = ..., show: _Optional[_Union[Show, _Mapping]] = ..., discard: _Optional[_Union[Discard, _Mapping]] = ..., step_roots: _Optional[_Union[StepRoots, _Mapping]] = ..., expect: _Optional[_Union[Expect, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("session", "model_id", "layer_start", "layer_stop", "channel", "wire_dtype", "capacity", "max_price_wei", "max_prompt_price_wei", "top_k", "resume", "position", "max_cached_price_wei", "branch", "ticket", "previous")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MAX_CACHED_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    channel: Channel
    wire_dtype: WireDtype
    capacity: int
    max_price_wei: bytes
    max_prompt_price_wei: bytes
    top_k: int
    resume: bytes
    position: int
    max_cached_price_wei: bytes
    branch: int
    ticket: bytes
    previous: str
    def __init__(self, session: _Optional[bytes] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., wire_dtype: _Optional[_Union[WireDtype, str]] = ..., capacity: _Optional[int] = ..., max_price_wei: _Optional[bytes] = ..., max_prompt_price_wei: _Optional[bytes] = ..., top_k: _Optional[int] = ..., resume: _Optional[bytes] = ..., position: _Optional[int] = ..., max_cached_price_wei: _Optional[bytes] = ..., branch: _Optional[int] = ..., ticket: _Optional[bytes] = ..., previous: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("seq", "position", "rows", "cumulative_wei", "signature", "all_outputs", "input", "awaited", "onward", "epoch")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_WEI_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ALL_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    ONWARD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    seq: int
    position: int
    rows: int
    cumulative_wei: bytes
    signature: bytes
    all_outputs: bool
    input: bytes
    awaited: int
    onward: int
    epoch: int
    def __init__(self, seq: _Optional[int] = ..., position: _Optional[int] = ..., rows: _Optional[int] = ..., cumulative_wei: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., all_outputs: _Optional[bool] = ..., input: _Optional[bytes] = ..., awaited: _Optional[int] = ..., onward: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("park",)
    PARK_FIELD_NUMBER: _ClassVar[int]
    park: bool
    def __init__(self, park: _Optional[bool] = ...) -> None: ...

class Parked(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    def __init__(self, seconds: _Optional[int] = ...) -> None: ...

class Accept(_message.Message):
    __slots__ = ("price_wei", "prompt_price_wei", "capacity", "expires", "quote_signature", "paid_wei", "paid_signature", "billed_wei", "max_step_tokens", "width", "nonce", "profile", "cached_price_wei", "position")
    PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    PROMPT_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    QUOTE_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PAID_WEI_FIELD_NUMBER: _ClassVar[int]
    PAID_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BILLED_WEI_FIELD_NUMBER: _ClassVar[int]
    MAX_STEP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CACHED_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    price_wei: bytes
    prompt_price_wei: bytes
    capacity: int
    expires: int
    quote_signature: bytes
    paid_wei: bytes
    paid_signature: bytes
    billed_wei: bytes
    max_step_tokens: int
    width: int
    nonce: bytes
    profile: str
    cached_price_wei: bytes
    position: int
    def __init__(self, price_wei: _Optional[bytes] = ..., prompt_price_wei: _Optional[bytes] = ..., capacity: _Optional[int] = ..., expires: _Optional[int] = ..., quote_signature: _Optional[bytes] = ..., paid_wei: _Optional[bytes] = ..., paid_signature: _Optional[bytes] = ..., billed_wei: _Optional[bytes] = ..., max_step_tokens: _Optional[int] = ..., width: _Optional[int] = ..., nonce: _Optional[bytes] = ..., profile: _Optional[str] = ..., cached_price_wei: _Optional[bytes] = ..., position: _Optional[int] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("seq", "rows", "billed_wei", "compute_ms", "waited_ms", "issued", "receipt", "output", "inherited", "in_root", "out_root", "link")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BILLED_WEI_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    WAITED_MS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INHERITED_FIELD_NUMBER: _ClassVar[int]
    IN_ROOT_FIELD_NUMBER: _ClassVar[int]
    OUT_ROOT_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    seq: int
    rows: int
    billed_wei: bytes
    compute_ms: float
    waited_ms: float
    issued: int
    receipt: bytes
    output: bytes
    inherited: bytes
    in_root: bytes
    out_root: bytes
    link: LinkState
    def __init__(self, seq: _Optional[int] = ..., rows: _Optional[int] = ..., billed_wei: _Optional[bytes] = ..., compute_ms: _Optional[float] = ..., waited_ms: _Optional[float] = ..., issued: _Optional[int] = ..., receipt: _Optional[bytes] = ..., output: _Optional[bytes] = ..., inherited: _Optional[bytes] = ..., in_root: _Optional[bytes] = ..., out_root: _Optional[bytes] = ..., link: _Optional[_Union[LinkState, str]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("peer", "direct", "ticket")
    PEER_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    peer: str
    direct: str
    ticket: bytes
    def __init__(self, peer: _Optional[str] = ..., direct: _Optional[str] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class Expect(_message.Message):
    __slots__ = ("peer", "ticket")
    PEER_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    peer: str
    ticket: bytes
    def __init__(self, peer: _Optional[str] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class LinkOpen(_message.Message):
    __slots__ = ("ticket",)
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    def __init__(self, ticket: _Optional[bytes] = ...) -> None: ...

class LinkTaken(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Rows(_message.Message):
    __slots__ = ("number", "rows", "data")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    number: int
    rows: int
    data: bytes
    def __init__(self, number: _Optional[int] = ..., rows: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class NoRows(_message.Message):
    __slots__ = ("seq", "code", "billed_wei")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    BILLED_WEI_FIELD_NUMBER: _ClassVar[int]
    seq: int
    code: int
    billed_wei: bytes
    def __init__(self, seq: _Optional[int] = ..., code: _Optional[int] = ..., billed_wei: _Optional[bytes] = ...) -> None: ...

class Show(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class Discard(_message.Message):
    __slots__ = ("seq", "epoch")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    seq: int
    epoch: int
    def __init__(self, seq: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "billed_wei", "wait_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BILLED_WEI_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    billed_wei: bytes
    wait_ms: float
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., billed_wei: _Optional[bytes] = ..., wait_ms: _Optional[float] = ...) -> None: ...

class Advert(_message.Message):
    __slots__ = ("peer", "model_id", "layer_start", "layer_stop", "price_wei", "prompt_price_wei", "cost_ms", "operator", "capacity", "free", "sequence", "issued", "expires", "width", "addrs", "direct", "wire_dtypes", "role", "session_tokens", "max_top_k", "prompt_ms", "features", "reserve_wei", "cached_price_wei", "parked_seconds", "neighbours")
    PEER_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    PROMPT_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    COST_MS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    ADDRS_FIELD_NUMBER: _ClassVar[int]
    DIRECT_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPES_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOP_K_FIELD_NUMBER: _ClassVar[int]
    PROMPT_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    RESERVE_WEI_FIELD_NUMBER: _ClassVar[int]
    CACHED_PRICE_WEI_FIELD_NUMBER: _ClassVar[int]
    PARKED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    peer: str
    model_id: bytes
    layer_start: int
    layer_stop: int
    price_wei: bytes
    prompt_price_wei: bytes
    cost_ms: float
    operator: bytes
    capacity: int
    free: int
    sequence: int
    issued: int
    expires: int
    width: int
    addrs: _containers.RepeatedScalarFieldContainer[str]
    direct: str
    wire_dtypes: _containers.RepeatedScalarFieldContainer[WireDtype]
    role: Role
    session_tokens: int
    max_top_k: int
    prompt_ms: float
    features: _containers.RepeatedScalarFieldContainer[str]
    reserve_wei: bytes
    cached_price_wei: bytes
    parked_seconds: int
    neighbours: bytes
    def __init__(self, peer: _Optional[str] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., price_wei: _Optional[bytes] = ..., prompt_price_wei: _Optional[bytes] = ..., cost_ms: _Optional[float] = ..., operator: _Optional[bytes] = ..., capacity: _Optional[int] = ..., free: _Optional[int] = ..., sequence: _Optional[int] = ..., issued: _Optional[int] = ..., expires: _Optional[int] = ..., width: _Optional[int] = ..., addrs: _Optional[_Iterable[str]] = ..., direct: _Optional[str] = ..., wire_dtypes: _Optional[_Iterable[_Union[WireDtype, str]]] = ..., role: _Optional[_Union[Role, str]] = ..., session_tokens: _Optional[int] = ..., max_top_k: _Optional[int] = ..., prompt_ms: _Optional[float] = ..., features: _Optional[_Iterable[str]] = ..., reserve_wei: _Optional[bytes] = ..., cached_price_wei: _Optional[bytes] = ..., parked_seconds: _Optional[int] = ..., neighbours: _Optional[bytes] = ...) -> None: ...

class SignedAdvert(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class StageRecord(_message.Message):
    __slots__ = ("session", "nonce", "channel_id", "model_id", "layer_start", "layer_stop", "wire_dtype", "profile", "peer", "top_k", "client")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    nonce: bytes
    channel_id: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    wire_dtype: WireDtype
    profile: str
    peer: str
    top_k: int
    client: str
    def __init__(self, session: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., channel_id: _Optional[bytes] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., wire_dtype: _Optional[_Union[WireDtype, str]] = ..., profile: _Optional[str] = ..., peer: _Optional[str] = ..., top_k: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

class Recall(_message.Message):
    __slots__ = ("stage_hash", "seq", "count")
    STAGE_HASH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    stage_hash: bytes
    seq: int
    count: int
    def __init__(self, stage_hash: _Optional[bytes] = ..., seq: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Recalled(_message.Message):
    __slots__ = ("step", "previous")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    step: AuditStep
    previous: bytes
    def __init__(self, step: _Optional[_Union[AuditStep, _Mapping]] = ..., previous: _Optional[bytes] = ...) -> None: ...

class AuditOpen(_message.Message):
    __slots__ = ("opening", "job", "profile", "case_id", "stage", "proof")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    opening: Open
    job: bytes
    profile: str
    case_id: int
    stage: StageRecord
    proof: bytes
    def __init__(self, opening: _Optional[_Union[Open, _Mapping]] = ..., job: _Optional[bytes] = ..., profile: _Optional[str] = ..., case_id: _Optional[int] = ..., stage: _Optional[_Union[StageRecord, _Mapping]] = ..., proof: _Optional[bytes] = ...) -> None: ...

class AuditStep(_message.Message):
    __slots__ = ("seq", "position", "rows", "outputs", "input", "output", "issued", "receipt", "cumulative_wei", "voucher")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CUMULATIVE_WEI_FIELD_NUMBER: _ClassVar[int]
    VOUCHER_FIELD_NUMBER: _ClassVar[int]
    seq: int
    position: int
    rows: int
    outputs: int
    input: bytes
    output: bytes
    issued: int
    receipt: bytes
    cumulative_wei: bytes
    voucher: bytes
    def __init__(self, seq: _Optional[int] = ..., position: _Optional[int] = ..., rows: _Optional[int] = ..., outputs: _Optional[int] = ..., input: _Optional[bytes] = ..., output: _Optional[bytes] = ..., issued: _Optional[int] = ..., receipt: _Optional[bytes] = ..., cumulative_wei: _Optional[bytes] = ..., voucher: _Optional[bytes] = ...) -> None: ...

class StepRoots(_message.Message):
    __slots__ = ("seq", "position", "rows", "outputs", "input", "output", "in_root", "out_root", "issued", "receipt")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    IN_ROOT_FIELD_NUMBER: _ClassVar[int]
    OUT_ROOT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    position: int
    rows: int
    outputs: int
    input: bytes
    output: bytes
    in_root: bytes
    out_root: bytes
    issued: int
    receipt: bytes
    def __init__(self, seq: _Optional[int] = ..., position: _Optional[int] = ..., rows: _Optional[int] = ..., outputs: _Optional[int] = ..., input: _Optional[bytes] = ..., output: _Optional[bytes] = ..., in_root: _Optional[bytes] = ..., out_root: _Optional[bytes] = ..., issued: _Optional[int] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class AuditEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditVerdict(_message.Message):
    __slots__ = ("finding", "median_error", "max_error", "agreement", "exact", "fingerprint", "issued", "signature", "billed_wei", "tolerance")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_ERROR_FIELD_NUMBER: _ClassVar[int]
    MAX_ERROR_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BILLED_WEI_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    finding: int
    median_error: float
    max_error: float
    agreement: float
    exact: bool
    fingerprint: bytes
    issued: int
    signature: bytes
    billed_wei: bytes
    tolerance: int
    def __init__(self, finding: _Optional[int] = ..., median_error: _Optional[float] = ..., max_error: _Optional[float] = ..., agreement: _Optional[float] = ..., exact: _Optional[bool] = ..., fingerprint: _Optional[bytes] = ..., issued: _Optional[int] = ..., signature: _Optional[bytes] = ..., billed_wei: _Optional[bytes] = ..., tolerance: _Optional[int] = ...) -> None: ...

class SignedReceipt(_message.Message):
    __slots__ = ("seq", "position", "tokens", "outputs", "in_root", "out_root", "previous", "issued", "signature")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    IN_ROOT_FIELD_NUMBER: _ClassVar[int]
    OUT_ROOT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    position: int
    tokens: int
    outputs: int
    in_root: bytes
    out_root: bytes
    previous: bytes
    issued: int
    signature: bytes
    def __init__(self, seq: _Optional[int] = ..., position: _Optional[int] = ..., tokens: _Optional[int] = ..., outputs: _Optional[int] = ..., in_root: _Optional[bytes] = ..., out_root: _Optional[bytes] = ..., previous: _Optional[bytes] = ..., issued: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Testimony(_message.Message):
    __slots__ = ("witness", "verifier", "tail", "fingerprint", "job", "issued", "signature", "tolerance")
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    witness: bytes
    verifier: str
    tail: bool
    fingerprint: bytes
    job: bytes
    issued: int
    signature: bytes
    tolerance: int
    def __init__(self, witness: _Optional[bytes] = ..., verifier: _Optional[str] = ..., tail: _Optional[bool] = ..., fingerprint: _Optional[bytes] = ..., job: _Optional[bytes] = ..., issued: _Optional[int] = ..., signature: _Optional[bytes] = ..., tolerance: _Optional[int] = ...) -> None: ...

class Rumour(_message.Message):
    __slots__ = ("operator", "peer", "session", "nonce", "channel_id", "model_id", "layer_start", "layer_stop", "wire_dtype", "profile", "receipt", "other", "testimony")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    LAYER_START_FIELD_NUMBER: _ClassVar[int]
    LAYER_STOP_FIELD_NUMBER: _ClassVar[int]
    WIRE_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    TESTIMONY_FIELD_NUMBER: _ClassVar[int]
    operator: bytes
    peer: str
    session: bytes
    nonce: bytes
    channel_id: bytes
    model_id: bytes
    layer_start: int
    layer_stop: int
    wire_dtype: WireDtype
    profile: bytes
    receipt: SignedReceipt
    other: SignedReceipt
    testimony: Testimony
    def __init__(self, operator: _Optional[bytes] = ..., peer: _Optional[str] = ..., session: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., channel_id: _Optional[bytes] = ..., model_id: _Optional[bytes] = ..., layer_start: _Optional[int] = ..., layer_stop: _Optional[int] = ..., wire_dtype: _Optional[_Union[WireDtype, str]] = ..., profile: _Optional[bytes] = ..., receipt: _Optional[_Union[SignedReceipt, _Mapping]] = ..., other: _Optional[_Union[SignedReceipt, _Mapping]] = ..., testimony: _Optional[_Union[Testimony, _Mapping]] = ...) -> None: ...
