"""What a request leaves in the hand of whoever paid for it: receipts, vouchers and quotes in one file.

The file has two lines of JSON. The first holds everything, with a base64 text for the steps of each session; the second
the signature of the payer's session key over the bytes of the first. What it takes to check it is in it: neither the
network nor the chain is asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import coincurve

from hypercluster.market.errors import InvalidSignature, MarketError
from hypercluster.market.money.signing import address_of, keccak, recover_compact, sign_compact
from hypercluster.market.money.voucher import ChannelDescriptor, Quote, VoucherDomain
from hypercluster.market.trust.receipt import NO_RECEIPT, DisputeDomain, Receipt
from hypercluster.node.errors import NodeError
from hypercluster.node.rows import WireDtype
from hypercluster.node.wire.records import StageRecord

FORMAT = 2
MOST_BYTES = 2**28
MOST_SESSIONS = 4096
_STEP = struct.Struct(">IIIIQ32s32s64s12s64s")
_DOMAIN = b"HyperCluster receipts of a request\n"


class NoBundle(NodeError):
    """A file is no bundle of receipts, or there is none."""


@dataclass(frozen=True, slots=True)
class SignedStep:
    """One step that was paid and answered: the fields of its receipt (see market.trust.receipt), and its voucher."""

    seq: int
    position: int
    tokens: int
    outputs: int
    issued: int
    in_root: bytes
    out_root: bytes
    receipt: bytes
    """signature of the provider's node key, 64 bytes"""
    cumulative_wei: int
    voucher: bytes
    """signature of the payer's session key, 64 bytes"""


def pack_step(receipt: Receipt, signature: bytes, cumulative_wei: int, voucher: bytes) -> bytes:
    """A step as a session keeps it, with the signature of its receipt and with its voucher."""
    return _STEP.pack(
        receipt.seq,
        receipt.position,
        receipt.tokens,
        receipt.outputs,
        receipt.issued,
        receipt.in_root,
        receipt.out_root,
        signature,
        cumulative_wei.to_bytes(12),
        voucher,
    )


@dataclass(frozen=True, kw_only=True)
class PaidSession:
    """One session with one provider. `packed` holds its steps, see `pack_step`; `risked_wei` is what the provider may
    claim for a step without a good answer.
    """

    record: StageRecord
    channel: ChannelDescriptor
    quote: Quote
    quote_signature: bytes
    packed: bytes
    cost_wei: int
    risked_wei: int
    first_seq: int = 0
    """of the steps here; above 0 where the session had served an earlier request"""
    previous: bytes = NO_RECEIPT
    """hash of the receipt before them, 32 bytes"""
    aside: int = 0
    """so many of its first steps were taken while it stood by for another: over rows that had come in several"""

    @cached_property
    def steps(self) -> tuple[SignedStep, ...]:
        """Its steps in order."""
        steps = []
        for (
            seq,
            position,
            tokens,
            outputs,
            issued,
            in_root,
            out_root,
            receipt,
            paid,
            voucher,
        ) in _STEP.iter_unpack(self.packed):
            cumulative = int.from_bytes(paid)
            steps.append(
                SignedStep(
                    seq, position, tokens, outputs, issued, in_root, out_root, receipt, cumulative, voucher
                )
            )
        return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """All sessions of a request in the order in which they were opened, along the layers of each path."""

    request_id: str
    model_id: str
    made: int
    """unix seconds (UTC)"""
    cost_wei: int
    risked_wei: int
    payments: VoucherDomain
    """of the channels"""
    disputes: DisputeDomain
    """of the receipts"""
    sessions: tuple[PaidSession, ...]
    begins: int = 0
    """the first layer that providers were asked for; by the payer's word it computed those before itself"""


def write_bundle(bundle: Bundle, key: coincurve.PrivateKey) -> bytes:
    """The bundle as a file, signed with the session key that signed its vouchers."""
    body = json.dumps(_document(bundle), separators=(",", ":"), sort_keys=True).encode()
    seal = {"signature": sign_compact(key, _digest(body)).hex(), "signer": address_of(key)}
    return body + b"\n" + json.dumps(seal, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def read_bundle(data: bytes) -> tuple[Bundle, str]:
    """The bundle in a file, and who signed it as it is: an address, or "" for nobody. Says nothing of what is in it.

    Raises:
        NoBundle: it is none, or is not whole.
    """
    if len(data) > MOST_BYTES:
        raise NoBundle(f"The file has more than {MOST_BYTES} bytes: it is no bundle of receipts.")
    body, _, rest = data.partition(b"\n")
    try:
        bundle = _bundle(json.loads(body))
        seal = json.loads(rest)
        if rest != json.dumps(seal, separators=(",", ":"), sort_keys=True).encode() + b"\n":
            raise ValueError("its last line is not as it was written")
        signer, signature = str(seal["signer"]), bytes.fromhex(seal["signature"])
        if sorted(seal) != ["signature", "signer"] or signature.hex() != seal["signature"]:
            raise ValueError("its last line is not as it was written")
    except RecursionError:
        raise NoBundle("The file is no bundle of receipts: it is nested too deep.") from None
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        MarketError,
        NodeError,
    ) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NoBundle(f"The file is no bundle of receipts, or was cut or changed: {what[:200]}.") from None
    try:
        found = recover_compact(_digest(body), signature)
    except InvalidSignature:
        found = ""
    return bundle, found if found == signer else ""


