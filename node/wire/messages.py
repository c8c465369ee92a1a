"""The messages of sessions as plain frozen objects. Recalls and audits have theirs in audit.py and records.py."""

from __future__ import annotations

import enum
from typing import Annotated

from hypercluster.market.money.voucher import ChannelDescriptor, Quote
from hypercluster.node.errors import ErrorCode, WireError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.bounds import MAX_FRAME, MAX_OPENING_FRAME, Length, Range, frame_bound, message
from hypercluster.node.wire.fields import (
    MAX_MESSAGE,
    Bytes16,
    CandidateCount,
    LayerStart,
    LayerStop,
    MaybePacked,
    MaybeRoot,
    Milliseconds,
    ModelId,
    Number,
    Position,
    Profile,
    Rows,
    Sentence,
    Signature,
    Tokens,
    Unix,
    Wei,
    Width,
    check_range,
)

INFER_PROTOCOL = "/hypercluster/infer/3.0.0"
ADVERT_PROTOCOL = "/hypercluster/advert/3.0.0"

REWIND = "rewind"
"""feature of providers that take a step at a position below what the session holds"""
CHAIN = "chain"
"""feature of providers that send rows on to the provider of the next layers, and take them from the one before"""
FLIGHT = "flight"
"""feature of providers that take steps while others of the same session are unanswered, over a direct connection"""
MOST_IN_FLIGHT = 8
"""steps of one session that are unanswered at most"""
FLYING_ROWS = 64
"""of a step that is sent while others may be unanswered, at most"""
BRANCH = "branch"
"""feature of providers at which a session may begin with a copy of what another one holds"""
MOST_INHERITED = 896
"""steps that such a session begins with: their receipts come in one answer"""
MOST_WAIT = 86_400.0
"""seconds that anybody is told to wait"""
MOST_PARKED = 86_400
"""seconds that a session is parked at most"""


class LinkState(enum.IntEnum):
    """How a provider's link to the provider after stands."""

    NONE = 0
    STANDS = 1
    BROKEN = 2
    """it could not be made, or is over"""


@message
class Open:
    """First message of a session, client to provider: what is wanted and the most it may cost."""

    session: Bytes16
    """16 random bytes"""
    model_id: ModelId
    """64 hex digits"""
    layer_start: LayerStart
    layer_stop: LayerStop
    channel: ChannelDescriptor
    wire_dtype: WireDtype
    capacity: Tokens
    """tokens the session may hold"""
    max_price_wei: Wei
    max_prompt_price_wei: Wei
    top_k: CandidateCount = 0
    """candidates wanted from the last stage"""
    resume: Annotated[bytes, Length(0, 16)] = b""
    """session of a stage of ours, 16 bytes, that is parked there and is to go on, or that a `branch` begins like; empty
    for a new one"""
    position: Position = 0
    """from which it is to go on, 1 or more; 0 for a new one"""
    max_cached_price_wei: Wei = 0
    ticket: Annotated[bytes, Length(0, 16)] = b""
    """16 random bytes by which the provider before is known when it brings rows; empty where none comes"""
    previous: Annotated[str, Length(0, 128)] = ""
    """its peer id"""
    branch: Annotated[int, Range(0, MOST_INHERITED)] = 0
    """0, or how many of the steps of the stage `resume` are the first ones of a stage of its own as well"""

    def __post_init__(self) -> None:
        check_range(self.layer_start, self.layer_stop)
        if self.branch and not self.resume:
            raise WireError("branch", "names no stage")
        if len(self.resume) != (16 if self.position else 0):
            raise WireError("resume", f"has {len(self.resume)} bytes, which is wrong here")
        if len(self.ticket) != (16 if self.previous else 0):
            raise WireError("ticket", f"has {len(self.ticket)} bytes, which is wrong here")

    def quote(
        self,
        channel_id: bytes,
        *,
        price_wei: int,
        prompt_price_wei: int,
        capacity: int,
        expires: int,
        cached_price_wei: int = 0,
        goes_on: bool = False,
    ) -> Quote:
        """The terms that an Accept of this opening freezes, as the provider's node key signs them; of the stage that
        was parked if that `goes_on`.
        """
        return Quote(
            session=self.resume if goes_on and not self.branch else self.session,
            model_id=bytes.fromhex(self.model_id),
            layer_start=self.layer_start,
            layer_stop=self.layer_stop,
            channel_id=channel_id,
            price_wei=price_wei,
            prompt_price_wei=prompt_price_wei,
            cached_price_wei=cached_price_wei,
            capacity=capacity,
            wire_dtype=int(self.wire_dtype),
            expires=expires,
        )