def _digest(body: bytes) -> bytes:
    return keccak(_DOMAIN + keccak(body))


def _document(bundle: Bundle) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "request": bundle.request_id,
        "model": bundle.model_id,
        "made": bundle.made,
        "bill": {"cost_wei": str(bundle.cost_wei), "risked_wei": str(bundle.risked_wei)},
        "chain_id": bundle.payments.chain_id,
        "channels": bundle.payments.contract,
        "cases": bundle.disputes.contract,
        **({"begins": bundle.begins} if bundle.begins else {}),
        "sessions": [
            {
                "session": each.record.session.hex(),
                "nonce": each.record.nonce.hex(),
                "channel": {
                    "payer": each.channel.payer,
                    "payee": each.channel.payee,
                    "signer": each.channel.signer,
                    "salt": each.channel.salt.hex(),
                },
                "channel_id": each.record.channel_id.hex(),
                "layers": [each.record.layer_start, each.record.layer_stop],
                "wire_dtype": int(each.record.wire_dtype),
                "profile": each.record.profile,
                "peer": each.record.peer,
                "client": each.record.client,
                "top_k": each.record.top_k,
                "price_wei": str(each.quote.price_wei),
                "prompt_price_wei": str(each.quote.prompt_price_wei),
                "capacity": each.quote.capacity,
                "expires": each.quote.expires,
                "cached_price_wei": str(each.quote.cached_price_wei),
                "quote": each.quote_signature.hex(),
                "first_seq": each.first_seq,
                "previous": each.previous.hex(),
                "cost_wei": str(each.cost_wei),
                "risked_wei": str(each.risked_wei),
                **({"aside": each.aside} if each.aside else {}),
                "steps": base64.b64encode(each.packed).decode(),
            }
            for each in bundle.sessions
        ],
    }


def _bundle(told: dict[str, Any]) -> Bundle:
    if told["format"] != FORMAT:
        raise ValueError(f"its format is {told['format']!r}, this program reads {FORMAT}")
    chain_id = _number(told["chain_id"])
    if not 0 <= chain_id < 1 << 256:
        raise ValueError(f"{chain_id} is the number of no chain")
    payments = VoucherDomain(_text(told["channels"]), chain_id)
    if len(told["sessions"]) > MOST_SESSIONS:
        raise ValueError(f"it has more than {MOST_SESSIONS} sessions")
    if (begins := _number(told.get("begins", 0))) < 0:
        raise ValueError(f"{begins} is no layer")
    return Bundle(
        request_id=_text(told["request"]),
        model_id=_text(told["model"]),
        made=_number(told["made"]),
        cost_wei=int(_text(told["bill"]["cost_wei"])),
        risked_wei=int(_text(told["bill"]["risked_wei"])),
        payments=payments,
        disputes=DisputeDomain(_text(told["cases"]), payments.chain_id),
        sessions=tuple(_session(each, _text(told["model"])) for each in told["sessions"]),
        begins=begins,
    )


def _session(told: dict[str, Any], model_id: str) -> PaidSession:
    start, stop = told["layers"]
    record = StageRecord(
        session=bytes.fromhex(told["session"]),
        nonce=bytes.fromhex(told["nonce"]),
        channel_id=bytes.fromhex(told["channel_id"]),
        model_id=model_id,
        layer_start=_number(start),
        layer_stop=_number(stop),
        wire_dtype=WireDtype(told["wire_dtype"]),
        profile=_text(told["profile"]),
        peer=_text(told["peer"]),
        client=_text(told["client"]),
        top_k=_number(told["top_k"]),
    )
    channel = told["channel"]
    previous = bytes.fromhex(_text(told["previous"]))
    if len(previous) != len(NO_RECEIPT):
        raise ValueError(f"a hash has {len(previous)} bytes")
    if (aside := _number(told.get("aside", 0))) < 0:
        raise ValueError(f"{aside} is no number of steps")
    return PaidSession(
        record=record,
        channel=ChannelDescriptor(
            _text(channel["payer"]),
            _text(channel["payee"]),
            _text(channel["signer"]),
            bytes.fromhex(channel["salt"]),
        ),
        quote=Quote(
            session=record.session,
            model_id=bytes.fromhex(model_id),
            layer_start=record.layer_start,
            layer_stop=record.layer_stop,
            channel_id=record.channel_id,
            price_wei=int(_text(told["price_wei"])),
            prompt_price_wei=int(_text(told["prompt_price_wei"])),
            capacity=_number(told["capacity"]),
            wire_dtype=int(record.wire_dtype),
            expires=_number(told["expires"]),
            cached_price_wei=int(_text(told["cached_price_wei"])),
        ),
        quote_signature=bytes.fromhex(told["quote"]),
        packed=_packed(told["steps"]),
        cost_wei=int(_text(told["cost_wei"])),
        risked_wei=int(_text(told["risked_wei"])),
        first_seq=_number(told["first_seq"]),
        previous=previous,
        aside=aside,
    )


def _packed(text: str) -> bytes:
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its steps cannot be read: {error}") from None
    if len(packed) % _STEP.size:
        raise ValueError("a step is cut off")
    return packed


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def by_path(sessions: Sequence[PaidSession], begins: int) -> list[list[PaidSession]]:
    """The sessions cut into paths, each of which begins at layer `begins`."""
    paths: list[list[PaidSession]] = []
    for each in sessions:
        if each.record.layer_start == begins or not paths:
            paths.append([])
        paths[-1].append(each)
    return paths