@message
class Step:
    """One step, client to provider, with the voucher that pays for everything up to and including it."""

    seq: Number
    position: Position
    """tokens of the session that count before this step"""
    rows: Rows
    cumulative_wei: Wei
    signature: Signature
    input: MaybePacked
    """packed rows: tokens at the first stage, activations in the wire dtype at later ones; empty where awaited"""
    all_outputs: bool = False
    awaited: Number = 0
    """0, or the number of the rows that come from the provider before; numbers of one session rise"""
    onward: Number = 0
    """0, or the number under which the rows of output go on to the provider after"""
    epoch: Number = 0
    """0 for a step that is sent alone; else others may be unanswered, and a Discard of this epoch or a later one drops
    it unless it has begun
    """

    def __post_init__(self) -> None:
        if bool(self.awaited) == bool(self.input):
            raise WireError("input", "is empty where rows are awaited, and only there")
        if self.epoch and self.rows > FLYING_ROWS:
            raise WireError("rows", f"is {self.rows}, and a step beside others has {FLYING_ROWS} at most")


@message
class Close:
    """The client is done with the session, for now if it is to be parked."""

    park: bool = False


@message
class Parked:
    """What became of a session that was to be parked."""

    seconds: Annotated[int, Range(0, MOST_PARKED)]
    """for which it stays, unless others need the room; 0: it is gone"""


@message
class Accept:
    """The provider takes the session at these prices; `quote_signature` is by its node key over the Quote."""

    price_wei: Wei
    prompt_price_wei: Wei
    capacity: Tokens
    expires: Unix
    quote_signature: Signature
    paid_wei: Wei
    """best voucher the provider holds for the channel, 0 if none"""
    paid_signature: Annotated[bytes, Length(0, 64)]
    """and its signature, 64 bytes, empty if there is none"""
    billed_wei: Wei
    """charged on the channel so far"""
    max_step_tokens: Rows
    width: Width
    nonce: Bytes16
    """16 random bytes of the provider, which name the stage together with Open.session"""
    profile: Profile
    """its backend profile, see node.engine.profile"""
    cached_price_wei: Wei = 0
    """for each token that a parked stage holds, due with its first step"""
    position: Position = 0
    """from which the parked stage goes on whose `nonce` this is; 0: a new stage, which holds nothing"""

    def __post_init__(self) -> None:
        if len(self.paid_signature) != (64 if self.paid_wei else 0):
            raise WireError("paid_signature", f"has {len(self.paid_signature)} bytes, which is wrong here")
        if frame_bound(self.max_step_tokens, self.width) > MAX_FRAME:
            raise WireError("max_step_tokens", "times width asks for frames larger than 64 MiB")


@message
class StepResult:
    """What a step gave, with the receipt for it."""

    seq: Number
    rows: Rows
    """of output"""
    billed_wei: Wei
    compute_ms: Milliseconds
    issued: Unix
    """as in the receipt"""
    receipt: Signature
    """of the step's receipt by the node key; both ends know the rest of it"""
    output: MaybePacked
    """packed rows: activations in the wire dtype, or at the last stage the candidates of the rows asked for; empty
    where they were forwarded"""
    waited_ms: Milliseconds = 0.0
    """the rest of the time that the provider held the step: checks, queue, ledger"""
    in_root: MaybeRoot = b""
    """of the rows of input, 32 bytes, where they were awaited"""
    out_root: MaybeRoot = b""
    """of the rows of output, 32 bytes, where they were forwarded"""
    link: LinkState = LinkState.NONE
    inherited: Annotated[bytes, Length(0, 64 * MOST_INHERITED)] = b""
    """with the first step of a branch: signatures of the receipts of the steps that it begins with, all `issued` now"""

    def __post_init__(self) -> None:
        if len(self.inherited) % 64:
            raise WireError("inherited", f"has {len(self.inherited)} bytes, not 64 for each receipt")
        for name, root in (("in_root", self.in_root), ("out_root", self.out_root)):
            if len(root) not in (0, 32):
                raise WireError(name, f"has {len(root)} bytes, not 32")
        if bool(self.output) == bool(self.out_root):
            raise WireError("output", "is empty where it was forwarded, and only there")


@message
class Error:
    """Why the provider refuses; the connection ends after it."""

    code: ErrorCode
    message: Sentence
    billed_wei: Wei = 0
    wait_ms: Milliseconds = 0.0
    """after which asking again is worth it; 0 where that is not known"""

    @classmethod
    def of(cls, code: ErrorCode, message: str, billed_wei: int = 0, *, wait: float = 0.0) -> Error:
        """The same with the message cut to what fits; `wait` in seconds, a day at most."""
        return cls(code, message[:MAX_MESSAGE], billed_wei, 1000 * min(max(0.0, wait), MOST_WAIT))


@message
class SignedAdvert:
    """An encoded advert and its signature, unverified: see node.network.adverts."""

    body: Annotated[bytes, Length(1, MAX_OPENING_FRAME // 2)]
    signature: Signature
